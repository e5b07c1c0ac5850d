"""One agent per label and network namespace on a host, whatever its stores are.

Two agents of one label take each other's links for their own. So an agent on the real kernel binds a name in the
table of abstract unix sockets, ``@ifagent/<label>``, before it touches anything. Each network namespace has a table of
its own; the name is there for agents that share nothing else, such as those in two containers with the host's network;
and it is gone with its process, however that ends.

Every process in the namespace may bind such a name, one without rights too. Such a process is not an agent, and does
not keep one from running: it is logged, and the agent goes on without the lock.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from ifagent.errors import LabelTaken
from ifagent.log import log
from ifagent.passed_files import Closing, refuse_files

_PEER: Final = struct.Struct("=iII")
"""``struct ucred``: process, user, group."""

_CAP_NET_ADMIN: Final = 12
_LISTENING: Final = b"00010000"
"""The flag of a socket that listens, in ``/proc/net/unix``."""
_FLAGS: Final = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_BACKLOG: Final = 128
_PAUSE: Final = 0.01


class HostLock:
    """The right to be the agent called ``label`` in the network namespace of the process."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._name = f"\0ifagent/{label}"
        self._bound: socket.socket | None = None

    def take(self) -> None:
        """Have the lock, unless it is ours already. Never waits.

        Raises :class:`LabelTaken`, with the process id, if another agent has it.
        """
        if self._bound is not None:
            return
        bound = socket.socket(socket.AF_UNIX)
        try:
            bound.bind(self._name)
            refuse_files(bound)
            bound.listen(_BACKLOG)  # a client that connects learns our process id from the kernel
            bound.settimeout(0)
        except OSError as error:
            bound.close()
            if error.errno != errno.EADDRINUSE:
                raise
            self._refused()
            return
        self._bound = bound

    async def run(self) -> None:
        """Close the connections of processes that asked who holds the lock, until cancelled; at most 100 per second."""
        closing = Closing()
        while self._bound is not None:
            await anyio.wait_readable(self._bound)
            with suppress(OSError):
                if not closing.is_full:
                    closing.close(self._bound.accept()[0])
            await anyio.sleep(_PAUSE)
        await anyio.sleep_forever()

    def release(self) -> None:
        """Release the lock."""
        if self._bound is not None:
            self._bound.close()
            self._bound = None

    def _refused(self) -> None:
        """Raise :class:`LabelTaken` if an agent has bound the name; log it if another process has."""
        holder = _holder(self._name)
        if holder is None:
            log.warning(
                "cannot lock the label on this host, another agent would go unnoticed",
                label=self._label,
                problem="an unknown process has bound its name and does not respond",
            )
            return
        pid, user = holder
        if user in {0, os.geteuid()} or (_has_rights(pid, user) and _has_bound(pid, self._name)):
            # The process id is 0 for a process of a pid namespace that cannot be seen from here.
            raise LabelTaken(
                self._label, f"process {pid} on this host" if pid else "a process in another pid namespace"
            )
        log.warning(
            "cannot lock the label on this host, another agent would go unnoticed",
            label=self._label,
            problem=f"process {pid} of user {user} has bound its name",
        )


def _holder(name: str) -> tuple[int, int] | None:
    """Return the process and the user that listen under a name; ``None`` if that cannot be found out."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(0)
        try:
            asking.connect(name)
        except OSError:
            return None
        pid, user, _ = _PEER.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, user


def _has_rights(pid: int, user: int) -> bool:
    """Tell whether a process of another user has the rights that an agent needs, in our user namespace.

    One that has bound the name and then executed a set-user-id program is not the user's any more.
    """
    try:
        if Path(f"/proc/{pid}/ns/user").stat().st_ino != Path("/proc/self/ns/user").stat().st_ino:
            return False
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    users = re.search(r"^Uid:\s*(.*)$", status, re.MULTILINE)
    permitted = re.search(r"^CapPrm:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if users is None or permitted is None or set(map(int, users[1].split())) != {user}:
        return False
    return bool(int(permitted[1], 16) >> _CAP_NET_ADMIN & 1)


def _has_bound(pid: int, name: str) -> bool:
    """Tell whether the program that a process executes has bound a name itself, as far as that can be seen.

    Somebody without rights may bind it and then execute a program whose file has them, such as a packet sniffer. But
    what is still open by then is not close-on-exec, as an agent's socket is.
    """
    try:
        listening = {f"socket:[{inode}]" for inode in _listening_under(name)}
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if str(opened.readlink()) in listening:
                    flags = _FLAGS.search(Path(f"/proc/{pid}/fdinfo/{opened.name}").read_text())
                    return flags is None or bool(int(flags[1], 8) & os.O_CLOEXEC)
    except OSError:  # without CAP_DAC_OVERRIDE or CAP_SYS_PTRACE
        return True
    return False


def _listening_under(name: str) -> Iterator[str]:
    """Yield the inodes of the sockets of our network namespace that listen under a name. Raises ``OSError``."""
    shown = b"@" + name[1:].encode()
    for line in Path("/proc/self/net/unix").read_bytes().splitlines():
        words = line.split(maxsplit=7)
        if len(words) > 7 and words[3] == _LISTENING and words[7] == shown:
            yield words[6].decode()
