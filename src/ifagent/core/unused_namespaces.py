"""Which namespaces the agent has made and nobody refers to any more. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ifagent.core.desired import Desired
from ifagent.core.link import FALLBACK_LINKS, LOOPBACK_IFINDEX, Link, NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.core.observed import Observed
from ifagent.core.ownership import Owner


def unused_namespaces(
    desired: Desired, observed: Observed, owner: Owner
) -> Iterator[tuple[NamespaceRef, NsId, list[Link]]]:
    """Yield them with the links that are left in each, but for what the kernel makes in every namespace."""
    if not desired.complete:
        return
    refs = {interface.namespace for interface in desired.interfaces.values()}
    wanted = {observed.own, *(observed.namespaces.get(ref) for ref in refs)}
    for ref, id in observed.namespaces.items():
        links = observed.links.get(id)
        if links is None or id in wanted or ref.type is not NamespaceType.NAMED:
            continue
        # The mark alone may be forged.
        made = observed.remembered.namespaces
        if not (ref.reference in made and made[ref.reference] in {None, id}):
            continue
        if owner.made_namespace(links.get(LOOPBACK_IFINDEX)):
            left = (link for link in links.values() if link.id.ifindex != LOOPBACK_IFINDEX)
            yield ref, id, [link for link in left if link.host_name not in FALLBACK_LINKS]
