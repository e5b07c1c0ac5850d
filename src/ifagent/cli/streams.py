"""Makes the standard streams safe: closed descriptors, limited encodings, readers that hang."""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import suppress
from typing import Final

from ifagent.cli.log_writer import LogWriter
from ifagent.visible import visible

FLUSH_TIMEOUT: Final = 1.0
"""Seconds to wait at exit until the rest of stderr is written."""

_MOST_OF_A_LINE: Final = 64 * 1024


class LineStream(io.TextIOBase):
    """A text stream for stderr that writes whole lines, never blocks, and escapes control characters."""

    def __init__(self, writer: LogWriter, descriptor: int, encoding: str) -> None:
        self.writer = writer
        self._descriptor = descriptor
        self._encoding = encoding
        self._part = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Characters that the encoding lacks are escaped."""
        return "backslashreplace"

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, text: str) -> int:
        """Buffer text, and pass on whole lines."""
        whole, feed, self._part = (self._part + text).rpartition("\n")
        if len(self._part) > _MOST_OF_A_LINE:
            whole, feed, self._part = self._part, "\n", ""
        if feed:
            self.writer.put(self.encoded(visible(whole + feed, keep="\n\t")))
        return len(text)

    def encoded(self, text: str) -> bytes:
        """Encode text in the stream's encoding."""
        return text.encode(self._encoding, "backslashreplace")


def prepare() -> None:
    """Make the standard streams safe to use.

    Closed descriptors are opened on ``/dev/null``, so that no socket gets their numbers. Characters that an encoding
    lacks are escaped. Lines to stderr are written by a thread.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 stays open
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 likewise
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    writer = LogWriter(2)
    sys.stderr = LineStream(writer, 2, encoding)
    atexit.register(writer.flush, FLUSH_TIMEOUT)


def flush(within: float) -> None:
    """Wait until everything printed is written, ``within`` seconds at most."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    if isinstance(sys.stderr, LineStream):
        sys.stderr.writer.flush(within)
