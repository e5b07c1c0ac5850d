"""How other programs direct and follow an agent, from any machine that reaches its store.

::

    async with open_store("etcd://10.0.0.1:2379", label="host1") as store:
        await store.put([Interface(name="a", kind=Veth(peer_if_name="b"), enabled=True)])
        await store.states()

    async with aclosing(watch("etcd://10.0.0.1:2379", label="host1")) as events:
        async for event in events:  # what is so, then every change; restarts of etcd and agent are waited out
            ...

A store of files works the same on the agent's own machine.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ifagent.agent_socket import default_socket
from ifagent.core.interface import Name
from ifagent.core.state import Change, StateEvent
from ifagent.errors import InvalidSettings
from ifagent.etcd.access import Access
from ifagent.stores.contract import Store
from ifagent.stores.files.location import FILE_SCHEME, file_path

__all__ = ["Access", "Store", "default_socket", "open_store", "watch"]

ETCD_SCHEME = "etcd://"
ETCD_TLS_SCHEME = "etcds://"


def is_etcd(url: str) -> bool:
    """Tell whether a store is in etcd."""
    return url.startswith((ETCD_SCHEME, ETCD_TLS_SCHEME))


def no_store(url: str) -> InvalidSettings:
    """Return the error for an address that is none; it does not repeat what may have a password in it."""
    what = "this" if "@" in url else repr(url)
    return InvalidSettings(f"{what} is no store, write {ETCD_SCHEME}HOST:PORT or {FILE_SCHEME}PATH")


def open_store(url: str, *, label: str, socket: Path | str | None = None, access: Access | None = None) -> Store:
    """Return the store at ``etcd[s]://host:port[,host:port]`` or ``file:PATH`` for the agent called ``label``.

    ``socket`` is the agent's, which a store of files needs for states, unless given :func:`default_socket`; ``access``
    is what etcd asks for. Nothing is connected before it is needed; use it in ``async with``. Raises
    :class:`InvalidSettings` for an address or label that cannot be used.
    """
    socket = socket or default_socket(label)
    if url.startswith(FILE_SCHEME):
        from ifagent.stores.files.store import FileStore

        return FileStore(file_path(url), socket=socket)
    if is_etcd(url):
        from ifagent.etcd.address import EtcdAddress
        from ifagent.stores.etcd_store import EtcdStore

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
