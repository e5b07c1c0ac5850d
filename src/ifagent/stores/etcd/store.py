"""Declare interfaces and follow their states through etcd, from any machine that reaches it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Self, assert_never

from ifagent.core.events import Declaration
from ifagent.core.interface import Interface, Name
from ifagent.core.state import Change, InterfaceState, StateEvent
from ifagent.core.watched_states import WatchedStates
from ifagent.errors import IfagentError
from ifagent.formats import ligato_v1
from ifagent.formats.families import Families
from ifagent.formats.keys import config_prefix, config_prefix_v3, key_of, name_of, status_prefix
from ifagent.formats.state import decode_state
from ifagent.log import log
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import Changes, Value
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.watcher import Disconnected, Reconnected, Snapshot, watch_prefix


class EtcdStore:
    """What is declared for, and published by, the agent called ``label``; an asynchronous context manager.

    Making one raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    Every method but :meth:`watch` raises :class:`ifagent.errors.SourceLost` when the store cannot be
    reached, does not answer in time, or refuses.
    """

    def __init__(self, address: EtcdAddress, label: str) -> None:
        self._config = config_prefix(label)
        self._config_v3 = config_prefix_v3(label)
        self._label = label
        self._status = status_prefix(label)
        self._client = EtcdClient(address)

    async def __aenter__(self) -> Self:
        """Get ready; nothing is connected before it is needed."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.__aexit__(kind, error, trace)

    async def put(self, interfaces: Iterable[Interface]) -> int:
        """Declare interfaces, in the way of ligato v1.4.1, and return the store's revision; 0 if there are none.

        Up to 128 of them are one transaction, which an agent takes for one change; more are several, in
        the order given. Of several with one name the last counts.
        """
        puts = {key_of(self._config, interface.name): ligato_v1.encode(interface) for interface in interfaces}
        return (await self._client.txn(puts=puts)).revision

    async def delete(self, names: Iterable[str]) -> frozenset[Name]:
        """Take declarations back, up to 128 in one transaction; return the names that were declared.

        Those that are made in the way of ligato v3 go too.
        """
        names = tuple(names)
        both = (await self._client.range(self._config_v3)).values.keys()
        deletes = [key_of(self._config, name) for name in names]
        deletes += [key for name in names if (key := key_of(self._config_v3, name)) in both]
        deleted = (await self._client.txn(deletes=deletes)).deleted
        prefixes = (self._config, self._config_v3)
        return frozenset(name_of(prefix, key) for key in deleted for prefix in prefixes if key.startswith(prefix))

    async def declarations(self) -> dict[Name, Declaration]:
        """Return everything that is declared, values that are no interface included, in the order of names."""
        families = Families(self._label)
        return families.replace((await self._client.range(*families.prefixes)).values)

    async def states(self) -> dict[Name, InterfaceState]:
        """Return every state that the agent publishes now, in the order of names."""
        return _states(self._status, (await self._client.range(self._status)).values)

    async def watch(self) -> AsyncGenerator[StateEvent, None]:
        """Yield every state the agent publishes now, then each change, without end.

        Trouble with the store is waited out and logged once; afterwards come the differences only. ``seq``
        starts at 1 and grows by one. A last state comes with both statuses ``DELETED`` when an agent takes
        it back, or dies and its lease runs out. Close it (``contextlib.aclosing``) when it is left early.
        """
        seen = _Seen(self._status)
        async with aclosing(watch_prefix(self._client, self._status)) as events:
            async for event in events:
                match event:
                    case Snapshot(_, values):
                        for told in seen.listed(values):
                            yield told
                    case Changes(_, changes):
                        for key, value in changes:
                            for told in seen.change(key, value.data if value else None):
                                yield told
                    case Disconnected(problem):
                        log.warning("lost connection to the store", problem=problem)
                    case Reconnected():
                        log.info("reconnected to the store")
                    case _:
                        assert_never(event)


class _Seen(WatchedStates):
    """What one watch has told, and of which keys and data that was made."""

    def __init__(self, prefix: bytes) -> None:
        super().__init__()
        self._prefix = prefix
        self._first = True
        self._data: dict[bytes, bytes] = {}

    def listed(self, values: Mapping[bytes, Value]) -> Iterator[StateEvent]:
        """Tell what a listing has that was not told, and what it no longer has."""
        created = Change.SNAPSHOT if self._first else Change.CREATED
        self._first = False
        for key in self._data.keys() - values.keys():
            yield from self.change(key, None)
        for key, value in values.items():
            yield from self.change(key, value.data, created=created)

    def change(self, key: bytes, data: bytes | None, *, created: Change = Change.CREATED) -> Iterator[StateEvent]:
        """Tell one key's new value; nothing if it is the old one."""
        name = name_of(self._prefix, key)
        if data == self._data.get(key) or not name:
            return
        event = None
        if data is None:
            del self._data[key]
            event = self.withdraw(name)
        else:
            self._data[key] = data
            if state := _decode(name, data):
                event = self.difference(name, state, created=created)
        if event is not None:
            yield event


def _states(prefix: bytes, values: Mapping[bytes, Value]) -> dict[Name, InterfaceState]:
    decoded = ((name_of(prefix, key), value.data) for key, value in values.items())
    return {name: state for name, data in decoded if name and (state := _decode(name, data))}


def _decode(name: Name, data: bytes) -> InterfaceState | None:
    """Read a published state; one that cannot be read is left out and logged."""
    try:
        return decode_state(data)
    except IfagentError as error:
        log.warning("cannot read published state", name=name, problem=str(error))
        return None
