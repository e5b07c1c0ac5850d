"""Addresses of interfaces as values have them: how they are read, and which no interface can have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from itertools import islice
from socket import AF_INET, AF_INET6, inet_pton
from typing import Annotated

from pydantic import PlainValidator

from ifagent.errors import MAX_ERRORS

IPInterface = IPv4Interface | IPv6Interface

MAX_ADDRESSES = 256
"""Most addresses on one interface."""

_MAX_SHOWN = 60
"""Longest text, in characters, that is quoted whole where it is not an address."""

_FIRST_IPV4 = 1 << 24
_BROADCAST = (1 << 32) - 1
_IPV4_MAPPED = 0xFFFF
"""What the first 96 bits of an IPv6 address are that stands for an IPv4 address."""


@lru_cache(maxsize=1 << 16)
def interned(version: int, address: int, prefix: int) -> IPInterface:
    """Return an address with its prefix: mostly the same object for the same one, so cheap to compare and to keep."""
    return (IPv4Interface if version == 4 else IPv6Interface)((address, prefix))


def _parse_address(value: object) -> IPInterface:
    if isinstance(value, IPv4Interface | IPv6Interface):
        return _shared(value)
    if not isinstance(value, str):
        raise ValueError("an address is a string such as 192.168.22.1/24")  # noqa: TRY004 pydantic wants ValueError
    text = value.strip()
    return _parse_usual(text) or _parse_unusual(text)


def _parse_usual(text: str) -> IPInterface | None:
    """Parse an address with its prefix length by the C library, many times faster than ``ipaddress`` does."""
    address, _, prefix = text.partition("/")
    family, version, bits = (AF_INET6, 6, 128) if ":" in address else (AF_INET, 4, 32)
    if not (prefix.isascii() and prefix.isdecimal() and len(prefix) <= 3 and int(prefix) <= bits):
        return None
    try:
        packed = inet_pton(family, address)
    except (OSError, ValueError):
        return None
    return interned(version, int.from_bytes(packed), int(prefix))


def _parse_unusual(text: str) -> IPInterface:
    """Parse anything that stands for an address, without a prefix length or with a mask too."""
    if "." in text or ":" in text:  # of what has neither, ipaddress takes long to find out that it is none
        with suppress(ValueError):
            # Not ip_interface(), which tries IPv4 first and so has an error made for every IPv6 address.
            return _shared((IPv6Interface if ":" in text else IPv4Interface)(text))
    shown = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
    raise ValueError(f"{shown!r} is not an address such as 192.168.22.1/24 or 2001:db8::1/64")


def _shared(value: IPInterface) -> IPInterface:
    if isinstance(value, IPv6Interface) and value.scope_id is not None:
        return value  # to be refused
    return interned(value.version, int(value), value.network.prefixlen)


def _check_address(value: IPInterface) -> IPInterface:
    """Refuse what the kernel takes for no link, or takes though no host can send from it or be reached by it."""
    number, problem = int(value), ""
    if isinstance(value, IPv6Interface) and value.scope_id is not None:
        raise ValueError(f"{value}: leave out the scope after %, the interface itself is the scope")
    if value.is_multicast:
        problem = "it is a multicast address"
    elif not number:
        problem = "it is the unspecified address"
    elif value.version == 4 and number < _FIRST_IPV4:
        problem = "0.0.0.0/8 is reserved"
    elif value.version == 4 and number == _BROADCAST:
        problem = "it is the broadcast address"
    elif value.version == 6 and number >> 32 == _IPV4_MAPPED:
        problem = f"it stands for an IPv4 address, {IPv4Address(number & _BROADCAST)}"
    if problem:
        raise ValueError(f"{value} cannot be an interface's own address: {problem}")
    return value


class WrongAddresses(ValueError):
    """Of a list of addresses ``wrong`` has places and texts of the first wrong ones, ``count`` is how many may be."""

    def __init__(self, wrong: list[tuple[int, str]], count: int) -> None:
        """Keep what was found."""
        self.wrong = wrong
        self.count = count
        super().__init__("; ".join(f"[{place}]: {text}" for place, text in wrong))


def _parse_addresses(values: object) -> tuple[IPInterface, ...]:
    """Parse a whole list in one go: an error of its own for each of very many would take several times as long."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ValueError('must be a list such as ["192.168.22.1/24"]')  # noqa: TRY004 pydantic wants ValueError
    values = tuple(islice(values, MAX_ADDRESSES + 1))
    if len(values) > MAX_ADDRESSES:
        raise ValueError(f"has more than the {MAX_ADDRESSES} addresses that are allowed")
    found: list[IPInterface] = []
    wrong: list[tuple[int, str]] = []
    for place, value in enumerate(values):
        try:
            found.append(_check_address(_parse_address(value)))
        except ValueError as error:
            wrong.append((place, str(error)))
            if len(wrong) == MAX_ERRORS:
                break  # nobody reads more of them, and very many take long
    if wrong:
        raise WrongAddresses(wrong, len(values) - len(found))
    _check_addresses(found)
    return tuple(found)


def _check_addresses(values: Iterable[IPInterface]) -> None:
    """Raise ``ValueError`` if an address is listed twice."""
    seen: set[object] = set()
    for value in values:
        # The kernel keeps one IPv6 address once, whatever its prefix; IPv4 may have it twice.
        key = int(value) if value.version == 6 else value
        if key in seen:
            raise ValueError(f"{value} is listed twice")
        seen.add(key)


Addresses = Annotated[tuple[IPInterface, ...], PlainValidator(_parse_addresses)]
"""The addresses of an interface, from texts or ``ipaddress`` objects."""
