"""What a kind of store has to have: what should be, read by the agent; the same read and written by others; states."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from ifagent.core.events import Declaration, Event
from ifagent.core.interface import Interface, Name
from ifagent.core.state import InterfaceState, StateEvent
from ifagent.outlets.contract import Outlet


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
        """Return every state the agent publishes now, in the order of names."""

    def watch(self) -> AsyncGenerator[StateEvent, None]:
        """Yield every state the agent publishes now, then each change, without end."""


class Access:
    """What a kind of store asks of whoever reaches it, such as a password: each kind has a class of its own."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class StoreOption:
    """A setting that an :class:`Access` is made of.

    ``etcd_user`` is ``--etcd-user`` on the command line, ``IFAGENT_ETCD_USER`` in the environment, and ``etcd_user`` in
    a configuration file. Its value is a text, or with ``is_file`` a path.
    """

    name: str
    help: str
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class StoreSecret:
    """A secret that an :class:`Access` is made of.

    It is given in a variable of the environment, never in an option, which every user could see. The option
    ``file_option`` names a file that has it otherwise; the variable counts before a file that the configuration file
    names.
    """

    name: str
    variable: str
    file_option: str


class StoreBackend(Protocol):
    """A kind of store, as :mod:`ifagent.stores.registry` knows it.

    ``schemes`` is what its URLs begin with, before the colon; ``example`` is one such URL, and ``help`` says in a few
    words what others there are. Nothing is connected by what is made here before it is run or entered; every method
    raises :class:`ifagent.errors.InvalidSettings` for what cannot be used. Its modules are imported by the methods that
    need them: whoever uses one kind of store does not load the libraries of another.
    """

    name: str
    schemes: tuple[str, ...]
    example: str
    help: str
    options: tuple[StoreOption, ...]
    secrets: tuple[StoreSecret, ...]

    def access(self, given: Mapping[str, str | Path | None]) -> Access | None:
        """Return the access that options and secrets mean, by their names; every file is read once, to be sure."""

    def source(self, url: str, *, label: str, access: Access | None) -> Source:
        """Return what the store declares for the agent called ``label``; its name is the URL."""

    def store(self, url: str, *, label: str, socket: Path, access: Access | None) -> Store:
        """Return the store for those who direct or follow the agent called ``label``, which answers at ``socket``."""

    def outlet(self, url: str, *, label: str, access: Access | None) -> Outlet | None:
        """Return what publishes the agent's states in the store, ``None`` if there is no place for them."""
