"""The program of a helper process: single steps on file systems that may hang, one request after the other.

It is executed as a script, ``python -I -S helper_process.py``, and imports only the standard library: it is small,
starts within some 15 ms, and can be killed in the middle of a system call without harm.

Its standard input is a ``SOCK_SEQPACKET`` socket. A request is a letter, a name, and the descriptor of a file or
directory; the answer is a JSON object, with a descriptor for some requests:

``l`` NAME
    Look up a name in a directory without following a symbolic link: ``status``, ``target`` of a link, descriptor.
``e`` NAME
    Look up a name as a directory, which triggers an automount.
``f`` NAME
    Look up a name, following symbolic links.
``n``
    List the names in a directory: a memory file in which each name ends with a zero byte.
``s``
    Return the ``status`` of the descriptor.
``r`` SIZE
    Read a regular file up to a size: its ``status`` before, whether it is being ``written`` to (``null`` if unknown),
    and a memory file with the content.

``{"errno": number}`` is an error of the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat

MAX_NAMES = 100_000
_LOOK = os.O_PATH | os.O_CLOEXEC
_FLAGS = {b"l": _LOOK | os.O_NOFOLLOW, b"e": _LOOK | os.O_DIRECTORY, b"f": _LOOK}


def main() -> None:
    """Answer requests until the socket is closed."""
    channel = socket.socket(fileno=0)
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, 8192, 1)
        if not request or not descriptors:
            return
        try:
            answer, result = _answer(request[:1], request[1:], descriptors[0])
        except OSError as error:
            answer, result = {"errno": error.errno or 5}, -1
        message = json.dumps(answer).encode()
        if result < 0:
            channel.send(message)
        else:
            socket.send_fds(channel, [message], [result])
            os.close(result)
        os.close(descriptors[0])


def _answer(what: bytes, argument: bytes, at: int) -> tuple[dict[str, object], int]:
    if what in _FLAGS:
        found = os.open(argument, _FLAGS[what], dir_fd=at)
        status = os.fstat(found)
        answer: dict[str, object] = {"status": _fields(status)}
        if stat.S_ISLNK(status.st_mode):
            answer["target"] = os.readlink(b"", dir_fd=found).hex()
        return answer, found
    if what == b"n":
        with os.scandir(f"/proc/self/fd/{at}") as entries:
            names = [os.fsencode(entry.name) for entry, _ in zip(entries, range(MAX_NAMES), strict=False)]
        return {}, _memory(b"".join(name + b"\0" for name in names))
    if what == b"s":
        return {"status": _fields(os.fstat(at))}, -1
    try:
        file = os.open(f"/proc/self/fd/{at}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except BlockingIOError:  # another process has a lease on it, and may be writing
        return {"status": _fields(os.fstat(at)), "written": True}, _memory(b"")
    try:
        status = os.fstat(file)
        written = is_written_to(file)
        data = bytearray()
        while len(data) < int(argument) and (more := os.read(file, int(argument) - len(data))):
            data += more
    finally:
        os.close(file)
    return {"status": _fields(status), "written": written}, _memory(data)


def is_written_to(file: int) -> bool | None:
    """Tell whether any process has a file open for writing; ``None`` if unknown.

    The kernel refuses a read lease then. If it is granted, it is released immediately, because it makes others wait
    who open the file for writing.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # sent when the lease is broken; ignored by default
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _fields(status: os.stat_result) -> list[int]:
    kept = ("st_mode", "st_dev", "st_ino", "st_uid", "st_nlink", "st_size", "st_mtime_ns")
    return [getattr(status, name) for name in kept]


def _memory(data: bytes | bytearray) -> int:
    file = os.memfd_create("answer", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    return file


if __name__ == "__main__":
    main()
