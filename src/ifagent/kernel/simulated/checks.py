"""Rejects operations that the agent must never request: they are bugs, not refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface

from ifagent.core.link import Checksums, NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.operation import Operation, Place, Target
from ifagent.core.operations import (
    AddAddress,
    ChangeLink,
    CreateLink,
    CreateNamespace,
    DeleteAddress,
    DeleteLink,
    MoveLink,
    PromoteSecondaries,
    RemoveAltname,
    RemoveNamespace,
    RenewAddress,
    ReplaceAddress,
    SetChecksums,
    SetLink,
    SetPort,
)
from ifagent.errors import AgentBug

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_UINT32 = range(2**32)


class OperationCheck:
    """Checks one operation; ``is_attached`` tells whether the kernel listens to a namespace."""

    def __init__(self, operation: Operation, is_attached: Callable[[NsId], bool]) -> None:
        """Raise :class:`AgentBug` if the contract forbids the operation."""
        self._operation = operation
        self._is_attached = is_attached
        match operation:
            case CreateNamespace():
                self._check_named(operation.namespace)
                self._check_text("mark", operation.mark)
            case RemoveNamespace():
                self._check_named(operation.namespace)
                self._check_number("id", operation.id)
            case CreateLink():
                self._check_creation(operation)
            case ChangeLink() | SetPort():
                self._check_target(operation.target)
                self._require(bool(operation.data), "nothing to change")
            case SetLink():
                self._check_target(operation.target)
                self._check_attributes(operation)
            case MoveLink():
                self._check_target(operation.target)
                self._check_place(operation.to)
                self._check_host_name(operation.host_name)
            case AddAddress() | ReplaceAddress() | DeleteAddress() | RenewAddress():
                self._check_target(operation.target)
                self._require(isinstance(operation.address, IPv4Interface | IPv6Interface), "address")
                # The interface has the scope, its ``ip`` has lost it.
                scoped = isinstance(operation.address, IPv6Interface) and operation.address.scope_id is not None
                self._require(not scoped, "address")
            case RemoveAltname():
                self._check_target(operation.target)
                self._check_text("altname", operation.altname)
            case SetChecksums():
                self._check_target(operation.target)
                self._require(isinstance(operation.checksums, Checksums), "checksums")
            case DeleteLink():
                self._check_target(operation.target)
                self._check_number("group", operation.group)
            case PromoteSecondaries():
                self._check_target(operation.target)
            case _:
                raise AgentBug(f"the simulated kernel does not know {operation!r}")

    def _require(self, condition: bool, field: str) -> None:  # noqa: FBT001 a condition is what it takes
        if not condition:
            raise AgentBug(f"the contract forbids this operation: {field} of {self._operation!r}")

    def _check_creation(self, operation: CreateLink) -> None:
        self._require(len(operation.ends) in {1, 2}, "ends")
        for end in operation.ends:
            self._check_place(end.namespace)
            self._check_host_name(end.host_name)
            self._require(end.mac == "" or _is_mac(end.mac), "mac")
            self._check_number("mtu", end.mtu)
        self._check_number("group", operation.group)
        for name, _ in operation.data:
            self._check_text("data", name)
        self._check_number("master", operation.master)

    def _check_attributes(self, operation: SetLink) -> None:
        names = ("host_name", "mac", "mtu", "up", "alias", "group", "master")
        given = {name: getattr(operation, name) for name in names if getattr(operation, name) is not None}
        self._require(bool(given), "nothing to set")
        for name, value in given.items():
            match name:
                case "host_name":
                    self._check_host_name(value)
                case "mac":
                    self._require(_is_mac(value), name)
                case "mtu" | "group" | "master":
                    self._check_number(name, value)
                case "up":
                    self._require(isinstance(value, bool), name)
                case _:
                    self._check_text(name, value)

    def _check_target(self, target: Target) -> None:
        self._check_place(target.namespace)
        self._require(isinstance(target.host_name, str), "target")
        self._check_number("ifindex", target.ifindex)

    def _check_place(self, place: Place) -> None:
        self._require(isinstance(place, int) and self._is_attached(NsId(place)), "namespace")

    def _check_named(self, ref: object) -> None:
        self._require(isinstance(ref, NamespaceRef) and ref.type is NamespaceType.NAMED, "namespace")

    def _check_host_name(self, name: object) -> None:
        """Forbid an empty name, and ``%``, which the kernel takes for a pattern."""
        self._check_text("host_name", name)
        self._require(name != "" and "%" not in str(name), "host_name")

    def _check_number(self, field: str, value: object) -> None:
        number = isinstance(value, int) and not isinstance(value, bool) and value in _UINT32
        self._require(number, field)

    def _check_text(self, field: str, value: object) -> None:
        self._require(isinstance(value, str) and "\0" not in value, field)


def _is_mac(value: object) -> bool:
    return isinstance(value, str) and _MAC.fullmatch(value) is not None
