"""Desired: what a user declares.

An :class:`Interface` is validated when it is made and never changes afterwards; whoever holds one may
rely on every rule below. Field names are those of the ligato v1.4.1 message ``LinuxInterfaces.Interface``, and
for what came later those of ligato v3, so that a value means the same in etcd, in a file and in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass

from ifagent.core.address_values import Addresses, WrongAddresses
from ifagent.core.kinds import BridgePort, Kind
from ifagent.core.kinds.contract import ETHERNET_MTU, Need, Reference, wrong
from ifagent.core.names import (
    LOOPBACK_NAME,
    HostName,
    Name,
    check_given_name,
    check_host_name,
    check_name,
)
from ifagent.core.namespace_ref import OWN_NAMESPACE, NamespaceRef
from ifagent.errors import MAX_ERRORS, FieldError, InvalidInterface

_MAC = re.compile(r"[0-9a-f]{12}")


def _check_given_host_name(value: str, info: ValidationInfo) -> str:
    kind = info.data.get("kind")
    return (kind.check_host_name if kind else check_host_name)(value) if value else ""


def _check_mac(value: str) -> str:
    if not value:
        return ""
    digits = re.sub(r"[:.\-]", "", value).lower()
    if not _MAC.fullmatch(digits):
        raise ValueError(f"{value!r} is not a MAC address such as d2:74:8c:12:67:d2")
    octets = bytes.fromhex(digits)
    if octets[0] & 1:
        raise ValueError(f"{value!r} is a group (multicast) address, an interface needs an individual one")
    if not any(octets):
        raise ValueError("the zero MAC address cannot be given to an interface")
    return octets.hex(":")


def _check_mtu(value: int, info: ValidationInfo) -> int:
    kind = info.data.get("kind")
    allowed = kind.mtus if kind else ETHERNET_MTU
    if value and value not in allowed:
        raise ValueError(f"{value} is out of range, use {allowed.start} to {allowed.stop - 1} bytes or 0")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What the owner of one interface wants.

    ``mtu`` is in bytes, 0 for the kind's default. ``phys_address`` is a MAC in any usual spelling, kept as
    ``d2:74:8c:12:67:d2``, empty for the default. ``ip_addresses`` are in the order the kernel is to list
    them; without a prefix length an address is a host's (/32 or /128). ``link_only`` says that the MAC and the
    addresses are somebody else's business; see also :class:`Existing`. ``master_if_name`` is the logical name of the
    bridge or VRF device that the link is to be a port of, empty for none; ``vrf_master_interface`` is the same for a
    VRF device alone. ``bridge_port`` is what it is to be like as a port of a bridge. Making an interface that breaks a
    rule raises ``pydantic.ValidationError``.
    """

    name: Annotated[str, AfterValidator(check_name)]
    kind: Annotated[Kind, Field(discriminator="type")]
    description: Annotated[str, Field(max_length=4096)] = ""
    enabled: bool = False
    ip_addresses: Addresses = ()
    phys_address: Annotated[str, AfterValidator(_check_mac)] = ""
    mtu: Annotated[int, Field(strict=True), AfterValidator(_check_mtu)] = 0
    host_if_name: Annotated[str, AfterValidator(_check_given_host_name)] = ""
    namespace: NamespaceRef = OWN_NAMESPACE
    link_only: bool = False
    vrf_master_interface: Annotated[str, AfterValidator(check_given_name)] = ""
    master_if_name: Annotated[str, AfterValidator(check_given_name)] = ""
    bridge_port: BridgePort | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.host_if_name:
            try:
                self.kind.check_host_name(self.host_name)
            except ValueError as error:
                raise wrong("host_if_name", f"{error}; the name cannot serve as host name, set one") from None
        if self.host_name != LOOPBACK_NAME:
            for place, address in enumerate(self.ip_addresses):
                if address.version == 6 and int(address) == 1:
                    raise wrong(f"ip_addresses[{place}]", f"only the loopback link can have the address {address}")
        if self.vrf_master_interface not in {"", self.master_if_name or self.vrf_master_interface}:
            raise wrong("master_if_name", f"differs from vrf_master_interface, {self.vrf_master_interface}; set one")
        if self.bridge_port is not None and not self.master_if_name:
            raise wrong("bridge_port", "goes with master_if_name, the name of the bridge")
        if self.bridge_port is not None:
            try:
                self.bridge_port.vlans(0)
            except ValueError as error:
                raise wrong("bridge_port.tagged", str(error)) from None
        if self.master == self.name:
            raise wrong(self.master_field, "an interface cannot be a port of itself")
        self.kind.check(self)
        return self

    @property
    def host_name(self) -> HostName:
        """The wanted host name: ``host_if_name``, or the logical name where that is empty; ``lo`` for a loopback."""
        return self.kind.host_name(self.name, self.host_if_name)

    @property
    def master(self) -> Name:
        """The interface that it is to be a port of, empty for none."""
        return self.vrf_master_interface or self.master_if_name

    @property
    def master_field(self) -> str:
        """The field that says so."""
        return "vrf_master_interface" if self.vrf_master_interface else "master_if_name"

    @property
    def references(self) -> tuple[Reference, ...]:
        """The interfaces that it refers to."""
        own = tuple(self.kind.references())
        return (*own, Reference(self.master, self.master_field, Need.MASTER)) if self.master else own

    @property
    def lowers(self) -> tuple[Reference, ...]:
        """Those of them that its link sits on."""
        return tuple(reference for reference in self.references if reference.need is Need.LOWER)


_ADAPTER = TypeAdapter(Interface)


def parse_interface(name: str, fields: dict[str, Any]) -> Interface:
    """Make an :class:`Interface` from plain values, such as a decoded JSON object.

    ``kind`` and ``namespace`` are dictionaries of their fields. Raises :class:`InvalidInterface` for
    ``name`` with every field that is wrong, of very many the first :data:`MAX_ERRORS`.
    """
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        told = [each for one in found for each in _field_errors(one)]
        more = sum(map(_count, found)) - len(told[:MAX_ERRORS])
        raise InvalidInterface(name, told[:MAX_ERRORS], more=more) from None


def _count(error: Any) -> int:
    cause = error.get("ctx", {}).get("error")
    return cause.count if isinstance(cause, WrongAddresses) else 1


def _field_errors(error: Any) -> Iterator[FieldError]:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, WrongAddresses):
        yield from (FieldError(f"ip_addresses[{place}]", text) for place, text in cause.wrong)
    else:
        yield _field_error(error)


def _field_error(error: Any) -> FieldError:
    """Name the field as the wire format does, and the rule in our words where we have any."""
    context = error.get("ctx", {})
    if "ifagent_field" in context:
        return FieldError(context["ifagent_field"], error["msg"])
    path = ""
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "kind":
            path += f".{part}" if path else part
    message = str(context["error"]) if "error" in context else error["msg"]
    if error["type"] == "missing":
        message = "is required"
    return FieldError(path, message)
