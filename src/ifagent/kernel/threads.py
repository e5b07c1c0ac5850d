"""Work outside the event loop: what blocks, and what takes long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_AT_A_TIME: Final = 64
"""Messages that are parsed, in less than a millisecond, between two pauses."""

_PAUSE: Final = 0.0001
"""Seconds that a thread sleeps to let others run."""


async def run_in_thread(work: Callable[[], T], *, undo: Callable[[T], None] | None = None) -> T:
    """Do work in a thread and wait for its end even if cancelled, so that no thread uses what is then closed.

    ``undo`` is called with the result if the wait was cancelled, as nobody receives the result then.
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
    """Pause regularly in long work so that the event loop can run: both need the interpreter lock.

    ``count`` is how many steps of some 10 us have been done.
    """
    if count % _AT_A_TIME == 0:
        time.sleep(_PAUSE)
