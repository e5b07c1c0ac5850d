"""Outlets: where states are published."""
