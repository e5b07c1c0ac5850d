"""TAPs: links that another program makes, that the agent adopts while they are declared, and then gives back.

What an interface leaves open is as the TAP's creator has it, whenever he sets it. Given back it is as it was when it
was adopted: name, namespace, alias, admin state, master, addresses, and MAC and MTU if the agent has changed them. Of a
``link_only`` one that was not moved the addresses are its creator's all the time, and not looked at.
Whoever is root in the namespace of an adopted TAP can forge what its alias says, so a TAP of which nothing but that
tells of an adoption stays where it is: the agent only takes off what it may have put there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ifagent.core.claims import Claims
from ifagent.core.configure import Attributes
from ifagent.core.interface import Interface
from ifagent.core.link import Link, LinkId
from ifagent.core.operations import AddAddress, DeleteAddress, MoveLink, Operation, Place, SetLink, Target
from ifagent.core.plan import Obstacle
from ifagent.core.remembered import Adoption, TapAddress
from ifagent.core.state import ConfigState


def adoption_of(claims: Claims, interface: Interface, link: Link, place: Place) -> Adoption:
    """Return what is to be remembered of an adopted TAP before anything is done to it."""
    before = claims.adopted.get(link.id) or claims.marked_as_adopted.get(link.id)
    leaves_addresses = interface.link_only and place == link.id.namespace
    if before is None:
        master = claims.observed.link(LinkId(link.id.namespace, link.master))
        before = Adoption(
            name=interface.name,
            host_name=link.host_name,
            mac=link.mac,
            mtu=link.mtu,
            up=link.up,
            alias=claims.owner.alias_before(link),
            master=link.master,
            master_name=master.host_name if master else "",
            addresses=_given_to(link),
            leaves_addresses=leaves_addresses,
        )
    elif before.leaves_addresses and not leaves_addresses:
        before = replace(before, addresses=_given_to(link), leaves_addresses=False)
    if interface.phys_address and not interface.link_only:
        before = before if before.keeps_mac else replace(before, mac=link.mac, keeps_mac=True)
    elif before.keeps_mac and link.mac == before.mac:
        before = replace(before, keeps_mac=False)
    if interface.mtu:
        before = before if before.keeps_mtu else replace(before, mtu=link.mtu, keeps_mtu=True)
    elif before.keeps_mtu and link.mtu == before.mtu:
        before = replace(before, keeps_mtu=False)
    return found_at(before, link, place)


def found_at(adoption: Adoption, link: Link, place: Place) -> Adoption:
    """Return what is to be remembered of a TAP that was found to be ``link``, and is to go to ``place``."""
    stays = adoption.link is not None and adoption.link.namespace == link.id.namespace
    moving_to = None if place == link.id.namespace else place
    return replace(adoption, link=link.id, cookie=adoption.cookie if stays else 0, moving_to=moving_to)


def tap_attributes(claims: Claims, interface: Interface, adoption: Adoption) -> Attributes:
    """Return what an adopted TAP is to have; what is ``None`` is as its creator has it."""
    mac = interface.phys_address or (adoption.mac if adoption.keeps_mac else "")
    return Attributes(
        mac=None if interface.link_only else mac or None,
        mtu=interface.mtu or (adoption.mtu if adoption.keeps_mtu else 0) or None,
        up=interface.enabled,
        alias=claims.owner.adopted_alias(adoption),
        addresses=None if interface.link_only else interface.ip_addresses,
    )


def tap_missing(claims: Claims, interface: Interface) -> Obstacle:
    """Say what a declared TAP waits for."""
    name = claims.tap_name(interface)
    there = claims.at_target(Target(claims.observed.own, name))
    reason = f"no program has made the TAP {name} in the agent's own namespace"
    if there is not None:
        why = claims.why_not_adoptable(there) or "another interface adopts it"
        reason = f"{there} is in the agent's own namespace, but {why}"
    return Obstacle(ConfigState.PENDING, reason, (f"tap {name}",))


def give_back(claims: Claims, link: Link, before: Adoption) -> list[Operation]:
    """Return what makes an adopted TAP what it was, each operation to be carried out after the one before it.

    Nothing where it is that already. Where somebody else has its old name by now, or that is not known, it keeps the
    one it has.
    """
    own = claims.observed.own
    here = Target(link.id.namespace, link.host_name, link.id.ifindex)
    home = Target(own, before.host_name or link.host_name)
    occupant = claims.at_target(home)
    if occupant is not None and occupant.id != link.id:
        home = Target(own, link.host_name)
    operations: list[Operation] = []
    seen = link
    if link.id.namespace != own:
        operations.append(MoveLink(here, own, home.host_name, altnames=False))
        here = home
        # It arrives down, without addresses and no port.
        seen = replace(link, host_name=home.host_name, up=False, master=0, addresses=())
    leaves_addresses = before.leaves_addresses and link.id.namespace == own
    if not leaves_addresses:
        operations += _take_off(here, seen, before.addresses)
    wanted = {
        "host_name": home.host_name,
        "mac": before.mac if before.keeps_mac or before.link is None else "",
        "mtu": before.mtu if before.keeps_mtu or before.link is None else 0,
        "master": 0 if seen.master else _bridge_before(claims, before),
    }
    different = {field: value for field, value in wanted.items() if value and value != getattr(seen, field)}
    if before.up not in {None, seen.up}:
        different["up"] = before.up
    if not leaves_addresses:
        there = {TapAddress(address.interface, address.peer) for address in seen.addresses}
        operations += [AddAddress(here, *address) for address in before.addresses if address not in there]
    if different or seen.alias != before.alias:
        # The mark goes last: until then the TAP is the agent's to give back.
        operations.append(SetLink(target=here, alias=before.alias, **different))  # type: ignore[arg-type]
    return operations


def let_lie(link: Link) -> list[Operation]:
    """Return what takes off a TAP what the agent may have put on it, and leaves it where it is."""
    here = Target(link.id.namespace, link.host_name, link.id.ifindex)
    return [*_take_off(here, link, ()), SetLink(target=here, alias="")]


def _given_to(link: Link) -> tuple[TapAddress, ...]:
    """Return the addresses that somebody has given a link."""
    return tuple(TapAddress(each.interface, each.peer) for each in link.addresses if not each.made_by_kernel)


def _bridge_before(claims: Claims, before: Adoption) -> int:
    """Return the ifindex of the bridge that a TAP was a port of, 0 where that is not there or another one by now."""
    master = claims.observed.link(LinkId(claims.observed.own, before.master))
    if master is None or master.kind != "bridge" or before.master_name not in {"", master.host_name}:
        return 0
    return before.master


def _take_off(here: Target, link: Link, kept: Collection[TapAddress]) -> Iterable[Operation]:
    return [DeleteAddress(here, *address) for address in _given_to(link) if address not in kept]
