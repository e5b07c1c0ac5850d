"""ifagent keeps Linux network interfaces as their owners declared them."""
