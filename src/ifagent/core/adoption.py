"""Links that the agent has not made: what is remembered of one that it adopts, and how each is given back. Pure.

What an interface leaves open is as the link's creator has it, whenever he sets it. Given back a TAP is as it was when
it was adopted: name, namespace, alias, admin state, master, addresses, and MAC and MTU if the agent has changed them or
it has been in another namespace, whose root may have.
Of a ``link_only`` one that was not moved the addresses are its creator's all the time, and not looked at. Whoever is
root in the namespace of an adopted TAP can forge what its alias says, so a TAP of which nothing but that tells of an
adoption stays where it is: the agent only takes off what it may have put there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ifagent.core.kinds.contract import CommonFields, View
from ifagent.core.link import Link, LinkId
from ifagent.core.operation import Operation, Place, Target
from ifagent.core.operations import AddAddress, DeleteAddress, MoveLink, SetLink
from ifagent.core.ownership import ConfiguredMark
from ifagent.core.remembered import Adoption, TapAddress


def adoption_of(view: View, interface: CommonFields, link: Link, place: Place) -> Adoption:
    """Return what is to be remembered of an adopted TAP before anything is done to it."""
    before = view.adoption(link)
    leaves_addresses = interface.link_only and place == link.id.namespace
    if before is None:
        master = view.observed.link(LinkId(link.id.namespace, link.master))
        before = Adoption(
            name=interface.name,
            host_name=link.host_name,
            mac=link.mac,
            mtu=link.mtu,
            up=link.up,
            alias=view.owner.alias_before(link),
            master=link.master,
            master_name=master.host_name if master else "",
            addresses=_given_to(link),
            leaves_addresses=leaves_addresses,
        )
    elif before.leaves_addresses and not leaves_addresses:
        before = replace(before, addresses=_given_to(link), leaves_addresses=False)
    own = view.observed.own
    if link.id.namespace == own:
        mac = before.mac if before.keeps_mac else link.mac
        mtu = before.mtu if before.keeps_mtu else link.mtu
    else:  # what they are there may be the doing of whoever is root
        mac, mtu = before.mac, before.mtu
    if place != own:
        before = replace(before, mac=mac, mtu=mtu)
    if interface.phys_address and not interface.link_only:
        before = replace(before, mac=mac, keeps_mac=True)
    elif before.keeps_mac and link.mac == before.mac:
        before = replace(before, keeps_mac=False)
    if interface.mtu:
        before = replace(before, mtu=mtu, keeps_mtu=True)
    elif before.keeps_mtu and link.mtu == before.mtu:
        before = replace(before, keeps_mtu=False)
    if link.id.namespace not in {own, place}:
        before = leaving(before)
    return found_at(before, link, place)


def leaving(adoption: Adoption) -> Adoption:
    """Return the adoption of a TAP that leaves a namespace of others: it gets the MAC and MTU that it had before."""
    return replace(adoption, keeps_mac=True, keeps_mtu=True)


def found_at(adoption: Adoption, link: Link, place: Place) -> Adoption:
    """Return what is to be remembered of a TAP that was found to be ``link``, and is to go to ``place``."""
    stays = adoption.link is not None and adoption.link.namespace == link.id.namespace
    moving_to = None if place == link.id.namespace else place
    return replace(adoption, link=link.id, cookie=adoption.cookie if stays else 0, moving_to=moving_to)


def release_adopted(view: View, link: Link, before: Adoption) -> list[Operation]:
    """Return what makes an adopted TAP what it was, each operation to be carried out after the one before it.

    Nothing where it is that already. Where somebody else has its old name by now, or that is not known, it keeps the
    one it has.
    """
    own = view.observed.own
    here = Target.of(link)
    home = Target(own, before.host_name or link.host_name)
    occupant = view.link_at_target(home)
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
        "master": 0 if seen.master else _bridge_before(view, before),
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


def strip_adopted(link: Link) -> list[Operation]:
    """Return what takes off a TAP what the agent may have put on it, and leaves it where it is."""
    here = Target.of(link)
    return [*_take_off(here, link, ()), SetLink(target=here, alias="")]


def _given_to(link: Link) -> tuple[TapAddress, ...]:
    """Return the addresses that somebody has given a link."""
    return tuple(TapAddress(each.interface, each.peer) for each in link.addresses if not each.made_by_kernel)


def _bridge_before(view: View, before: Adoption) -> int:
    """Return the ifindex of the bridge that a TAP was a port of, 0 where that is not there or another one by now."""
    master = view.observed.link(LinkId(view.observed.own, before.master))
    if master is None or master.kind != "bridge" or before.master_name not in {"", master.host_name}:
        return 0
    return before.master


def _take_off(here: Target, link: Link, kept: Collection[TapAddress]) -> Iterable[Operation]:
    return [DeleteAddress(here, *address) for address in _given_to(link) if address not in kept]


def release_configured(link: Link, before: ConfiguredMark, *, leaves_master: bool = False) -> list[Operation]:
    """Return what takes off a link what its interface had asked for, each operation after the one before it.

    ``leaves_master`` says that it is a port of a link of the agent's.
    """
    target = Target.of(link)
    addresses = [DeleteAddress(target, a.interface, a.peer) for a in link.addresses if not a.made_by_kernel]
    return [*addresses, SetLink(target=target, alias=before.alias, master=0 if leaves_master else None)]
