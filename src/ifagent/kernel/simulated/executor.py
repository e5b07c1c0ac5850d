"""Executes the agent's operations on the simulated world."""

from __future__ import annotations

import errno
from collections.abc import Callable

from ifagent.core.link import LOOPBACK_IFINDEX, Address, LinkId, NsId
from ifagent.core.operation import Operation, Place, Target
from ifagent.core.operations import (
    AddAddress,
    ChangeLink,
    CreateLink,
    CreateNamespace,
    DeleteAddress,
    DeleteLink,
    LinkEnd,
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
from ifagent.kernel.simulated.link_data import change_data
from ifagent.kernel.simulated.link_settings import put_on
from ifagent.kernel.simulated.records import Refused, WorldLink, WorldNamespace
from ifagent.kernel.simulated.world import End, World, netns_path


class BatchExecutor:
    """Executes one batch of operations, which must not depend on each other.

    ``changed`` is called for links that the world itself would not report, ``detach`` before a namespace is removed.
    """

    def __init__(self, world: World, *, changed: Callable[[LinkId], None], detach: Callable[[NsId], None]) -> None:
        self._world = world
        self._changed = changed
        self._detach = detach
        self._removed: set[NsId] = set()

    def execute(self, operation: Operation) -> None:  # noqa: PLR0912 one for each operation
        """Execute one operation. Raises :class:`Refused`."""
        world = self._world
        match operation:
            case CreateNamespace(ref, mark):
                namespace = world.add_namespace(netns_path(ref.reference), name=ref.reference)
                world.settings.set_attributes(namespace.links[LOOPBACK_IFINDEX], alias=mark)
            case RemoveNamespace(ref, id):
                self._remove_namespace(ref.reference, id)
            case CreateLink():
                self._create(operation)
            case ChangeLink():
                self._change(operation)
            case SetPort(target, _, data):
                link = self._find(target)
                if not link.master:
                    raise Refused(errno.EOPNOTSUPP)
                self._changed(link.id)
                link.port |= dict(data)
            case SetLink(target=target):
                link = self._find(target)
                self._changed(link.id)  # the agent hears of its own changes even where Linux sends no notification
                world.settings.set_attributes(
                    link,
                    mac=operation.mac,
                    mtu=operation.mtu,
                    group=operation.group,
                    host_name=operation.host_name,
                    alias=operation.alias,
                    up=operation.up,
                    master=operation.master,
                )
            case MoveLink(target, to, host_name, altnames):
                for altname in () if altnames else tuple(self._find(target).altnames):
                    world.remove_altname(self._find(target), altname)
                world.move(self._find(target), self._place(to), host_name)
            case AddAddress() | ReplaceAddress() | RenewAddress() | DeleteAddress():
                self._change_address(operation)
            case RemoveAltname(target, altname):
                world.remove_altname(self._find(target), altname)
            case SetChecksums(target, checksums):
                world.settings.set_checksums(self._find(target), checksums)
            case PromoteSecondaries(target):
                world.settings.promote_secondaries(self._find(target))
            case DeleteLink(target):
                world.delete(self._find(target))
            case _:
                raise AgentBug(f"the simulated kernel does not know {operation!r}")

    def _create(self, operation: CreateLink) -> None:
        lower = None if operation.lower is None else self._link(operation.lower)
        ends = [self._end(end) for end in operation.ends]
        self._world.create(
            operation.kind, ends, operation.group, data=operation.data, lower=lower, master=operation.master
        )

    def _change(self, operation: ChangeLink) -> None:
        link = self._find(operation.target)
        self._changed(link.id)
        change_data(link, operation.data)
        if operation.sends_by is not None:
            put_on(link, (link.lower or link).namespace.links.get(operation.sends_by))
        if operation.mtu is not None:
            self._world.settings.set_attributes(link, mtu=operation.mtu)

    def _change_address(self, operation: AddAddress | ReplaceAddress | RenewAddress | DeleteAddress) -> None:
        world, link, interface = self._world, self._find(operation.target), operation.address
        match operation:
            case AddAddress(peer=peer):
                world.settings.add_address(link, Address(interface, peer=peer))
            case ReplaceAddress():
                world.settings.replace_address(link, interface)
            case RenewAddress():
                world.settings.delete_address(link, Address(interface))
                world.settings.add_address(link, Address(interface))
            case DeleteAddress(peer=peer):
                world.settings.delete_address(link, Address(interface, peer=peer))
            case _:
                raise AgentBug(f"the simulated kernel does not know {operation!r}")

    def _remove_namespace(self, name: str, id: NsId) -> None:
        namespace = self._world.find_namespace(name)
        if namespace.id != id:
            raise Refused(errno.ENOENT)
        self._removed.add(id)
        self._detach(id)
        self._world.remove_namespace(namespace)

    def _place(self, place: Place) -> WorldNamespace:
        """Return an attached namespace; it may have been detached since the batch began."""
        namespace = self._world.namespaces.get(place) if isinstance(place, int) else None
        if namespace is not None and namespace.attached:
            return namespace
        if place in self._removed:
            raise AgentBug(f"operations of one batch depend on each other: {place} was removed by another one")
        raise Refused(errno.ENODEV, f"namespace {place} is not attached")

    def _end(self, end: LinkEnd) -> End:
        return self._place(end.namespace), end.host_name, end.mac, end.mtu

    def _link(self, id: LinkId) -> WorldLink:
        link = self._place(id.namespace).links.get(id.ifindex)
        if link is None:
            raise Refused(errno.ENODEV)
        return link

    def _find(self, target: Target) -> WorldLink:
        link = self._place(target.namespace).links.get(target.ifindex or 0)
        if link is None:
            raise Refused(errno.ENODEV)
        return link
