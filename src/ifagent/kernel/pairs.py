"""Which links are the two ends of a veth, by what each says of the other. Pure.

Each end tells of the other one, but only when something else about it changes: when an end moves to another
namespace, what the other one said last is no longer so. Namespaces are heard over sockets of their own, so what two
of them say may be read in any order. Therefore what each link said last is kept, and who belongs together
is found from all of it, however it came.

What a link says is so if the other one says it too. Else it is so unless somebody says so of the link itself, whose own
word is then the older one: of the new and the old place of an end, only the new one names its peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ifagent.core.link import LinkId

FAR: Final = 8
"""How many old words in a row are seen through: one for each move in a short time, from place to place."""

MANY: Final = 50
"""Most links that are looked at again because of what one says; two, if nothing was moved."""


class Pairs:
    """What is known of pairs. A veth is here from :meth:`say` until :meth:`end`."""

    def __init__(self) -> None:
        self._said: dict[LinkId, LinkId | None] = {}
        self._by: dict[LinkId, dict[LinkId, None]] = {}

    def say(self, end: LinkId, peer: LinkId | None) -> Iterable[LinkId]:
        """Take note of what a link says is its peer, ``None`` if it names none that is known.

        Return the links whose peers may be different now.
        """
        if end in self._said and self._said[end] == peer:
            return ()
        touched = self._forget(end)
        self._said[end] = peer
        if peer is not None:
            self._by.setdefault(peer, {})[end] = None
        return touched | self._around(end)

    def end(self, end: LinkId) -> Iterable[LinkId]:
        """Forget a link that is gone, or is no veth; return the links whose peers may be different now."""
        return self._forget(end) if end in self._said else ()

    def peer(self, end: LinkId) -> LinkId | None:
        """Return the other end, as far as it is known; a guess if that one has another."""
        if self._is_so(end, FAR):
            return self._said[end]
        return next((other for other in self._by.get(end, ()) if self._is_so(other, FAR)), None)

    def _is_so(self, end: LinkId, far: int) -> bool:
        """Tell whether a link is right about its peer."""
        named = self._said.get(end)
        if named is None or named not in self._said:
            return False
        theirs = self._said[named]
        if theirs == end:
            return True
        if theirs is not None and self._said.get(theirs) == named:
            return False
        if self._is_named(end, far):
            return False
        # Of several, the one that said it last.
        return (
            next(other for other in reversed(self._by[named]) if other == end or not self._is_named(other, far)) == end
        )

    def _is_named(self, end: LinkId, far: int) -> bool:
        """Tell whether another link is right to name this one."""
        return far > 0 and any(self._is_so(other, far - 1) for other in self._by.get(end, ()))

    def _forget(self, end: LinkId) -> set[LinkId]:
        touched = self._around(end)
        named = self._said.pop(end, None)
        if named is not None:
            del self._by[named][end]
            if not self._by[named]:
                del self._by[named]
        return touched

    def _around(self, end: LinkId) -> set[LinkId]:
        """Return a link and all that it has to do with, by whose word ever."""
        found = {end}
        new = [end]
        while new and len(found) < MANY:
            here = new.pop()
            named = self._said.get(here)
            near = {*self._by.get(here, ())} if named is None else {named, *self._by.get(here, ())}
            new += near - found
            found |= near
        return found
