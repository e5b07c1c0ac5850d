"""What a store is to the agent, a source of what should be, and what it is to those who direct the agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from ifagent.core.events import Declaration, Event
from ifagent.core.interface import Interface, Name
from ifagent.core.state import InterfaceState, StateEvent


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


class Store(Protocol):
    """A store and the states of the agent that hears it; an asynchronous context manager.

    Every method raises :class:`ifagent.errors.SourceLost` when what is behind it cannot be reached.
    """

    async def __aenter__(self) -> Self:
        """Get ready."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""

    async def put(self, interfaces: Iterable[Interface]) -> int:
        """Declare interfaces, or declare them anew; return the store's revision."""

    async def delete(self, names: Iterable[str]) -> frozenset[Name]:
        """Take declarations back; return the names that were declared."""

    async def declarations(self) -> dict[Name, Declaration]:
        """Return everything that is declared, in the order of names."""

    async def states(self) -> dict[Name, InterfaceState]:
        """Return every state the agent tells now, in the order of names."""

    def watch(self) -> AsyncGenerator[StateEvent, None]:
        """Yield every state the agent tells now, then each change, without end."""
