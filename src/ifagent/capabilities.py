"""Linux capabilities of the process (``capabilities(7)``): reading them, and dropping them permanently.

Capabilities belong to threads. The functions here affect the calling thread and those that it starts later, so call
them before there are others.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Final

_VERSION: Final = 0x2008_0522
"""``_LINUX_CAPABILITY_VERSION_3``: sets of 64 bits, the lower half first."""

_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38

_Header = ctypes.c_uint32 * 2
"""``struct __user_cap_header_struct``: version, thread, 0 for the calling one."""
_Data = ctypes.c_uint32 * 6
"""``struct __user_cap_data_struct``, twice: effective, permitted, inheritable."""


class Capability(IntEnum):
    """The capabilities that the agent may need, with their numbers in ``linux/capability.h``."""

    DAC_OVERRIDE = 1
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    SYS_PTRACE = 19
    SYS_ADMIN = 21

    def __str__(self) -> str:
        """Return the usual name, such as ``CAP_NET_ADMIN``."""
        return f"CAP_{self.name}"


def permitted() -> frozenset[Capability]:
    """Return the permitted capabilities of the calling thread."""
    bits = _permitted_bits()
    return frozenset(one for one in Capability if bits >> one & 1)


def raise_effective() -> None:
    """Make all permitted capabilities effective; those from file capabilities may not be. Raises ``OSError``."""
    bits = _permitted_bits()
    _set(effective=bits, permitted=bits)


def drop_all_except(kept: Iterable[Capability]) -> None:
    """Keep only ``kept``, as far as they are permitted; others cannot be regained, not even by executing a program.

    The bounding set is reduced too, if that is allowed. Core dumps are disabled, because the memory may hold passwords.
    Raises ``OSError``.
    """
    remaining = permitted() & frozenset(kept)
    _reduce_bounding_set(remaining)
    bits = sum(1 << one for one in remaining)
    _set(effective=bits, permitted=bits)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def _permitted_bits() -> int:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    raise OSError(errno.ENOSYS, "cannot read the process's capabilities")


def _reduce_bounding_set(kept: frozenset[Capability]) -> None:
    number = 0
    try:
        while True:
            if number not in kept:
                _prctl(_PR_CAPBSET_DROP, number)
            number += 1
    except OSError as error:
        # EINVAL: there are no more. EPERM: without CAP_SETPCAP it stays as it is, harmless with no_new_privs.
        if error.errno not in {errno.EINVAL, errno.EPERM}:
            raise


def _set(*, effective: int, permitted: int) -> None:
    """Set both, and clear the inheritable set, and with it the ambient one."""
    lower = (effective & 0xFFFF_FFFF, permitted & 0xFFFF_FFFF, 0)
    upper = (effective >> 32, permitted >> 32, 0)
    _check(_libc().capset(_Header(_VERSION, 0), _Data(*lower, *upper)), "capset")


def _prctl(option: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc().prctl(option, ctypes.c_ulong(argument), zero, zero, zero), "prctl")


def _check(answer: int, call: str) -> None:
    if answer:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
