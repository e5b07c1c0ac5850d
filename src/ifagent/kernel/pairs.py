"""Which links are the two ends of a veth, by what each says of the other. Pure.

Each end tells of the other one, but only when something else about it changes: when an end moves to another
namespace, what the other one said last is no longer so. Namespaces are heard over sockets of their own, so what two
of them say may be read in any order. Therefore what each link said last is kept, and who belongs together
is found from all of it, however it came.
"""

from __future__ import annotations

from collections.abc import Iterable

from ifagent.core.link import LinkId


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
        return (*touched, *self._around(end))

    def end(self, end: LinkId) -> Iterable[LinkId]:
        """Forget a link that is gone, or is no veth; return the links whose peers may be different now."""
        if end not in self._said:
            return ()
        return (*self._around(end), *self._forget(end))

    def peer(self, end: LinkId) -> LinkId | None:
        """Return the other end, as far as it is known."""
        chosen = self._choose(end)
        if chosen is None:
            named = self._said.get(end)
            if named in self._said and self._choose(named) == end:
                return named
        return chosen

    def _choose(self, end: LinkId) -> LinkId | None:
        """Return the peer that says so itself: the one that the link names too, else the one that said it last."""
        named = self._said.get(end)
        if named is not None and self._said.get(named) == end:
            return named
        if end not in self._said:
            return None
        return next(reversed(self._by.get(end, {})), None)

    def _forget(self, end: LinkId) -> tuple[LinkId, ...]:
        before = self._around(end)
        named = self._said.pop(end, None)
        if named is not None and (others := self._by.get(named)) is not None:
            others.pop(end, None)
            if not others:
                del self._by[named]
        return before

    def _around(self, end: LinkId) -> tuple[LinkId, ...]:
        """Return a link and all that it has to do with."""
        named = self._said.get(end)
        near = [end, *self._by.get(end, ())]
        if named is not None:
            near += [named, *self._by.get(named, ())]
            beyond = self._said.get(named)
            if beyond is not None:
                near.append(beyond)
        return tuple(near)
