"""``python -m ifagent`` is the command ``ifagent``."""

from ifagent.cli import main

main()
