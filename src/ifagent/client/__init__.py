"""How other programs talk to an agent: through its store."""
