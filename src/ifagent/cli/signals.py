"""How a command that goes on until it is told otherwise ends."""

from __future__ import annotations

import os
import signal
import stat
import sys

import anyio
from anyio.abc import TaskStatus


async def cancel_on_signal(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Cancel ``scope`` at SIGINT or SIGTERM; started once both are caught."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return


async def cancel_on_closed_stdout(scope: anyio.CancelScope) -> None:
    """Cancel ``scope`` when stdout is a pipe and its reader goes away, even while there is nothing to write."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    if stat.S_ISFIFO(os.fstat(output).st_mode):
        # The writing end of a pipe becomes "readable" only by the error that it has no reader.
        await anyio.wait_readable(output)
        scope.cancel()
