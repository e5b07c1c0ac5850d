"""Tell a service manager how the service is (the protocol of ``sd_notify`` and ``sd_watchdog_enabled``, systemd's)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

import anyio

from ifagent.statistics import Statistics
from ifagent.visible import visible

MOST_WAIT = 0.5
"""Seconds that a manager which is too busy is waited for, since nothing else is done meanwhile."""

STATUS_INTERVAL = 5.0
"""Seconds between two looks at whether there is something new to say."""


def notify(message: str, *, wait: bool = True) -> None:
    """Send a message such as ``READY=1`` if a service manager asked for it; silent when it cannot be sent.

    With ``wait`` false a manager that is too busy to take it misses it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.settimeout(MOST_WAIT if wait else 0)
        # An address that begins with @ is in the abstract namespace.
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.send(message.encode(errors="backslashreplace"))


async def keep_informed(statistics: Callable[[], Statistics]) -> None:
    """Keep the service manager informed until cancelled; return at once if there is none.

    ``STATUS`` has a line of :func:`summary` whenever it changes. ``WATCHDOG=1`` is sent at half of the interval that
    the manager wants, as long as the agent's loop turns.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_tell_status, statistics)
        interval = watchdog_interval()
        if interval is not None:
            group.start_soon(_feed_watchdog, statistics, interval / 2)


def watchdog_interval() -> float | None:
    """Return the seconds after which a silent service is taken to hang; ``None`` if nobody watches this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
    if not meant or not microseconds.isascii() or not microseconds.isdecimal() or not int(microseconds):
        return None
    return int(microseconds) / 1_000_000


def summary(now: Statistics) -> str:
    """Say in one line how the agent is: what it waits for, or how many interfaces are in which state."""
    if now.trouble:
        return now.trouble
    if not now.ready:
        waiting = [_with_problem(source.name, source.problem) for source in now.sources if not source.synced]
        return f"waiting for {', '.join(waiting)}" if waiting else "initial reconciliation in progress"
    states = [f"{count} {state.lower()}" for state, count in now.interfaces.items() if count]
    unheard = [_with_problem(source.name, source.problem) for source in now.sources if source.problem]
    return (", ".join(states) or "no interfaces") + "".join(f"; no connection to {source}" for source in unheard)


def _with_problem(source: str, problem: str) -> str:
    return " ".join(f"{source} ({problem})".split()) if problem else source


async def _tell_status(statistics: Callable[[], Statistics]) -> None:
    told = ""
    while True:
        status = summary(statistics())
        if status != told:
            notify(f"STATUS={visible(status)}", wait=False)
            told = status
        await anyio.sleep(STATUS_INTERVAL)


async def _feed_watchdog(statistics: Callable[[], Statistics], interval: float) -> None:
    while True:
        if statistics().alive:
            notify("WATCHDOG=1", wait=False)
        await anyio.sleep(interval)
