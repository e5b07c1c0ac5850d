"""Giving back links that the agent has not made, once no interface wants them. Pure; rule 4 of the planner.

Nothing is given back before every source has been heard, or while the value of its interface is not known.
"""

from __future__ import annotations

from collections.abc import Container

from ifagent.core.adoption import found_at, leaving, release_adopted, release_configured, strip_adopted
from ifagent.core.conflicts import kept_for_uppers
from ifagent.core.draft import Draft
from ifagent.core.link import Link, LinkId
from ifagent.core.matches import LinkMatches
from ifagent.core.names import Name
from ifagent.core.plan import Obstacle, Verdict
from ifagent.core.remembered import Adoption
from ifagent.core.state import ConfigState


def plan_releases(draft: Draft, matches: LinkMatches, blocked: Container[Name]) -> None:
    """Plan what gives back links of others that no interface has any more."""
    desired, observed = matches.desired, matches.observed
    if not desired.complete:
        return
    held = desired.held | desired.refused.keys()
    for name, adoption in observed.remembered.adoptions.items():
        if matches.is_lost(adoption):
            draft.adoptions.setdefault(name, None)
    for id, adoption in (matches.adopted | matches.marked_as_adopted).items():
        link, name = observed.link(id), adoption.name
        if link is None or id in matches.interface_at or name in held:
            continue
        if id in matches.marked_as_adopted:
            draft.chain(strip_adopted(link), set() if name in desired.interfaces else {name})
        elif not (matches.adopts(name) and name in blocked):
            _release_adopted(draft, matches, link, adoption)
    for id, configured_mark in matches.configured.items():
        link = observed.link(id)
        if link is not None and id not in matches.interface_at and configured_mark.name not in held:
            master = LinkId(id.namespace, link.master)
            operations = release_configured(link, configured_mark, leaves_master=master in matches.interface_at)
            draft.chain(operations, [configured_mark.name])


def _release_adopted(draft: Draft, matches: LinkMatches, link: Link, adoption: Adoption) -> None:
    """Plan what gives a TAP back; it is remembered until there is nothing left to be done."""
    own, name = matches.observed.own, adoption.name
    uppers = matches.uppers.get(link.id)
    if uppers and link.id.namespace != own:
        obstacle = Obstacle(ConfigState.FAILED, kept_for_uppers(link, uppers[0], "cannot be released"))
        if not draft.is_judged(name):
            draft.judge(name, Verdict(link.id, obstacle))
        return
    if link.id.namespace != own:
        adoption = leaving(adoption)
    operations = release_adopted(matches, link, adoption)
    draft.chain(operations, [name])
    if adoption.link is not None:  # unless it is not known, or the interface has another TAP by now
        draft.adoptions.setdefault(name, found_at(adoption, link, own) if operations else None)
