"""Random values, and random changes of what is in the kernel, over a small set of names, so that they meet."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from chaos.values import OWN, Space, Wish

MTUS = (0, 0, 0, 1400, 9000, 1280, 65535, 600)
SMALLEST_FOR_IPV6 = 1280


class Universe:
    """Every name that there is, and how to choose among them."""

    def __init__(self, chance: random.Random, *, pairs: int, taps: int, containers: bool) -> None:
        self._random = chance
        self._pairs = pairs
        self.tap_names = [f"t{number}" for number in range(taps)]
        self.existing = [f"e{number}" for number in range(2)]
        self.names = [f"{side}{number}" for number in range(pairs) for side in "ab"] + self.tap_names + self.existing
        self.taps = [f"vpp-{name}" for name in self.tap_names]
        self.named = [Space("named", f"s{number}") for number in range(5)]
        self.processes = [Space("pid", f"p{number}") for number in range(3)]
        self.aliases = [Space("file", f"/run/netns/s{number}") for number in range(2)]
        self.crowd = [f"{side}{number}" for number in range(30) for side in "cd"]
        self.files = [Space("file", f"f{number}") for number in range(2)]
        self.microservices = [Space("microservice", f"m{number}") for number in range(2)] if containers else []
        self.contested = [f"h{number}" for number in range(4)] + self.names[:4]

    def pair_or_tap(self, name: str) -> list[Wish]:
        """Return new values: of both ends of a pair, the one asked for first, of one TAP or of one existing link."""
        if name in self.existing:
            only = self._random.random() < 0.3
            space = self._random.choice([OWN, *self.named])
            wish = Wish(name=name, existing=True, link_only=only, space=space, enabled=True)
            return [self._changed(self._changed(wish, "host_if_name"), "addresses")]
        if name in self.tap_names and self._random.random() < 0.8:
            return [self._random_wish(name, temp=f"vpp-{name}")]
        # A name that was a TAP's may become that of another kind.
        peer = f"{'a' if name[0] == 'b' else 'b'}{name[1:]}"
        return [self._random_wish(name, peer=peer), self._random_wish(peer, peer=name)]

    def crowd_of_pairs(self) -> list[Wish]:
        """Return new values of both ends of many pairs."""
        made = []
        for near, far in zip(self.crowd[::2], self.crowd[1::2], strict=True):
            for name, peer in ((near, far), (far, near)):
                wish = Wish(name=name, peer=peer, space=self._random.choice(self.named))
                made.append(self._changed(self._changed(wish, "addresses"), "mtu"))
        return made

    def _random_wish(self, name: str, *, peer: str = "", temp: str = "") -> Wish:
        wish = Wish(name=name, peer=peer, temp=temp)
        for what in ("space", "host_if_name", "mtu", "mac", "addresses", "enabled"):
            wish = self._changed(wish, what)
        return wish

    def change(self, wish: Wish) -> Wish:
        """Return a value with one or two things changed."""
        if wish.existing:
            return self._changed(wish, self._random.choice(["host_if_name", "addresses"]))
        choices = ["space", "host_if_name", "mtu", "mac", "addresses", "addresses", "enabled"]
        for what in self._random.sample(choices, self._random.choice([1, 1, 2])):
            wish = self._changed(wish, what)
        return wish

    def other_partners(self, current: Callable[[str], Wish | None]) -> list[Wish]:
        """Return two pairs whose ends have changed partners, or one of four ends that has."""
        one, other = self._random.sample(range(self._pairs), 2)
        ends = {name: self._at(name, current) for name in (f"a{one}", f"b{one}", f"a{other}", f"b{other}")}
        made = [
            replace(ends[f"{near}{a}"], peer=f"{far}{b}")
            for near, far in ("ab", "ba")
            for a, b in ((one, other), (other, one))
        ]
        return made if self._random.random() < 0.6 else made[:1]

    def _at(self, name: str, current: Callable[[str], Wish | None]) -> Wish:
        return current(name) or self.pair_or_tap(name)[0]

    def _changed(self, wish: Wish, what: str) -> Wish:
        chance = self._random
        match what:
            case "space":
                return replace(wish, space=self._space())
            case "host_if_name":
                given = (
                    "" if chance.random() < (0.1 if wish.existing else 0.7) else chance.choice(self._host_names(wish))
                )
                return replace(wish, host_if_name=given)
            case "mtu":
                wish = replace(wish, mtu=chance.choice(MTUS[:4] if wish.is_tap else MTUS))
            case "mac":
                mac = f"02:00:00:00:{chance.randrange(4):02x}:{[*self.names, *self.crowd].index(wish.name):02x}"
                return replace(wish, mac=mac if chance.random() < 0.5 else "")
            case "addresses":
                count = 0 if wish.link_only else chance.choice([0, 1, 1, 2, 3, 5])
                return self._fitting(replace(wish, addresses=tuple(chance.sample(self._addresses(wish), count))))
            case "enabled":
                return replace(wish, enabled=chance.random() < 0.85)
        return self._fitting(wish)

    def _fitting(self, wish: Wish) -> Wish:
        """Return a value without IPv6 addresses where the MTU is too small for them."""
        if not wish.mtu or wish.mtu >= SMALLEST_FOR_IPV6:
            return wish
        return replace(wish, addresses=tuple(address for address in wish.addresses if ":" not in address))

    def _host_names(self, wish: Wish) -> list[str]:
        return [f"tap{number}" for number in range(2)] if wish.is_tap else self.contested[:4]

    def _space(self) -> Space:
        others = [*self.processes, *self.files, *self.aliases, *self.microservices]
        return self._random.choice([OWN, *self.named, *self.named, *others])

    def _addresses(self, wish: Wish) -> list[str]:
        """Return addresses that no other end of a pair has."""
        side = [*self.names, *self.crowd].index(wish.name)
        return [
            f"10.0.0.{side + 1}/24",
            f"10.0.0.{side + 101}/24",
            f"10.1.{side}.1/24",
            f"10.1.{side}.2/24",
            f"10.1.{side}.2/16",
            f"192.168.{side}.1/32",
            f"2001:db8::{side + 1:x}:1/64",
            f"2001:db8::{side + 1:x}:2/64",
            f"2001:db8:{side + 1:x}::1/48",
            f"fe80::{side + 1:x}:77/64",
        ]

    def drift(self, wish: Wish) -> tuple[tuple[str, ...], Space | None]:
        """Return what somebody does to a link, as words for ``ip``, and where it is moved, if it is."""
        chance = self._random
        kinds = ["down", "flush", "more", "rename"]
        kinds += ["less"] if wish.addresses else []
        # A TAP that somebody moves, or whose alias he takes, is nobody's; its creator ends it by another action. Its
        # MAC and MTU are as its creator has them, and whoever sets them is taken for him.
        kinds += [] if wish.is_tap else ["move", "mtu", "mac", "alias", "delete", "delete"]
        if (kind := chance.choice(kinds)) == "move":
            return ("link", "set", "dev", "DEV", "netns"), chance.choice([OWN, *self.named])
        link = {
            "delete": "delete dev DEV",
            "mtu": f"set dev DEV mtu {chance.choice([1300, 900])}",
            "mac": f"set dev DEV address 02:00:00:00:99:{chance.randrange(256):02x}",
            "down": f"set dev DEV {'down' if wish.enabled else 'up'}",
            "rename": f"set dev DEV name q{chance.randrange(100)}",
            "alias": "set dev DEV alias mine",
        }
        address = {
            "flush": "flush dev DEV scope global",
            "more": f"add 10.9.{chance.randrange(4)}.9/24 dev DEV",
            "less": f"delete {chance.choice(wish.addresses or ('none',))} dev DEV",
        }
        words = f"link {link[kind]}" if kind in link else f"address {address[kind]}"
        return tuple(words.split()), None
