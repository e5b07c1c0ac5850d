"""Declare interfaces and follow their states through etcd, from any machine that reaches it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Self, assert_never

from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.names import Name
from ifagent.core.resources import by_name
from ifagent.core.state import Change, InterfaceState, StateEvent
from ifagent.core.watched_states import WatchedStates
from ifagent.errors import IfagentError
from ifagent.formats import ligato_v1
from ifagent.formats.families import Families
from ifagent.formats.keys import StatusKeys, config_prefix, config_prefix_v3, key_of
from ifagent.formats.state import decode_state
from ifagent.log import log
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import Changes, Value
from ifagent.stores.etcd.client import EtcdClient
from ifagent.stores.etcd.watcher import Disconnected, Reconnected, Snapshot, watch_prefix


class EtcdStore:
    """Client for the declarations and states of the agent called ``label``; an asynchronous context manager.

    The constructor raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    Every method but :meth:`watch` raises :class:`ifagent.errors.SourceLost` when the store cannot be
    reached, does not answer in time, or refuses.
    """

    def __init__(self, address: EtcdAddress, label: str) -> None:
        self._config = config_prefix(label)
        self._config_v3 = config_prefix_v3(label)
        self._label = label
        self._status = StatusKeys(label)
        self._client = EtcdClient(address)

    async def __aenter__(self) -> Self:
        """Do nothing yet: connections are made when needed."""
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._client.__aexit__(kind, error, trace)

    async def put(self, interfaces: Iterable[Interface]) -> int:
        """Declare interfaces in the format of ligato v1.4.1, and return the store's revision; 0 if there are none.

        Up to 128 of them are one transaction, which an agent handles as one change; more are several transactions,
        in the order given. Of several with the same name the last counts.
        """
        puts = {key_of(self._config, interface.name): ligato_v1.encode(interface) for interface in interfaces}
        return (await self._client.txn(puts=puts)).revision

    async def delete(self, names: Iterable[str]) -> frozenset[Name]:
        """Delete declarations, up to 128 in one transaction; return the names that were declared.

        Those in the format of ligato v3 are deleted too.
        """
        names = tuple(names)
        families = Families(self._label)
        both = (await self._client.range(self._config_v3)).values.keys()
        deletes = [key_of(self._config, name) for name in names]
        deletes += [key for name in names if (key := key_of(self._config_v3, name)) in both]
        deleted = (await self._client.txn(deletes=deletes)).deleted
        return frozenset(resource.name for stored in deleted if (resource := families.resource_at(stored)))

    async def declarations(self) -> dict[Name, Declaration]:
        """Return all declarations, including invalid ones, sorted by name."""
        families = Families(self._label)
        return by_name(families.replace((await self._client.range(*families.prefixes)).values))

    async def states(self) -> dict[Name, InterfaceState]:
        """Return every state that the agent publishes now, sorted by name."""
        return _states(self._status, (await self._client.range(self._status.prefix)).values)

    async def watch(self) -> AsyncGenerator[StateEvent, None]:
        """Yield every state the agent publishes now, then each change, without end.

        A lost store is logged once and waited for; after its return only differences are yielded. ``seq`` starts
        at 1 and grows by one. When an agent withdraws a state, or dies and its lease expires, the last event has both
        statuses ``DELETED``. Close it (``contextlib.aclosing``) when it is left early.
        """
        watched = _WatchedKeys(self._status)
        async with aclosing(watch_prefix(self._client, self._status.prefix)) as events:
            async for event in events:
                match event:
                    case Snapshot(_, values):
                        for change in watched.listed(values):
                            yield change
                    case Changes(_, changes):
                        for key, value in changes:
                            for change in watched.change(key, value.data if value else None):
                                yield change
                    case Disconnected(problem):
                        log.warning("lost connection to the store", problem=problem)
                    case Reconnected():
                        log.info("reconnected to the store")
                    case _:
                        assert_never(event)


class _WatchedKeys(WatchedStates):
    """The states that one watch has yielded, and the keys and data that they were decoded from."""

    def __init__(self, keys: StatusKeys) -> None:
        super().__init__()
        self._keys = keys
        self._first = True
        self._data: dict[bytes, bytes] = {}

    def listed(self, values: Mapping[bytes, Value]) -> Iterator[StateEvent]:
        """Yield what a listing has that was not yielded before, and deletions of what it no longer has."""
        created = Change.SNAPSHOT if self._first else Change.CREATED
        self._first = False
        for key in self._data.keys() - values.keys():
            yield from self.change(key, None)
        for key, value in values.items():
            yield from self.change(key, value.data, created=created)

    def change(self, key: bytes, data: bytes | None, *, created: Change = Change.CREATED) -> Iterator[StateEvent]:
        """Yield the event of one key's new value; nothing if it is unchanged."""
        resource = self._keys.resource_at(key)
        if resource is None or data == self._data.get(key):
            return
        event = None
        if data is None:
            del self._data[key]
            event = self.withdraw(resource.name)
        else:
            self._data[key] = data
            if state := _decode(resource.name, data):
                event = self.difference(resource.name, state, created=created)
        if event is not None:
            yield event


def _states(keys: StatusKeys, values: Mapping[bytes, Value]) -> dict[Name, InterfaceState]:
    decoded = ((keys.resource_at(key), value.data) for key, value in values.items())
    return {key.name: state for key, data in decoded if key and (state := _decode(key.name, data))}


def _decode(name: Name, data: bytes) -> InterfaceState | None:
    """Read a published state; one that cannot be read is left out and logged."""
    try:
        return decode_state(data)
    except IfagentError as error:
        log.warning("cannot read published state", name=name, problem=str(error))
        return None
