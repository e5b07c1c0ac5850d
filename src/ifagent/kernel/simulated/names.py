"""Which names and MACs Linux accepts for a link."""

from __future__ import annotations

import errno

from ifagent.kernel.simulated.records import Refused, WorldNamespace

MAX_HOST_NAME_BYTES = 15
MAX_ALTNAME_BYTES = 127
POLICY = "Attribute failed policy validation"
_SPACES = b" \t\n\v\f\r\xa0"  # what isspace() of the kernel says of single bytes


def check_name(namespace: WorldNamespace, host_name: str) -> None:
    """Refuse what ``dev_valid_name`` and the sysctl tree refuse, and a name that is taken."""
    check_length(host_name)
    bad = any(byte in b"/:" + _SPACES for byte in host_name.encode())
    if bad or host_name in {".", "..", "all", "default"}:
        raise Refused(errno.EINVAL)
    check_free(namespace, host_name)


def check_altname(namespace: WorldNamespace, altname: str) -> None:
    """Refuse an altname that is taken, or too long for one."""
    if len(altname.encode()) > MAX_ALTNAME_BYTES:
        raise Refused(errno.ERANGE, POLICY)
    check_free(namespace, altname)


def check_length(host_name: str) -> None:
    """Refuse a host name that is too long."""
    if len(host_name.encode()) > MAX_HOST_NAME_BYTES:
        raise Refused(errno.ERANGE, POLICY)


def check_free(namespace: WorldNamespace, host_name: str) -> None:
    """Refuse a name that a link has, as host name or as altname, and say which."""
    link = namespace.called(host_name)
    if link is not None:
        taken = f"another name of {link.host_name}, ifindex {link.ifindex}" if link.host_name != host_name else ""
        there = f"{host_name} is {taken}" if taken else f"{host_name}, ifindex {link.ifindex}, is there"
        raise Refused(errno.EEXIST, there)


def check_mac(mac: str) -> None:
    """Refuse multicast MACs, and the one of all zeros."""
    octets = bytes.fromhex(mac.replace(":", ""))
    if octets[0] & 1 or not any(octets):
        raise Refused(errno.EADDRNOTAVAIL)
