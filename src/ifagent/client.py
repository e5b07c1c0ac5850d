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
from ifagent.core.names import Name
from ifagent.core.state import Change, StateEvent
from ifagent.stores import registry
from ifagent.stores.contract import Access, Store
from ifagent.stores.etcd.access import EtcdAccess

__all__ = ["Access", "EtcdAccess", "Store", "default_socket", "open_store", "watch"]


def open_store(url: str, *, label: str, socket: Path | str | None = None, access: Access | None = None) -> Store:
    """Return the store at ``etcd[s]://host:port[,host:port]`` or ``file:PATH`` for the agent called ``label``.

    ``socket`` is the agent's, which a store of files needs for states, unless given :func:`default_socket`; ``access``
    is what the store asks for: etcd takes an :class:`EtcdAccess`. Nothing is connected before it is needed; use it in
    ``async with``. Raises :class:`InvalidSettings` for an address or label that cannot be used.
    """
    return registry.open_store(url, label=label, socket=Path(socket or default_socket(label)), access=access)


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
