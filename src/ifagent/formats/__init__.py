"""Bytes to interfaces and states, and back: the wire formats."""
