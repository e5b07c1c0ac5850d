"""Finds out which links are the two ends of a veth, from the peer that each one's messages name. Pure.

A link's messages name its peer, but are sent only when something else about the link changes: when an end moves to
another namespace, the last message of its peer is outdated. Every namespace has a socket of its own, so messages of
different namespaces may be read in any order. Therefore the peer last named by each link is kept, and pairs are derived
from all of them, in whatever order they came.

A named peer is right if it names the link in return. Otherwise it is right unless another link is right to name this
one, whose own message is then outdated: of the old and the new place of an end, only the new one names its peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ifagent.core.link import LinkId

MAX_OUTDATED: Final = 8
"""How many outdated messages in a row are seen through: one for each move within a short time."""

MAX_AFFECTED: Final = 50
"""Most links that are compared again because of one message; two, if nothing was moved."""


class Pairs:
    """All veth pairs. A link is in here from :meth:`set_named` until :meth:`remove`."""

    def __init__(self) -> None:
        self._named: dict[LinkId, LinkId | None] = {}
        self._named_by: dict[LinkId, dict[LinkId, None]] = {}

    def set_named(self, end: LinkId, peer: LinkId | None) -> Iterable[LinkId]:
        """Record the peer that a link names, ``None`` if it names none in an attached namespace.

        Return the links whose peers may have changed.
        """
        if end in self._named and self._named[end] == peer:
            return ()
        affected = self._forget(end)
        self._named[end] = peer
        if peer is not None:
            self._named_by.setdefault(peer, {})[end] = None
        return affected | self._affected(end)

    def remove(self, end: LinkId) -> Iterable[LinkId]:
        """Forget a link that is gone or not a veth; return the links whose peers may have changed."""
        return self._forget(end) if end in self._named else ()

    def peer(self, end: LinkId) -> LinkId | None:
        """Return the other end, as far as it is known; a guess if that one has another peer."""
        if self._is_right(end, MAX_OUTDATED):
            return self._named[end]
        return next((other for other in self._named_by.get(end, ()) if self._is_right(other, MAX_OUTDATED)), None)

    def _is_right(self, end: LinkId, depth: int) -> bool:
        """Tell whether a link is right about its peer."""
        named = self._named.get(end)
        if named is None or named not in self._named:
            return False
        theirs = self._named[named]
        if theirs == end:
            return True
        if theirs is not None and self._named.get(theirs) == named:
            return False
        if self._is_rightly_named(end, depth):
            return False
        # Of several, the one that named it last.
        names_it = reversed(self._named_by[named])
        return next(other for other in names_it if other == end or not self._is_rightly_named(other, depth)) == end

    def _is_rightly_named(self, end: LinkId, depth: int) -> bool:
        """Tell whether another link is right to name this one."""
        return depth > 0 and any(self._is_right(other, depth - 1) for other in self._named_by.get(end, ()))

    def _forget(self, end: LinkId) -> set[LinkId]:
        affected = self._affected(end)
        named = self._named.pop(end, None)
        if named is not None:
            del self._named_by[named][end]
            if not self._named_by[named]:
                del self._named_by[named]
        return affected

    def _affected(self, end: LinkId) -> set[LinkId]:
        """Return a link and all that are connected with it by naming or being named."""
        found = {end}
        new = [end]
        while new and len(found) < MAX_AFFECTED:
            here = new.pop()
            named = self._named.get(here)
            near = {*self._named_by.get(here, ())} if named is None else {named, *self._named_by.get(here, ())}
            new += near - found
            found |= near
        return found
