"""Blocking work off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


async def off_loop(work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
    """Do work in a thread and wait for its end whoever cancels, so that no thread uses what is closed.

    ``undo`` is done with the result if the wait was cancelled, and so nobody will have it.
    """
    done: list[T] = []
    failed: list[Exception] = []

    async def wait() -> None:
        try:
            done.append(await anyio.to_thread.run_sync(work))
        except Exception as error:  # noqa: BLE001 raised again below, without the group that a task would put around it
            failed.append(error)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
    except BaseException:
        if done and undo is not None:
            undo(done[0])
        raise
    if failed:
        raise failed[0]
    return done[0]
