"""Links that no interface is about, as readers of the state stream see them. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from ifagent.core.kinds import KINDS, type_of
from ifagent.core.link import LOOPBACK_IFINDEX, Link
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.report import Beside, link_fields
from ifagent.core.resources import Key, interface_key
from ifagent.core.state import ConfigState, InterfaceState

_TYPES = {name: type_of(kind) for kind in reversed(KINDS) for name in kind.kernel_kinds}
"""What kinds of links are called as types of interfaces; all others are ``existing``."""


def foreign_name(link: Link, ref: NamespaceRef, taken: Container[Key]) -> Name:
    """Return a name that nothing else in a stream has; ``taken`` are the interfaces that there are.

    In the agent's own namespace it is the host name, as in ``eth0``, elsewhere ``eth0@named:ns1``. No host name has a
    colon, so two links never have the same. Where an interface is called so, the ifindex is put behind: ``eth0#2``.
    """
    name = str(link.host_name) if ref.type is NamespaceType.OWN else f"{link.host_name}@{ref}"
    while interface_key(name) in taken:
        name = f"{name}#{link.id.ifindex}"
    return Name(name)


def foreign_state(
    link: Link, beside: Beside, name: Name, ref: NamespaceRef, clock: float, before: InterfaceState | None = None
) -> InterfaceState:
    """Return the state of a link; ``before`` if nothing about it changed. ``clock`` is in Unix seconds."""
    loopback = link.id.ifindex == LOOPBACK_IFINDEX
    kind = "loopback link" if loopback else f"link of kind {link.kind}" if link.kind else "link"
    state = InterfaceState(
        name=name,
        config_state=ConfigState.FOREIGN,
        type="loopback" if loopback else _TYPES.get(link.kind, "existing"),
        reason=f"no interface is declared for this {kind}",
        namespace=ref,
        last_change=before.last_change if before else clock,
        **link_fields(link, beside),
    )
    return before if before == state and before is not None else replace(state, last_change=clock)


def way_to(references: Iterable[NamespaceRef], made: Container[NamespaceRef]) -> NamespaceRef | None:
    """Return by which of the references that lead to a namespace it is told; ``None`` if there is none.

    Those that interfaces make (``made``) come first, then those by name.
    """

    def order(ref: NamespaceRef) -> tuple[bool, bool, bool, str]:
        return ref.type is not NamespaceType.OWN, ref not in made, ref.type is not NamespaceType.NAMED, str(ref)

    return min(references, key=order, default=None)
