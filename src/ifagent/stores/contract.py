"""What a store is to the agent: a source of what should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ifagent.core.events import Event


class Source(Protocol):
    """Something that declares interfaces."""

    @property
    def name(self) -> str:
        """The source's name in events, states and logs; unique in one agent, without secrets."""

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Declare until cancelled; never returns.

        Emits a :class:`SourceSnapshot` once it knows everything, then a :class:`Declared` for every change.
        Changes that belong together are emitted without an ``await`` between them. Trouble with what is
        behind the source is no exception: it is told by :class:`SourceHealth`, and what was said last stands.
        """


@runtime_checkable
class RemoteSource(Protocol):
    """A source that speaks to other machines: links that lead there are not to be cut."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names or addresses of these machines."""
