"""Reports to the service manager: systemd's protocol of ``sd_notify`` and ``sd_watchdog_enabled``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

import anyio

from ifagent.statistics import Statistics
from ifagent.visible import visible

MOST_WAIT = 0.5
"""Most seconds to wait for a busy manager, as this blocks the event loop."""


def notify(message: str, *, wait: bool = True) -> None:
    """Send a message such as ``READY=1`` if a service manager wants notifications; errors are ignored.

    With ``wait`` false, the message is dropped if the manager is too busy to receive it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.settimeout(MOST_WAIT if wait else 0)
        # An address that begins with @ is an abstract socket.
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        manager.send(message.encode(errors="backslashreplace"))


async def run_notify(statistics: Callable[[], Statistics], *, status_interval: float = 5.0) -> None:
    """Notify the service manager until cancelled; return immediately if there is none.

    Looks at :func:`summary` every ``status_interval`` seconds and sends it as ``STATUS`` when it has changed. Sends
    ``WATCHDOG=1`` at half of the interval that the manager expects, as long as the agent's loop makes progress.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    async with anyio.create_task_group() as group:
        group.start_soon(_send_status, statistics, status_interval)
        interval = watchdog_interval()
        if interval is not None:
            group.start_soon(_feed_watchdog, statistics, interval / 2)


def watchdog_interval() -> float | None:
    """Return the watchdog's time-out in seconds; ``None`` if this process is not watched."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
    if not meant or not microseconds.isascii() or not microseconds.isdecimal() or not int(microseconds):
        return None
    return int(microseconds) / 1_000_000


def summary(now: Statistics) -> str:
    """Return a line with the agent's condition: what it waits for, or how many interfaces are in which state."""
    if now.trouble:
        return now.trouble
    if not now.ready:
        waiting = [_with_problem(source.name, source.problem) for source in now.sources if not source.synced]
        return f"waiting for {', '.join(waiting)}" if waiting else "initial reconciliation in progress"
    states = [f"{count} {state.lower()}" for state, count in now.interfaces.items() if count]
    troubled = [_with_problem(source.name, source.problem) for source in now.sources if source.problem]
    return (", ".join(states) or "no interfaces") + "".join(f"; no connection to {source}" for source in troubled)


def _with_problem(source: str, problem: str) -> str:
    return " ".join(f"{source} ({problem})".split()) if problem else source


async def _send_status(statistics: Callable[[], Statistics], interval: float) -> None:
    sent = ""
    while True:
        status = summary(statistics())
        if status != sent:
            notify(f"STATUS={visible(status)}", wait=False)
            sent = status
        await anyio.sleep(interval)


async def _feed_watchdog(statistics: Callable[[], Statistics], interval: float) -> None:
    while True:
        if statistics().alive:
            notify("WATCHDOG=1", wait=False)
        await anyio.sleep(interval)
