"""The contracts of a kind of store: its source, its client, its credentials and options, and its backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from ifagent.core.events import Declaration, Event
from ifagent.core.interface import Interface
from ifagent.core.names import Name
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
        Changes that belong together are emitted without an ``await`` between them. Trouble with the store does not
        raise: it is reported by :class:`SourceHealth`, and the last declarations stay in force.
        """


@runtime_checkable
class RemoteSource(Protocol):
    """A source that connects to other machines: links on the route to them must stay up."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names or addresses of these machines."""


class Store(Protocol):
    """Client for a store and for the states of the agent that reads it; an asynchronous context manager.

    Every method raises :class:`ifagent.errors.SourceLost` when the store cannot be reached.
    """

    async def __aenter__(self) -> Self:
        """Prepare the client; nothing is connected before it is needed."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""

    async def put(self, interfaces: Iterable[Interface]) -> int:
        """Declare or replace interfaces; return the store's revision."""

    async def delete(self, names: Iterable[str]) -> frozenset[Name]:
        """Delete declarations; return the names that were declared."""

    async def declarations(self) -> dict[Name, Declaration]:
        """Return all declarations, sorted by name."""

    async def states(self) -> dict[Name, InterfaceState]:
        """Return every state that the agent publishes now, sorted by name."""

    def watch(self) -> AsyncGenerator[StateEvent, None]:
        """Yield every state the agent publishes now, then each change, without end."""


class Access:
    """Credentials for a store, such as a password: each kind of store has a class of its own."""

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

    It is given in an environment variable, never in an option, which every user could see in ``ps``. Alternatively the
    option ``file_option`` names a file; the variable takes precedence over one that the configuration file names.
    """

    name: str
    variable: str
    file_option: str


class StoreBackend(Protocol):
    """A kind of store, as :mod:`ifagent.stores.registry` knows it.

    ``schemes`` are those of its URLs; ``example`` is one such URL, and ``help`` describes all forms in a few words.
    The objects that the methods return connect only when they are run or entered. Every method raises
    :class:`ifagent.errors.InvalidSettings` for arguments that cannot be used. The methods import the modules that they
    need, so that a program does not load the libraries of stores that it does not use.
    """

    name: str
    schemes: tuple[str, ...]
    example: str
    help: str
    options: tuple[StoreOption, ...]
    secrets: tuple[StoreSecret, ...]

    def access(self, given: Mapping[str, str | Path | None]) -> Access | None:
        """Return the credentials from options and secrets, by their names; reads every file once to check it."""

    def source(self, url: str, *, label: str, access: Access | None) -> Source:
        """Return the source of declarations for the agent called ``label``; its name is the URL."""

    def store(self, url: str, *, label: str, socket: Path, access: Access | None) -> Store:
        """Return the client for the store of the agent called ``label``, whose socket is ``socket``."""

    def outlet(self, url: str, *, label: str, access: Access | None) -> Outlet | None:
        """Return the outlet that publishes the agent's states in the store, ``None`` if it has no place for them."""
