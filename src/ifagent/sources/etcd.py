"""Intent from etcd: every value under ``/vnf-agent/<label>/linux/config/v1/interface/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import assert_never

from ifagent.core.events import Declaration, Declared, Event, SourceHealth, SourceRevision, SourceSnapshot
from ifagent.core.interface import Name
from ifagent.etcd.address import EtcdAddress
from ifagent.etcd.client import EtcdClient, Value
from ifagent.etcd.keys import config_prefix, name_of
from ifagent.etcd.watcher import Back, Changes, Lost, Snapshot, watch_prefix
from ifagent.formats import ligato_v1
from ifagent.log import log


class EtcdSource:
    """What the store at ``address`` declares for the agent called ``label``; it calls itself ``name``.

    Raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(self, address: EtcdAddress, label: str, *, name: str = "etcd") -> None:
        self.name = name
        self._address = address
        self._prefix = config_prefix(label)

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Tell ``emit`` what is declared, until cancelled.

        A :class:`SourceSnapshot` comes first, and again when the store forgot what was in between; then one
        :class:`Declared` for every key that changed, all of one transaction without an ``await`` between
        them. :class:`SourceHealth` tells once that the store is lost, and once that it is back; the last say
        stands meanwhile. Never returns, and never raises for trouble with the store.
        """
        async with (
            EtcdClient(self._address) as client,
            aclosing(watch_prefix(client, self._prefix)) as events,
        ):
            async for event in events:
                match event:
                    case Snapshot(revision, values):
                        emit(SourceSnapshot(self.name, self._declarations(values)))
                        emit(SourceRevision(self.name, revision))
                    case Changes(revision, changes):
                        for key, value in changes:
                            self._declare(key, value, emit)
                        emit(SourceRevision(self.name, revision))
                    case Lost(problem):
                        log.warning("the store cannot be heard", source=self.name, problem=problem)
                        emit(SourceHealth(self.name, problem))
                    case Back():
                        log.info("the store can be heard again", source=self.name)
                        emit(SourceHealth(self.name))
                    case _:
                        assert_never(event)

    def _declarations(self, values: Mapping[bytes, Value]) -> dict[Name, Declaration]:
        declarations = {}
        for key, value in values.items():
            if name := name_of(self._prefix, key):
                declarations[name] = _declaration(name, value)
        return declarations

    def _declare(self, key: bytes, value: Value | None, emit: Callable[[Event], None]) -> None:
        if name := name_of(self._prefix, key):
            emit(Declared(self.name, name, _declaration(name, value) if value else None))


def _declaration(name: Name, value: Value) -> Declaration:
    return ligato_v1.declare(value.data, name=name, revision=value.mod_revision)
