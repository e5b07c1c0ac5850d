"""What the agent knows of its own, and does not take from what a namespace says.

Marks in the kernel can be forged by whoever is root where they are. So what reaches beyond a namespace rests on this
instead: a TAP is given back across namespaces only if the agent remembers that it has adopted that very link, and a
namespace is taken away only if the agent remembers that it has made it. It is kept in a file of the agent's own
(:mod:`ifagent.runtime_file`) before anything is done because of it. Without the file the agent goes on, and does
nothing across a namespace's border for what was there before it started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ifagent.core.link import LinkId, NsId
from ifagent.core.names import HostName, IPInterface, Name
from ifagent.core.operation import Place


class TapAddress(NamedTuple):
    """An address that a TAP's creator has given it; ``peer`` is the other end's where the address has one."""

    interface: IPInterface
    peer: IPv4Address | IPv6Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A TAP that an interface has adopted, and what it was like before.

    ``mac`` and ``mtu`` are as its creator had them when it was adopted or, while the interface has others put in
    their place (``keeps_mac``, ``keeps_mtu``), when that began; empty and 0 where that is not known. ``up``, ``alias``,
    ``master`` (an ifindex, 0 for none), ``master_name`` (empty where it is not known) and ``addresses`` are as they
    were when it was adopted, as far as that is known. ``leaves_addresses`` says that the interface has left the
    addresses to the creator ever since, being ``link_only``, and that moving it has taken none off.
    ``link`` is where the TAP is, ``None`` where only its alias speaks of the adoption, and ``cookie`` that of its
    namespace, whose id may be another one's by now, 0 where it is not known; ``moving_to`` is where it may be by now,
    as a move was about to be asked for.
    """

    name: Name
    host_name: HostName
    mac: str = ""
    mtu: int = 0
    keeps_mac: bool = False
    keeps_mtu: bool = False
    up: bool | None = None
    alias: str = ""
    master: int = 0
    master_name: str = ""
    addresses: tuple[TapAddress, ...] = ()
    leaves_addresses: bool = False
    link: LinkId | None = None
    cookie: int = 0
    moving_to: Place | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """What is to be remembered from now on; ``None`` for an adoption: it is over.

    ``namespaces`` are made by the agent. A namespace's id is ``None`` from before it is made until it was seen.
    """

    adoptions: Mapping[Name, Adoption | None] = field(default_factory=dict)
    namespaces: Mapping[str, NsId | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remembered:
    """``adoptions`` by the interface's name, and the ``namespaces`` that the agent has made, by name."""

    adoptions: Mapping[Name, Adoption] = field(default_factory=dict)
    namespaces: Mapping[str, NsId | None] = field(default_factory=dict)

    def with_learnt(self, learnt: Learnt) -> Remembered:
        """Return this with what was learnt; the same object if that is nothing new."""
        if not (learnt.adoptions or learnt.namespaces):  # as after most plannings, however much is remembered
            return self
        adoptions = {**self.adoptions, **learnt.adoptions}
        known = {name: adoption for name, adoption in adoptions.items() if adoption is not None}
        namespaces = {**self.namespaces, **learnt.namespaces}
        if known == self.adoptions and namespaces == self.namespaces:
            return self
        return Remembered(known, namespaces)

    def without_link(self, link: LinkId, *, own: NsId) -> Remembered:
        """Return this without the adoption of a link that is gone, unless it may just have been moved.

        Of one in the ``own`` namespace no TAP becomes a port again either: another one may get its ifindex.
        """
        learnt: dict[Name, Adoption | None] = {}
        for adoption in self.adoptions.values():
            if adoption.link == link and adoption.moving_to is None:
                learnt[adoption.name] = None
            elif link.namespace == own and link.ifindex == adoption.master:
                learnt[adoption.name] = replace(adoption, master=0, master_name="")
        return self.with_learnt(Learnt(learnt)) if learnt else self

    def with_cookies(self, cookies: Mapping[NsId, int]) -> Remembered:
        """Return this with what adopted TAPs' namespaces are; without a TAP whose namespace is another one by now."""
        learnt: dict[Name, Adoption | None] = {}
        for adoption in self.adoptions.values():
            cookie = cookies.get(adoption.link.namespace, 0) if adoption.link is not None else 0
            if cookie and adoption.cookie != cookie:
                learnt[adoption.name] = None if adoption.cookie else replace(adoption, cookie=cookie)
        return self.with_learnt(Learnt(learnt)) if learnt else self

    def with_names(self, named: Mapping[str, NsId], is_wanted: Callable[[str], bool]) -> Remembered:
        """Return this with what a look at all namespaces that have a name tells of those that the agent has made.

        One that was about to be made is waited for as long as an interface wants it.
        """
        still: dict[str, NsId | None] = {}
        for name, id in self.namespaces.items():
            there = named.get(name)
            if (id is None and (there is not None or is_wanted(name))) or (id is not None and there == id):
                still[name] = there
        return self if still == self.namespaces else Remembered(self.adoptions, still)
