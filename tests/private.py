"""A network and a mount namespace for the test run alone.

Whatever tests make, agents, etcd servers, links and named namespaces, is inside and ends with the run; the
machine's own network is out of reach. Without root a user namespace gives the same rights inside.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


BEFORE = f"/proc/self/fd/{os.open('/proc/self/ns/net', os.O_RDONLY | os.O_CLOEXEC)}"
"""The network namespace that the test run was started in."""


def enter() -> str:
    """Move the process into namespaces of its own; return why that is not possible, empty if it was."""
    uid, gid = os.getuid(), os.getgid()
    flags = _CLONE_NEWNS | _CLONE_NEWNET | (0 if uid == 0 else _CLONE_NEWUSER)
    if _libc.unshare(flags):
        return f"no network namespace of our own: {os.strerror(ctypes.get_errno())}"
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    if _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
        return f"cannot make mounts private: {os.strerror(ctypes.get_errno())}"
    # What is mounted below /run would be hidden, but still be listed, and docker takes it for what it looks for.
    while not _libc.umount2(b"/run/netns", _MNT_DETACH):
        pass
    if _libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, None):
        return f"cannot mount /run: {os.strerror(ctypes.get_errno())}"
    _set_loopback_up()
    return ""


def _set_loopback_up() -> None:
    """Do what ``ip link set lo up`` does, without needing ``ip``."""
    import fcntl
    import socket
    import struct

    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
