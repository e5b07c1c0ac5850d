"""Where interfaces are declared and their states can be read, whatever it is behind."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ifagent.core.events import Declaration
from ifagent.core.interface import Interface, Name
from ifagent.core.state import Change, InterfaceState, StateEvent
from ifagent.errors import InvalidSettings
from ifagent.etcd.access import Access

SOCKET_DIRECTORY = Path("/run/ifagent")
"""Where the agents of a machine have their sockets."""

FILE_SCHEME = "file:"
ETCD_SCHEME = "etcd://"
ETCD_TLS_SCHEME = "etcds://"


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


def is_etcd(url: str) -> bool:
    """Tell whether a store is in etcd."""
    return url.startswith((ETCD_SCHEME, ETCD_TLS_SCHEME))


def no_store(url: str) -> InvalidSettings:
    """Return the error for an address that is none; it does not repeat what may have a password in it."""
    what = "this" if "@" in url else repr(url)
    return InvalidSettings(f"{what} is no store, write {ETCD_SCHEME}HOST:PORT or {FILE_SCHEME}PATH")


def file_path(url: str) -> Path:
    """Return the path in ``file:PATH``; relative ones and ``file:///PATH`` are taken too.

    Raises :class:`InvalidSettings` if there is none.
    """
    path = url.removeprefix(FILE_SCHEME)
    if path.startswith("//"):
        host, slash, path = path[2:].partition("/")
        path = slash + path
        if host not in {"", "localhost"}:
            raise InvalidSettings(f"{url!r} names the machine {host!r}, files are on this one: file:PATH")
    if not path or "\0" in path:
        raise InvalidSettings(f"{url!r} has no path, write file:PATH")
    return Path(path)


def default_socket(label: str) -> Path:
    """Return where the socket of the agent called ``label`` is unless it was told otherwise."""
    return SOCKET_DIRECTORY / f"{label}.sock"


def open_store(url: str, *, label: str, socket: Path | str | None = None, access: Access | None = None) -> Store:
    """Return the store at ``etcd[s]://host:port[,host:port]`` or ``file:PATH`` for the agent called ``label``.

    ``socket`` is the agent's, which a store of files needs for states, unless given :func:`default_socket`; ``access``
    is what etcd asks for. Nothing is connected before it is needed; use it in ``async with``. Raises
    :class:`InvalidSettings` for an address or label that cannot be used.
    """
    socket = socket or default_socket(label)
    if url.startswith(FILE_SCHEME):
        from ifagent.client.files import FileStore

        return FileStore(file_path(url), socket=socket)
    if is_etcd(url):
        from ifagent.client.etcd import EtcdStore
        from ifagent.etcd.address import EtcdAddress

        return EtcdStore(EtcdAddress.parse(url, access=access), label)
    raise no_store(url)


async def watch(
    url: str,
    *,
    label: str,
    names: Collection[Name] | None = None,
    socket: Path | str | None = None,
    access: Access | None = None,
) -> AsyncGenerator[StateEvent, None]:
    """Yield every state that the agent called ``label`` tells now, then each change, without end.

    ``names`` restricts it to these interfaces; the other arguments are those of :func:`open_store`. An etcd, or an
    agent, that goes away is waited for, and then come the differences only; with files, an agent that is not there
    at the beginning raises :class:`ifagent.errors.SourceLost`. ``seq`` starts at 1 and grows by one. Close it
    (``contextlib.aclosing``) when it is left early. Raises :class:`InvalidSettings` as :func:`open_store` does.
    """
    seq = 0
    async with open_store(url, label=label, socket=socket, access=access) as store, aclosing(store.watch()) as events:
        async for event in events:
            if names is None or event.name in names or event.event is Change.GAP:
                seq += 1
                yield replace(event, seq=seq)
