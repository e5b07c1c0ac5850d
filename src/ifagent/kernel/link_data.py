"""The settings that only links of one kind have, ``IFLA_INFO_DATA``: a table a kind from names to attributes. Pure.

A table is written once, and both ways follow from it. What is not in the table is left alone by the agent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import Final, Protocol

from ifagent.core.link import LinkData, Scalar
from ifagent.errors import AgentBug
from ifagent.kernel.attributes import AttributeReader, MalformedMessage, attribute, each_payload, nested

Values = Mapping[str, Scalar]
"""Settings by name."""

Payloads = Mapping[int, bytes]
"""What attributes contain, by their types."""


class Setting(Protocol):
    """One setting, or several that are in one attribute."""

    @property
    def attributes(self) -> tuple[int, ...]:
        """The types of the attributes that tell it."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the settings."""
        ...

    def encode(self, values: Values) -> bytes:
        """Return the attribute for some of the settings."""
        ...

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the settings that are there. Raises :class:`MalformedMessage`, ``struct.error`` or ``ValueError``."""
        ...


class _InOneAttribute:
    """A setting in one attribute, of a :mod:`struct` format such as ``=H``."""

    def __init__(self, attribute_: int, name: str, format_: str) -> None:
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = (name,)
        self._struct = struct.Struct(format_)

    def encode(self, values: Values) -> bytes:
        """Return the attribute."""
        return attribute(self.attributes[0], self._struct.pack(self._to_kernel(values[self.names[0]])))

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the setting, if it is there."""
        if (payload := found.get(self.attributes[0])) is not None:
            yield self.names[0], self._from_kernel(self._struct.unpack(payload)[0])

    def _to_kernel(self, value: Scalar) -> int:
        raise NotImplementedError

    def _from_kernel(self, number: int) -> Scalar:
        raise NotImplementedError


class Number(_InOneAttribute):
    """A number."""

    def __init__(self, attribute_: int, name: str, format_: str, *, unit: int = 1, absent: int | None = None) -> None:
        """Take the setting's name.

        ``unit`` is how many of the kernel's units make one of the agent's, ``absent`` what it is where it is not told.
        """
        super().__init__(attribute_, name, format_)
        self._unit = unit
        self._absent = absent

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the number, if it is there or its absence means one."""
        if self._absent is not None and self.attributes[0] not in found:
            yield self.names[0], self._absent
        yield from super().decode(found)

    def _to_kernel(self, value: Scalar) -> int:
        if not isinstance(value, int):
            raise AgentBug(f"{value!r} is no number")
        return value * self._unit

    def _from_kernel(self, number: int) -> Scalar:
        # One that is between two of the agent's units is none that the agent has set.
        return f"{number}/{self._unit}" if number % self._unit else number // self._unit


class Flag(_InOneAttribute):
    """A number that is 0 or 1."""

    def __init__(self, attribute_: int, name: str, *, format_: str = "=B") -> None:
        """Take the setting's name."""
        super().__init__(attribute_, name, format_)

    def _to_kernel(self, value: Scalar) -> int:
        return int(value is True)

    def _from_kernel(self, number: int) -> Scalar:
        return bool(number)


class Choice(_InOneAttribute):
    """A number that stands for a word."""

    def __init__(self, attribute_: int, name: str, format_: str, words: Mapping[str, int]) -> None:
        """Take the setting's name, and the number of each word."""
        super().__init__(attribute_, name, format_)
        self._numbers = dict(words)
        self._words = {number: word for word, number in words.items()}

    def _to_kernel(self, value: Scalar) -> int:
        return self._numbers[str(value)]

    def _from_kernel(self, number: int) -> Scalar:
        return self._words.get(number, f"#{number}")


class Bits:
    """Flags in one number; with a ``mask`` beside it, which says which of them are meant.

    Some kinds tell it only if there are any.
    """

    def __init__(self, attribute_: int, bits: Mapping[str, int], *, format_: str = "=I", mask: bool = False) -> None:
        """Take the bit of each setting."""
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = tuple(bits)
        self._bits = dict(bits)
        self._struct = struct.Struct(format_)
        self._mask = mask

    def encode(self, values: Values) -> bytes:
        """Return the flags; without a mask all of them have to be given."""
        number = sum(bit for name, bit in self._bits.items() if values.get(name) is True)
        mask = [sum(bit for name, bit in self._bits.items() if name in values)] if self._mask else []
        return attribute(self.attributes[0], self._struct.pack(number, *mask))

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield each flag."""
        payload = found.get(self.attributes[0], bytes(self._struct.size))
        number = self._struct.unpack(payload)[0]
        for name, bit in self._bits.items():
            yield name, bool(number & bit)


class Present:
    """A flag that is set by the presence of an attribute without content, at creation only."""

    def __init__(self, attribute_: int, name: str) -> None:
        """Take the setting's name."""
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = (name,)

    def encode(self, values: Values) -> bytes:
        """Return the attribute if the flag is set."""
        return attribute(self.attributes[0], b"") if values[self.names[0]] is True else b""

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield whether it is there."""
        yield self.names[0], self.attributes[0] in found


class Address:
    """An IP address, with an attribute for each family; empty for none."""

    def __init__(self, ipv4: int, ipv6: int, name: str) -> None:
        """Take the setting's name."""
        self.attributes: tuple[int, ...] = (ipv4, ipv6)
        self.names: tuple[str, ...] = (name,)

    def encode(self, values: Values) -> bytes:
        """Return the attribute of the address's family."""
        if not values[self.names[0]]:
            return attribute(self.attributes[0], IPv4Address(0).packed)
        address = ip_address(str(values[self.names[0]]))
        return attribute(self.attributes[address.version == 6], address.packed)

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the address."""
        for type_, family in zip(self.attributes, (IPv4Address, IPv6Address), strict=True):
            if (payload := found.get(type_)) is not None and any(payload):
                yield self.names[0], str(family(payload))
                return
        yield self.names[0], ""


class Addresses:
    """A list of IPv4 addresses, each in an attribute of its own inside."""

    def __init__(self, attribute_: int, name: str) -> None:
        """Take the setting's name."""
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = (name,)

    def encode(self, values: Values) -> bytes:
        """Return the addresses in their order."""
        given = values[self.names[0]]
        addresses = given if isinstance(given, tuple) else ()
        inner = (attribute(place, IPv4Address(text).packed) for place, text in enumerate(addresses))
        return nested(self.attributes[0], b"".join(inner))

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the addresses."""
        payload = found.get(self.attributes[0], b"")
        inner = _EVERY.read(payload, 0, len(payload))
        yield self.names[0], tuple(str(IPv4Address(inner[place])) for place in sorted(inner))


class QosMap:
    """Mappings from one priority to another, ``struct ifla_vlan_qos_mapping``, as in ``2:5``.

    What is sent is added to what is there.
    """

    def __init__(self, attribute_: int, name: str) -> None:
        """Take the setting's name."""
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = (name,)

    def encode(self, values: Values) -> bytes:
        """Return the mappings."""
        return self.encode_change(values, {})

    def encode_change(self, values: Values, before: Values) -> bytes:
        """Return the mappings, and to 0 what was mapped ``before`` and is not any more."""
        was, wanted = _mappings(before.get(self.names[0])), _mappings(values[self.names[0]])
        mappings = dict.fromkeys(was, 0) | wanted
        inner = (attribute(IFLA_VLAN_QOS_MAPPING, _MAPPING.pack(*mapping)) for mapping in mappings.items())
        return nested(self.attributes[0], b"".join(inner))

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the mappings in the order of what is mapped."""
        payload = found.get(self.attributes[0], b"")
        first = islice(each_payload(payload, IFLA_VLAN_QOS_MAPPING), MAX_MAPPINGS)
        each = sorted(_MAPPING.unpack(inner) for inner in first)
        yield self.names[0], tuple(f"{priority}:{mapped}" for priority, mapped in each if mapped)


MAX_MAPPINGS: Final = 256
"""Most mappings of one link that are kept; of more, these are removed first."""

IFLA_VLAN_QOS_MAPPING: Final = 1
_MAPPING: Final = struct.Struct("=II")


def _mappings(value: Scalar | None) -> dict[int, int]:
    pairs = (text.partition(":") for text in (value if isinstance(value, tuple) else ()))
    return {int(priority): int(mapped) for priority, _, mapped in pairs}


_EVERY = AttributeReader()


class Table:
    """The settings of one kind of link."""

    def __init__(self, *settings: Setting) -> None:
        """Take the settings in the order in which they are told; the kernel takes them in any."""
        self._by_name: dict[str, Setting] = {name: each for each in settings for name in each.names}
        self._settings = settings
        self._reader = AttributeReader({type_ for each in settings for type_ in each.attributes})

    def __bool__(self) -> bool:
        return bool(self._settings)

    def encode(self, data: LinkData, before: LinkData = ()) -> bytes:
        """Return the attributes for some settings; ``before`` is what they are now where they are changed.

        Raises :class:`AgentBug` for one that is not in the table.
        """
        values, was = dict(data), dict(before)
        if unknown := values.keys() - self._by_name.keys():
            raise AgentBug(f"no attribute is known for {', '.join(sorted(unknown))}")
        wanted = dict.fromkeys(self._by_name[name] for name in values)
        return b"".join(
            each.encode_change(values, was) if isinstance(each, QosMap) else each.encode(values) for each in wanted
        )

    def decode(self, payload: bytes) -> LinkData:
        """Return the settings that are there, in the order of the table. Raises :class:`MalformedMessage`."""
        found = self._reader.read(payload, 0, len(payload))
        try:
            return tuple(told for each in self._settings for told in each.decode(found))
        except (struct.error, ValueError) as error:
            raise MalformedMessage(f"setting of a link: {error}") from None
