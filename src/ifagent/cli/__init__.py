"""The command ``ifagent``. Nothing is imported before it is needed, so that ``--help`` is quick.

Exit codes: 0 success, 1 failure, 2 wrong usage.
"""

from __future__ import annotations

import os


def main() -> None:
    """Run the command with the arguments of the process, and exit."""
    # grpc reads this when it is imported; its fork handlers are of no use to a process that never forks.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    from ifagent.cli import streams

    streams.prepare()
    from ifagent.cli.app import app

    app(prog_name="ifagent")
