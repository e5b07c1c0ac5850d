"""Stores: where interfaces are declared, and where their states are published."""
