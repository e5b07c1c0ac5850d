"""A FUSE file system that stops answering when it is told to: what a dead share is to whoever touches it.

It has one directory with a symbolic link ``link`` to where the test wants, and a file ``file.yaml`` with a text of the
test's. Once it hangs, whoever asks it anything waits in the kernel, and not even SIGKILL ends him.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import pytest

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_ATTRIBUTES: Final = struct.Struct("=QQQQQQIIIIIIIIII")
_ROOT, _LINK, _FILE = 1, 2, 3
_LOOKUP, _FORGET, _INIT, _INTERRUPT, _FORGETS = 1, 2, 26, 36, 42
_NAMES: Final = {b"link": _LINK, b"file.yaml": _FILE}


class HangingMount:
    """The file system, mounted at ``place`` until the context is left; skips the test where that is not possible."""

    def __init__(self, place: Path, *, target: str = "/", text: str = "") -> None:
        self.place = place
        self._target, self._text, self._control = (place.with_name(f"{place.name}.{what}") for what in "tcx")
        self._target.write_text(target)
        self._text.write_text(text)
        self._control.write_text("")

    def __enter__(self) -> Self:
        self.place.mkdir(exist_ok=True)
        arguments = (str(path) for path in (self.place, self._target, self._text, self._control))
        self._server = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._server.stdout
        if (said := self._server.stdout.readline().strip()) != "mounted":
            self.__exit__()
            pytest.skip(f"no FUSE file system can be mounted: {said}")
        return self

    def __exit__(self, *exc_info: object) -> None:
        # Whoever waits is let go when nobody serves it any more.
        self._server.kill()
        self._server.wait()
        assert self._server.stdout
        self._server.stdout.close()
        subprocess.run(["umount", "-l", self.place], check=False, capture_output=True)

    def hang(self) -> None:
        """Answer nothing from now on."""
        self._control.write_text("hang")

    def answer(self) -> None:
        """Answer what is asked from now on; those who wait go on waiting."""
        self._control.write_text("")


def _attributes(inode: int, size: int) -> bytes:
    mode = {_ROOT: 0o40755, _LINK: 0o120777, _FILE: 0o100644}[inode]
    return _ATTRIBUTES.pack(inode, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _serve(place: str, target: Path, text: Path, control: Path) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if _LIBC.mount(b"hanging", place.encode(), b"fuse", 6, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)  # noqa: T201 read by the test
    while True:
        request = os.read(device, 1 << 17)
        length, what, unique, node = struct.unpack_from("=IIQQ", request)
        if what in {_FORGET, _FORGETS, _INTERRUPT} or (control.read_text() and what != _INIT):
            continue
        error, answer = _answer(what, node, request[40:length], target, text)
        with suppress(OSError):
            os.write(device, struct.pack("=IiQ", 16 + len(answer), -error, unique) + answer)


def _answer(what: int, node: int, body: bytes, target: Path, text: Path) -> tuple[int, bytes]:  # noqa: PLR0911 by kind
    size = len(text.read_bytes()) if node == _FILE else 64
    match what:
        case 26:
            return 0, struct.pack("=IIIIHHIIHHI", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0) + bytes(24)
        case 1 if inode := _NAMES.get(body.rstrip(b"\0"), 0):
            size = len(text.read_bytes()) if inode == _FILE else 64
            return 0, struct.pack("=QQQQII", inode, 0, 0, 0, 0, 0) + _attributes(inode, size)
        case 3:
            return 0, struct.pack("=QII", 0, 0, 0) + _attributes(node, size)
        case 5:
            return 0, target.read_bytes()
        case 14 | 27:
            return 0, struct.pack("=QII", 0, 0, 0)
        case 15:
            _, offset, wanted = struct.unpack_from("=QQI", body)
            return 0, text.read_bytes()[offset : offset + wanted]
        case 28:
            _, offset, _ = struct.unpack_from("=QQI", body)
            return 0, b"" if offset else _listed()
        case 17:
            return 0, bytes(80)
        case 18 | 25 | 29:
            return 0, b""
    return (2 if what == _LOOKUP else 38), b""


def _listed() -> bytes:
    listed = b""
    for number, (name, inode) in enumerate(_NAMES.items(), 1):
        entry = struct.pack("=QQII", inode, number, len(name), 0) + name
        listed += entry + bytes(-len(entry) % 8)
    return listed


if __name__ == "__main__":
    try:
        _serve(sys.argv[1], *map(Path, sys.argv[2:5]))
    except OSError as problem:
        print(problem, flush=True)  # noqa: T201 read by the test
