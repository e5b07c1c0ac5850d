"""Settings that tunnels of several kinds have, as attributes: ``linux/if_tunnel.h``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ifagent.core.link import Scalar
from ifagent.kernel.attributes import attribute
from ifagent.kernel.link_data import Bits, Choice, Flag, Number, Payloads, Setting, Values

IFLA_GRE_LINK: Final = 1
IFLA_GRE_IFLAGS: Final = 2
IFLA_GRE_OFLAGS: Final = 3
IFLA_GRE_IKEY: Final = 4
IFLA_GRE_OKEY: Final = 5
IFLA_GRE_LOCAL: Final = 6
IFLA_GRE_REMOTE: Final = 7
IFLA_GRE_TTL: Final = 8
IFLA_GRE_TOS: Final = 9
IFLA_GRE_PMTUDISC: Final = 10
IFLA_GRE_ENCAP_LIMIT: Final = 11
IFLA_GRE_FLOWINFO: Final = 12
IFLA_GRE_FLAGS: Final = 13
IFLA_GRE_FWMARK: Final = 20

IFLA_IPTUN_LINK: Final = 1
IFLA_IPTUN_LOCAL: Final = 2
IFLA_IPTUN_REMOTE: Final = 3
IFLA_IPTUN_TTL: Final = 4
IFLA_IPTUN_TOS: Final = 5
IFLA_IPTUN_ENCAP_LIMIT: Final = 6
IFLA_IPTUN_FLOWINFO: Final = 7
IFLA_IPTUN_FLAGS: Final = 8
IFLA_IPTUN_PROTO: Final = 9
IFLA_IPTUN_PMTUDISC: Final = 10
IFLA_IPTUN_FWMARK: Final = 20

IP6_TNL_F_IGN_ENCAP_LIMIT: Final = 1

GRE_CSUM: Final = 0x8000
GRE_KEY: Final = 0x2000
GRE_SEQ: Final = 0x1000

_FLOW_LABEL_BITS: Final = 20


class End:
    """An address of one end, of one family; empty for any."""

    def __init__(self, attribute_: int, name: str, family: type[IPv4Address | IPv6Address]) -> None:
        """Take the setting's name."""
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = (name,)
        self._family = family

    def encode(self, values: Values) -> bytes:
        """Return the attribute: zeros for any address."""
        value = str(values[self.names[0]])
        return attribute(self.attributes[0], self._family(value or 0).packed)

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the address."""
        payload = found.get(self.attributes[0], b"")
        yield self.names[0], str(self._family(payload)) if any(payload) else ""


class FlowInfo:
    """The traffic class and the flow label of IPv6, in one number in network order."""

    def __init__(self, attribute_: int) -> None:
        """Take the attribute."""
        self.attributes: tuple[int, ...] = (attribute_,)
        self.names: tuple[str, ...] = ("tos", "flow_label")

    def encode(self, values: Values) -> bytes:
        """Return the attribute; what is not given is 0."""
        number = int(str(values.get("tos", 0))) << _FLOW_LABEL_BITS | int(str(values.get("flow_label", 0)))
        return attribute(self.attributes[0], number.to_bytes(4, "big"))

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield both."""
        number = int.from_bytes(found.get(self.attributes[0], b"")[:4], "big")
        yield "tos", number >> _FLOW_LABEL_BITS & 0xFF
        yield "flow_label", number & (1 << _FLOW_LABEL_BITS) - 1


class GreHeader:
    """What is in the headers of GRE: keys, 0 for none, checksums and sequence numbers, in both directions."""

    attributes: tuple[int, ...] = (IFLA_GRE_IFLAGS, IFLA_GRE_OFLAGS, IFLA_GRE_IKEY, IFLA_GRE_OKEY)
    names: tuple[str, ...] = ("input_key", "output_key", "csum", "seq")
    _bits = (("csum", GRE_CSUM), ("seq", GRE_SEQ))

    def encode(self, values: Values) -> bytes:
        """Return the attributes; what is not given is not in the header."""
        both = sum(bit for name, bit in self._bits if values.get(name) is True)
        encoded = b""
        for name, flags_type, key_type in (
            ("input_key", IFLA_GRE_IFLAGS, IFLA_GRE_IKEY),
            ("output_key", IFLA_GRE_OFLAGS, IFLA_GRE_OKEY),
        ):
            key = int(str(values.get(name, 0)))
            flags = both | (GRE_KEY if key else 0)
            encoded += attribute(flags_type, flags.to_bytes(2, "big")) + attribute(key_type, key.to_bytes(4, "big"))
        return encoded

    def decode(self, found: Payloads) -> Iterator[tuple[str, Scalar]]:
        """Yield the four."""
        read, sent = (int.from_bytes(found.get(each, b"")[:2], "big") for each in (IFLA_GRE_IFLAGS, IFLA_GRE_OFLAGS))
        yield "input_key", int.from_bytes(found.get(IFLA_GRE_IKEY, b"")[:4], "big") if read & GRE_KEY else 0
        yield "output_key", int.from_bytes(found.get(IFLA_GRE_OKEY, b"")[:4], "big") if sent & GRE_KEY else 0
        for name, bit in self._bits:
            # Both, as the agent sets it, or one direction only, which is neither.
            yield name, bool(read & bit) if read & bit == sent & bit else "one direction"


GRE_IN_IPV4: Final[tuple[Setting, ...]] = (
    End(IFLA_GRE_LOCAL, "local", IPv4Address),
    End(IFLA_GRE_REMOTE, "remote", IPv4Address),
    Number(IFLA_GRE_TTL, "ttl", "=B"),
    Number(IFLA_GRE_TOS, "tos", "=B"),
    Flag(IFLA_GRE_PMTUDISC, "pmtudisc"),
    GreHeader(),
    Number(IFLA_GRE_FWMARK, "fwmark", "=I"),
)

GRE_IN_IPV6: Final[tuple[Setting, ...]] = (
    End(IFLA_GRE_LOCAL, "local", IPv6Address),
    End(IFLA_GRE_REMOTE, "remote", IPv6Address),
    Number(IFLA_GRE_TTL, "hop_limit", "=B"),
    FlowInfo(IFLA_GRE_FLOWINFO),
    Number(IFLA_GRE_ENCAP_LIMIT, "encap_limit", "=B"),
    Bits(IFLA_GRE_FLAGS, {"ignore_encap_limit": IP6_TNL_F_IGN_ENCAP_LIMIT}),
    GreHeader(),
    Number(IFLA_GRE_FWMARK, "fwmark", "=I"),
)

IN_IPV4: Final[tuple[Setting, ...]] = (
    End(IFLA_IPTUN_LOCAL, "local", IPv4Address),
    End(IFLA_IPTUN_REMOTE, "remote", IPv4Address),
    Number(IFLA_IPTUN_TTL, "ttl", "=B"),
    Number(IFLA_IPTUN_TOS, "tos", "=B"),
    Flag(IFLA_IPTUN_PMTUDISC, "pmtudisc"),
    Number(IFLA_IPTUN_FWMARK, "fwmark", "=I"),
)

IN_IPV6: Final[tuple[Setting, ...]] = (
    End(IFLA_IPTUN_LOCAL, "local", IPv6Address),
    End(IFLA_IPTUN_REMOTE, "remote", IPv6Address),
    Number(IFLA_IPTUN_TTL, "hop_limit", "=B"),
    FlowInfo(IFLA_IPTUN_FLOWINFO),
    Number(IFLA_IPTUN_ENCAP_LIMIT, "encap_limit", "=B"),
    Bits(IFLA_IPTUN_FLAGS, {"ignore_encap_limit": IP6_TNL_F_IGN_ENCAP_LIMIT}),
    Choice(IFLA_IPTUN_PROTO, "protocol", "=B", {"any": 0, "ip6ip6": 41, "ipip6": 4}),
    Number(IFLA_IPTUN_FWMARK, "fwmark", "=I"),
)
