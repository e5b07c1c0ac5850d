"""Names: of interfaces, and of links in the kernel. Pure."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface
from typing import NewType

Name = str
"""The logical name of an interface, unique among everything one agent is told."""

HostName = NewType("HostName", str)
"""A link's name in the kernel (``ifname``), unique in its namespace."""

IPInterface = IPv4Interface | IPv6Interface

MAX_NAME_BYTES = 128
"""Longest logical name: with the agent's label it must fit into a link's alias (255 bytes)."""

MAX_HOST_NAME_BYTES = 15
"""``IFNAMSIZ`` less the final zero byte."""

LOOPBACK_NAME = "lo"
"""The host name of the loopback link, in every namespace."""

_RESERVED_HOST_NAMES = frozenset({".", "..", "all", "default", LOOPBACK_NAME})


def check_host_name(value: str, *, loopback: bool = False) -> str:
    """Return ``value`` if the kernel can name a link so, else raise ``ValueError`` with the rule.

    ``loopback`` says that it may be the name of the loopback link.
    """
    size = len(value.encode())
    if not value:
        raise ValueError("a host name cannot be empty")
    if size > MAX_HOST_NAME_BYTES:
        raise ValueError(f"the host name {value!r} has {size} bytes, the kernel takes at most {MAX_HOST_NAME_BYTES}")
    # The kernel takes the byte 0xA0 for a space, whatever character it is part of.
    if any(c in "/:%" or c.isspace() or not c.isprintable() for c in value) or b"\xa0" in value.encode():
        raise ValueError(f"the host name {value!r} has a character that is not allowed (/ : % or white space)")
    if value in _RESERVED_HOST_NAMES and not (loopback and value == LOOPBACK_NAME):
        raise ValueError(f"the host name {value!r} is reserved")
    return value


def check_name(value: str) -> str:
    """Return ``value`` if an interface can be called so, else raise ``ValueError`` with the rule."""
    if not value:
        raise ValueError("a name is required")
    if len(value.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a name has at most {MAX_NAME_BYTES} bytes")
    if not value.isprintable():
        raise ValueError(f"the name {value!r} has characters that cannot be printed")
    return value


def check_given_name(value: str) -> str:
    """Return ``value`` if it is empty or an interface can be called so, else raise ``ValueError`` with the rule."""
    return check_name(value) if value else ""
