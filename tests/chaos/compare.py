"""The differences between what must be and what is, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from chaos.intent import Intent, World
from chaos.observation import Link, Observation, SpaceId
from chaos.oracle import DEFAULT_MTU, Expected, Facts, Place, expect, group_of, name_of, names_of
from chaos.values import Wish


def in_kernel_order(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses as a link lists them that was given them in this order.

    IPv4: one of each subnet, then those that share a subnet with an earlier one. IPv6: link-local ones last.
    """
    parsed = [ip_interface(address) for address in addresses]
    ipv4 = [address for address in parsed if isinstance(address, IPv4Interface)]
    primaries = {address.network: address for address in reversed(ipv4)}
    first = [address for address in ipv4 if primaries[address.network] is address]
    secondaries = [address for address in ipv4 if address not in first]
    ipv6 = sorted((a for a in parsed if isinstance(a, IPv6Interface)), key=lambda a: a.ip.is_link_local)
    return tuple(map(str, [*first, *secondaries, *ipv6]))


def out_of_sight(world: World, seen: Observation) -> frozenset[SpaceId]:
    """Return the namespaces that an agent that has just begun does not look into: unnamed, and not referred to."""
    referred = {seen.spaces.get(wish.space) for wish in world.wishes.values()}
    return frozenset(seen.spaces.values()) - referred - set(seen.named.values()) - {seen.own}


def _looked_at(world: World, facts: Facts, seen: Observation) -> tuple[Facts, Observation]:
    """Return what an agent that has just begun may know of."""
    hidden = out_of_sight(world, seen)
    taps = {link.tap for link in seen.links if link.space in hidden}
    facts = replace(facts, taps={name: mac for name, mac in facts.taps.items() if name not in taps})
    return facts, replace(seen, links=tuple(link for link in seen.links if link.space not in hidden))


def differences_from_nearest(
    intent: Intent, facts: Facts, seen: Observation, label: str, macs: Mapping[str, str], *, begun_anew: bool = False
) -> tuple[World, list[str]]:
    """Return the possible world that what is seen is closest to, and what is different there; nothing if it is that.

    ``macs`` are the MACs, as far as they are known, that links have whose interface does not say. An agent that has
    ``begun_anew`` may not know of all that an earlier one has left in namespaces that nobody refers to any more.
    """
    found: tuple[World, list[str]] | None = None
    for world in intent.worlds():
        views = [(facts, seen)]
        if begun_anew and out_of_sight(world, seen):
            views.append(_looked_at(world, facts, seen))
        for view in views:
            different = list(Comparison(world, *view, label, macs).differences())
            if not different:
                return world, []
            if found is None or len(different) < len(found[1]):
                found = world, different
    assert found
    return found


class Comparison:
    """One world and one observation."""

    def __init__(self, world: World, facts: Facts, seen: Observation, label: str, macs: Mapping[str, str]) -> None:
        self.world = world
        self.facts = facts
        self.seen = seen
        self.label = label
        self.macs = macs
        self.expected: Expected = expect(world, facts, seen, label)
        self.found = names_of(seen.links, label)

    def differences(self) -> Iterator[str]:
        """Return every difference, in words."""
        yield from self._states()
        for name, (wish, place) in sorted(self.expected.links.items()):
            yield from self._link(name, wish, place)
        yield from self._left_over()
        yield from self._of_others()
        yield from self._namespaces()

    def _states(self) -> Iterator[str]:
        states = self.seen.states
        yield from (f"state of {name}: there is none" for name in sorted(self.world.declared - states.keys()))
        for name in sorted(states):
            if name not in self.world.declared:
                yield f"state of {name}: it is not declared, and still {states[name].get('config_state')}"
                continue
            wanted, state = self.expected.states[name], states[name]
            missing = tuple(state.get("missing", ()))
            if state.get("config_state") != wanted.config_state or (
                wanted.config_state == "PENDING" and missing != wanted.missing
            ):
                has = f"{state.get('config_state')} {list(missing)} ({state.get('reason', '')})"
                yield f"state of {name}: {has}, must be {wanted.config_state} {list(wanted.missing)}"
            if wanted.config_state != "APPLIED" and not state.get("reason"):
                yield f"state of {name}: no reason is given"
            if state.get("config_state") == "APPLIED" == wanted.config_state:
                yield from self._published(name)

    def _published(self, name: str) -> Iterator[str]:
        """Compare the state of an applied interface with the kernel."""
        links = self.found.get(name)
        if not links:
            return
        link, state = links[0], self.seen.states[name]
        listed = self.expected.links[name][0].addresses
        for key, has in (
            ("internal_name", link.host_name),
            ("if_index", link.ifindex),
            ("phys_address", link.mac),
            ("mtu", link.mtu),
            ("admin_status", 1 if link.up else 2),
            ("ip_addresses", [a for a in link.addresses if a in in_kernel_order(listed)]),
            ("observed_revision", state.get("applied_revision")),
        ):
            if state.get(key) != has:
                yield f"state of {name}: {key} is {state.get(key)!r}, in the kernel {has!r}"

    def _link(self, name: str, wish: Wish, place: Place) -> Iterator[str]:
        links = [
            link for link in self.found.get(name, []) if link.place == place or not self._is_kept_with_another(link)
        ]
        if len(links) != 1:
            yield f"{name}: {len(links)} links, must be one at {place}"
            return
        [link] = links
        default = self.facts.taps.get(wish.temp, "") if wish.is_tap else self.macs.get(name, "")
        wanted: dict[str, tuple[object, object]] = {
            "place": (link.place, place),
            "kind": (link.kind, "tun" if wish.is_tap else "veth"),
            "up": (link.up, wish.enabled),
            "mtu": (link.mtu, wish.mtu or DEFAULT_MTU),
            "mac": (link.mac, wish.mac or default or link.mac),
            "addresses": (link.addresses, in_kernel_order(wish.addresses)),
        }
        if not wish.is_tap:
            wanted["group"] = (link.group, str(group_of(self.label)))
            wanted["alias"] = (link.alias, f"ifagent/{self.label}/{name}")
        for what, (has, must) in wanted.items():
            if has != must:
                yield f"{name}: {what} is {has!r}, must be {must!r}"
        if not wish.mac and not int(link.mac[:2], 16) & 2:
            yield f"{name}: its MAC {link.mac} is not one of its own"
        if not wish.is_tap and not any(link.is_end_with(other) for other in self.found.get(wish.peer, [])):
            yield f"{name}: it is not the other end of {wish.peer}"

    def _left_over(self) -> Iterator[str]:
        for link in self.seen.links:
            name = name_of(link, self.label)
            if name in self.expected.links or name in self.expected.frozen or link.place in self.facts.foreign:
                continue
            if name and not self._is_kept_with_another(link):
                yield f"left over: {link.host_name} in {link.space} of {name}"
            elif not name and not self._is_free_tap(link) and not self._may_be_nameless(link):
                yield f"left over: {link.host_name} ({link.kind}) in {link.space}, of nobody"

    def _is_kept_with_another(self, link: Link) -> bool:
        """Tell whether a link is the other end of one that stays as it is."""
        return any(link.is_end_with(other) for name in self.expected.frozen for other in self.found.get(name, []))

    def _is_free_tap(self, link: Link) -> bool:
        """Tell whether it is a TAP as its creator made it."""
        mac = self.facts.taps.get(link.host_name)
        return link.space == self.seen.own and link.kind == "tun" and mac == link.mac and not link.addresses

    def _may_be_nameless(self, link: Link) -> bool:
        """Tell whether it may be a link that stays as it is, and whose alias somebody has changed."""
        return bool(self.expected.frozen) and link.group == str(group_of(self.label))

    def _of_others(self) -> Iterator[str]:
        at = {link.place: link for link in self.seen.links}
        yield from (f"gone: the link {place[1]} in {place[0]} of others" for place in self.facts.foreign - at.keys())
        for place in self.facts.foreign & at.keys():
            yield from self._of_other(at[place])
        taps = {link.tap for link in self.seen.links}
        yield from (f"gone: the TAP {name} of others" for name in sorted(self.facts.taps.keys() - taps))

    def _of_other(self, link: Link) -> Iterator[str]:
        """Compare a link of somebody else's, which has something of ours only while an interface asks for it."""
        wish = self.expected.borrowed.get(link.place)
        prefix = f"ifagent-link/{self.label}//"
        if wish is None and link.alias.removeprefix(prefix) in self.expected.frozen:
            return
        wanted = (f"{prefix}{wish.name}", in_kernel_order(wish.addresses)) if wish else ("", ())
        if (link.alias, link.addresses) != wanted:
            yield f"{link.host_name} in {link.space} of others: {link.alias!r} {link.addresses}, must be {wanted}"

    def _namespaces(self) -> Iterator[str]:
        yield from (f"stale: {name} among the named namespaces" for name in sorted(self.seen.stale))
        mentioned = {
            Path(w.space.reference).name for w in self.world.wishes.values() if w.space.kind in {"named", "file"}
        }
        used = {link.space for link in self.seen.links}
        for name, space in self.seen.named.items():
            if name not in mentioned | self.facts.namespaces and space not in used:
                yield f"left over: the namespace {name}"
        for name in sorted(self.facts.namespaces - self.seen.named.keys()):
            yield f"gone: the namespace {name} of others"
