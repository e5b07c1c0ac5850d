"""What a container engine, docker or podman, says happens to its containers: a line of JSON an event, without end."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio

from ifagent.errors import SourceLost
from ifagent.formats.strict_json import BrokenJson, read_json

MAX_EVENT: Final = 2**18
"""Most bytes of one event, which carries all labels of its container; a longer one may have been about any."""

REST_FACTOR: Final = 4
"""Reading of events is followed by a pause so many times as long: an engine may tell of them without end."""

READ_TIME: Final = 0.005
"""Seconds after which a pause is made although more has been received: many short events come in one read."""

CONTAINER_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")
"""What the id of a container looks like."""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to a container at ``time`` (Unix time in ns, 0 if unknown).

    ``id`` is empty for an event that could not be read: it may have been about any container.
    """

    id: str = ""
    time: int = 0


class EventStream:
    """The events of one connection to ``socket``; ``read`` returns the bytes that come next, none at the end.

    ``read_time`` is for how many seconds the event loop is held at most, but for one event.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]], socket: str, *, read_time: float = READ_TIME) -> None:
        self._read = read
        self._socket = socket
        self._read_time = read_time
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._pause = 0.0

    async def next(self) -> list[ContainerEvent]:
        """Wait for more to happen, and return it oldest first. Raises :class:`SourceLost` when the stream ends.

        The engine is read of no faster than leaves time for everything else.
        """
        while True:
            await anyio.sleep(self._pause)
            chunk = b"" if self._lines else await self._read()
            if not (self._lines or chunk):
                raise SourceLost(self._socket, "the engine ended the events")
            began = time.monotonic()
            if chunk:
                self._split(chunk)
            events = self._some(began + self._read_time)
            self._pause = REST_FACTOR * (time.monotonic() - began)
            if events:
                return events

    def _split(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(lines)
        if len(self._rest) > MAX_EVENT:
            # What follows of this event cannot be read, and says so then.
            self._rest = b""

    def _some(self, until: float) -> list[ContainerEvent]:
        """Return what the next lines tell; more is read the next time where it takes too long."""
        events: list[ContainerEvent] = []
        while self._lines:
            line = self._lines.popleft()
            if line.strip() and (event := read_event(line)):
                events.append(event)
            if time.monotonic() >= until:
                break
        return events


def read_event(line: bytes) -> ContainerEvent | None:
    """Read an event; ``None`` if nothing of interest happened. Never raises."""
    if len(line) > MAX_EVENT:
        return ContainerEvent()
    try:
        event = read_json(line)
    except BrokenJson:
        return ContainerEvent()
    match event:
        case {"Type": str(kind)} if kind != "container":
            return None
        # Names of commands follow a colon, so look at the beginning; health checks come every few seconds.
        case {"Action": str(action)} if action.startswith(("exec", "health_status")):
            return None
        case {"Actor": {"ID": str(id)}} if CONTAINER_ID.fullmatch(id):
            time = event.get("timeNano")
            return ContainerEvent(id, time if isinstance(time, int) else 0)
    return ContainerEvent()
