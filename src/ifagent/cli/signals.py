"""How a command that goes on until it is told otherwise ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import anyio

from ifagent.cli import streams
from ifagent.log import log

END_TIME: Final = 2.5
"""Seconds within which a process that is told to end does, whatever hangs in it."""

_LAST_TIME: Final = 0.2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP comes from a terminal that is closed, and from those who mean by it what a restart does."""


@contextmanager
def cancelled_on_signal(scope: anyio.CancelScope, *, end_within: float | None = None) -> Iterator[None]:
    """Have ``scope`` cancelled at SIGTERM, SIGINT or SIGHUP while the block lasts; on the main thread, in a loop.

    With ``end_within``, the process ends so many seconds after the signal, with 0, even if its event loop is blocked or
    threads that it would wait for hang: a thread of its own hears the signals. A SIGHUP that is ignored stays so.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    caught = [number for number, action in before.items() if action is not signal.SIG_IGN or number != signal.SIGHUP]
    heard, wakeup = socket.socketpair()
    wakeup.setblocking(False)  # noqa: FBT003 socket's signature

    def end() -> None:
        with heard:
            while (number := heard.recv(1)) and number[0] not in caught:
                pass
        if not number:
            return
        with suppress(RuntimeError):  # the loop has ended by itself
            loop.call_soon_threadsafe(scope.cancel)
        if end_within is not None:
            time.sleep(end_within)
            _leave()

    # Whichever thread a signal is delivered to, its number is written there; the handlers have nothing to do.
    for number in caught:
        signal.signal(number, lambda *_: None)
    earlier = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    # Ends with the process, not with the block: what hangs may be met after it.
    threading.Thread(target=end, name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number in caught:
            signal.signal(number, before[number])
        wakeup.close()


def _leave() -> None:
    """End the process at once, without waiting for its threads."""
    hanging = ", ".join(thread.name for thread in threading.enumerate() if not thread.daemon)
    # In a thread, since whoever hangs may hold a lock that logging needs.
    last = threading.Thread(
        target=log.warning,
        args=["shutdown timed out, exiting without waiting"],
        kwargs={"threads": hanging},
        daemon=True,
    )
    last.start()
    last.join(_LAST_TIME)
    streams.flush(_LAST_TIME)
    os._exit(0)


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
