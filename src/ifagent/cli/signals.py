"""Ends commands that run until a signal."""

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
"""Seconds after a signal within which the process exits, even if something hangs."""

_LAST_TIME: Final = 0.2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP is sent when a terminal is closed, and by users who expect a reload; a restart does the same."""


@contextmanager
def cancelled_on_signal(scope: anyio.CancelScope, *, end_within: float | None = None) -> Iterator[None]:
    """Cancel ``scope`` at SIGTERM, SIGINT or SIGHUP while the block lasts; for the main thread, in an event loop.

    With ``end_within``, the process exits with 0 that many seconds after the signal, even if its event loop is blocked
    or threads hang: signals are handled in a thread of their own. If SIGHUP was ignored before, it stays ignored.
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
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(scope.cancel)
        if end_within is not None:
            time.sleep(end_within)
            _leave()

    # The signal's number is written to the socket, whichever thread it is delivered to; the handlers do nothing.
    for number in caught:
        signal.signal(number, lambda *_: None)
    earlier = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    # Lives as long as the process, not the block: the process may hang after the block.
    threading.Thread(target=end, name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(earlier)
        for number in caught:
            signal.signal(number, before[number])
        wakeup.close()


def _leave() -> None:
    """Exit immediately, without waiting for other threads."""
    hanging = ", ".join(thread.name for thread in threading.enumerate() if not thread.daemon)
    # In a thread, because a hanging thread may hold a lock that logging needs.
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
    """Cancel ``scope`` when stdout is a pipe and its reader closes it, even while there is nothing to write."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    if stat.S_ISFIFO(os.fstat(output).st_mode):
        # The write end of a pipe becomes "readable" only when there is no reader any more.
        await anyio.wait_readable(output)
        scope.cancel()
