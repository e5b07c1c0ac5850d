"""The standard streams, whatever the process was started with: closed ones, narrow encodings, readers that hang."""

from __future__ import annotations

import atexit
import io
import os
import sys
from contextlib import suppress
from typing import Final

from ifagent.cli.log_writer import LogWriter
from ifagent.visible import visible

FAREWELL_TIME: Final = 1.0
"""Seconds that whoever reads stderr may take to read what is left when the process ends."""

_MOST_OF_A_LINE: Final = 64 * 1024


class LineStream(io.TextIOBase):
    """Text to stderr, line by line: whoever prints there waits for nobody, and cannot steer a terminal."""

    def __init__(self, writer: LogWriter, descriptor: int, encoding: str) -> None:
        self.writer = writer
        self._descriptor = descriptor
        self._encoding = encoding
        self._part = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return self._encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What the encoding lacks is escaped."""
        return "backslashreplace"

    def fileno(self) -> int:
        """Return where it ends up."""
        return self._descriptor

    def isatty(self) -> bool:
        """Tell whether that is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Tell that it is."""
        return True

    def write(self, text: str) -> int:
        """Take text; whole lines are handed on."""
        whole, feed, self._part = (self._part + text).rpartition("\n")
        if len(self._part) > _MOST_OF_A_LINE:
            whole, feed, self._part = self._part, "\n", ""
        if feed:
            self.writer.put(self.encoded(visible(whole + feed, keep="\n\t")))
        return len(text)

    def encoded(self, text: str) -> bytes:
        """Return text in the stream's encoding."""
        return text.encode(self._encoding, "backslashreplace")


def prepare() -> None:
    """Make the standard streams such that nothing goes wrong with them.

    What is closed leads nowhere from here on, and no socket gets its number. What an encoding lacks is escaped. Lines
    to stderr are written by a thread.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 stays open
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 likewise
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    writer = LogWriter(2)
    sys.stderr = LineStream(writer, 2, encoding)
    atexit.register(writer.flush, FAREWELL_TIME)


def flush(within: float) -> None:
    """Wait until what was printed is written, or for some seconds."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    if isinstance(sys.stderr, LineStream):
        sys.stderr.writer.flush(within)
