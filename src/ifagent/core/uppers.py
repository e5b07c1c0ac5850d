"""What sits on links, and would go with them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ifagent.core.link import OUTLIVES_ITS_LOWER, Link, LinkId

Uppers = dict[LinkId, list[Link]]
"""Links by the link that they sit on."""


def find_uppers(links: Iterable[Link]) -> Uppers:
    """Return what is deleted by the kernel together with a link, whatever its marks say."""
    found: Uppers = {}
    for link in links:
        if link.lower is not None and link.kind not in OUTLIVES_ITS_LOWER:
            found.setdefault(link.lower, []).append(link)
    return found


def split_uppers(
    sitting_on: Mapping[LinkId, list[Link]], is_own: Callable[[Link, LinkId], bool]
) -> tuple[Uppers, Uppers]:
    """Return the links of others that would go with a link, whatever is between, and the agent's own that sit on it."""
    others, own = Uppers(), Uppers()
    for lower, links in sitting_on.items():
        for link in links:
            (own if is_own(link, lower) else others).setdefault(lower, []).append(link)
    for lower, links in own.items():
        waiting, found = list(links), list[Link]()
        seen = {link.id for link in links}
        for upper in waiting:  # grows
            found += others.get(upper.id, ())
            further = [link for link in own.get(upper.id, ()) if link.id not in seen]
            seen |= {link.id for link in further}
            waiting += further
        if found:
            others[lower] = list(dict.fromkeys((*others.get(lower, ()), *found)))
    return others, own
