"""Intent from etcd: every interface under the keys of ligato v1.4.1 and of ligato v3, see :mod:`ifagent.etcd.keys`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import assert_never

from ifagent.core.events import Declared, Event, SourceHealth, SourceRevision, SourceSnapshot
from ifagent.etcd.address import EtcdAddress
from ifagent.etcd.client import EtcdClient
from ifagent.etcd.families import Families
from ifagent.etcd.watcher import Back, Changes, Lost, Snapshot, WatchEvent, watch_prefix
from ifagent.log import log


class EtcdSource:
    """What the store at ``address`` declares for the agent called ``label``; it calls itself ``name``.

    Raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(self, address: EtcdAddress, label: str, *, name: str = "etcd") -> None:
        self.name = name
        self._address = address
        self._families = Families(label)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The cluster's members."""
        return tuple(endpoint.host for endpoint in self._address.endpoints)

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Tell ``emit`` what is declared, until cancelled.

        A :class:`SourceSnapshot` comes first, and again when the store forgot what was in between; then one
        :class:`Declared` for every name whose keys changed, all of one transaction without an ``await`` between
        them. :class:`SourceHealth` tells once that the store is lost, and once that it is back; the last say
        stands meanwhile. Never returns, and never raises for trouble with the store.
        """
        async with (
            EtcdClient(self._address) as client,
            aclosing(watch_prefix(client, *self._families.prefixes)) as events,
        ):
            async for event in events:
                self._take(event, emit)
                del event  # a snapshot may be large, and the next event a long time away

    def _take(self, event: WatchEvent, emit: Callable[[Event], None]) -> None:
        match event:
            case Snapshot(revision, values):
                emit(SourceSnapshot(self.name, self._families.replace(values)))
                emit(SourceRevision(self.name, revision))
            case Changes(revision, changes):
                for name, declaration in self._families.change(changes).items():
                    emit(Declared(self.name, name, declaration))
                emit(SourceRevision(self.name, revision))
            case Lost(problem):
                log.warning("the store cannot be heard", source=self.name, problem=problem)
                emit(SourceHealth(self.name, problem))
            case Back():
                log.info("the store can be heard again", source=self.name)
                emit(SourceHealth(self.name))
            case _:
                assert_never(event)
