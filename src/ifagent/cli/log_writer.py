"""Writes lines to a file descriptor in a thread of its own, so that the process never waits for the reader.

While a pipe is full, a terminal is stopped or a disk hangs, up to :data:`MAX_WAITING` bytes of lines are buffered and
further ones dropped; the number of dropped lines is written once there is room again.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

MAX_WAITING: Final = 1024 * 1024
"""Most bytes that are buffered."""


def dropped(count: int) -> str:
    """Return a message with the number of dropped lines."""
    return f"{count} log {'line was' if count == 1 else 'lines were'} dropped, stderr was not read"


class LogWriter:
    """Writes to ``descriptor``.

    ``say_dropped`` returns the line with the number of dropped lines. ``tick`` is called in the thread after every
    line, and every ``tick_interval`` seconds as long as it returns true. Both may be replaced.
    """

    def __init__(self, descriptor: int, *, tick_interval: float = 5.0) -> None:
        self.say_dropped: Callable[[int], bytes] = lambda count: f"{dropped(count)}\n".encode()
        self.tick: Callable[[], bool] = lambda: False
        self._descriptor = descriptor
        self._tick_interval = tick_interval
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._dropped = 0
        self._writing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._held = False

    def hold(self) -> None:
        """Start no thread until :meth:`release` or :meth:`flush`: capabilities are dropped per thread."""
        self._held = True

    def release(self) -> None:
        """Start writing what is buffered."""
        with self._changed:
            self._held = False
            self._begin()

    def put(self, line: bytes) -> None:
        """Queue one or several lines; never blocks."""
        with self._changed:
            if self._waiting + len(line) > MAX_WAITING:
                self._dropped += line.count(b"\n")
                return
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()
            self._begin()

    def flush(self, within: float) -> bool:
        """Wait until everything is written, ``within`` seconds at most; return whether it is."""
        self.release()
        with self._changed:
            return self._changed.wait_for(lambda: not (self._lines or self._writing), within)

    def _begin(self) -> None:
        if self._thread is None and self._lines and not self._held:
            # A daemon thread, because a write may block for ever.
            self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        wanted = True
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines, self._tick_interval if wanted else None)
                line = self._lines.popleft() if self._lines else b""
                self._writing = bool(line)
            written = self._write(line)
            with self._changed:
                self._waiting -= len(line)
                count = self._dropped if written and line else 0
                if not written:
                    self._dropped += line.count(b"\n")
            if count:
                self._write_dropped(count)
            wanted = self.tick()

    def _write_dropped(self, count: int) -> None:
        if self._write(self.say_dropped(count)):
            with self._changed:
                self._dropped -= count

    def _write(self, data: bytes) -> bool:
        """Write all data, however long that takes; return whether it succeeded."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # another process that shares the descriptor has made it non-blocking
                select.select([], [self._descriptor], [])
            except (OSError, ValueError):
                return False
        return True
