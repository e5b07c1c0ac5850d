"""Where states go."""
