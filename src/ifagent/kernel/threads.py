"""Work off the event loop: what blocks, and what takes long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_AT_A_TIME: Final = 64
"""Messages that are understood, in less than a millisecond, between two pauses."""

_PAUSE: Final = 0.0001
"""Seconds that a thread asks to sleep in order to let others go first."""


async def run_in_thread(work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
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


def pause_after(count: int) -> None:
    """Pause now and then in something long, in which the event loop gets on: both hold the interpreter's one lock.

    ``count`` is how much is done, in things that take 10 us or so.
    """
    if count % _AT_A_TIME == 0:
        time.sleep(_PAUSE)
