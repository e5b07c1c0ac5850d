"""States out to etcd: one value per interface under ``/vnf-agent/<label>/linux/status/v1/interface/``.

The values hang on a lease that the agent keeps alive, so the states of an agent that died go away by
themselves. The outlet is level-triggered: it holds the state that every key should have, and at the
beginning of each *session* (a lease that is ours, a store that answers) compares it with what is there.
What is there under another lease is written anew, what should not be there is deleted.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import NoReturn

import anyio

from ifagent.core.interface import Name
from ifagent.core.state import Change, InterfaceState, StateEvent
from ifagent.errors import SourceLost
from ifagent.etcd.address import EtcdAddress
from ifagent.etcd.backoff import Backoff
from ifagent.etcd.client import EtcdClient
from ifagent.etcd.keys import key_of, status_prefix
from ifagent.etcd.words import EtcdError
from ifagent.formats.state import encode_state_json
from ifagent.log import log

INTERVAL = 0.05
"""Least seconds between the beginnings of two transactions; changes are collected meanwhile."""

LAST_WORDS = 1.0
"""Most seconds that the outlet takes, when it is cancelled, to take its states back."""


class EtcdStatus:
    """Publishes states for the agent called ``label``; they outlive it by at most ``ttl`` seconds.

    Raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(self, address: EtcdAddress, label: str, *, ttl: float = 10.0) -> None:
        self._address = address
        self._prefix = status_prefix(label)
        self._ttl = ttl
        self._wanted: dict[Name, InterfaceState] = {}
        self._published: dict[bytes, bytes] = {}
        self._dirty: set[Name] = set()
        self._wake = anyio.Event()
        self._lease = 0
        self._sent = 0.0

    async def run(self, events: AsyncIterator[StateEvent]) -> None:
        """Publish every state that ``events`` tells of, until they end or this is cancelled.

        Only what differs from what is there is written: the newest state of each interface, all that came
        in 50 ms in one transaction. The store's absence is waited out and logged once. On the way out the
        lease is revoked, with which all states go.
        """
        async with EtcdClient(self._address) as client:
            try:
                async with anyio.create_task_group() as tg:
                    tg.start_soon(self._publish, client)
                    await self._follow(events)
                    tg.cancel_scope.cancel()
            finally:
                await self._take_back(client)

    async def _follow(self, events: AsyncIterator[StateEvent]) -> None:
        """Note what should be there, until the events end."""
        async for event in events:
            if event.event is Change.GAP:
                continue
            if event.event is Change.DELETED or event.state is None:
                self._wanted.pop(event.name, None)
            else:
                self._wanted[event.name] = event.state
            self._dirty.add(event.name)
            self._wake.set()

    async def _publish(self, client: EtcdClient) -> None:
        """Hold one session after the other."""
        backoff, lost = Backoff(), False
        while True:
            try:
                await self._begin(client)
                if lost:
                    log.info("states are published again")
                lost = False
                backoff.reset()
                await self._hold(client)
            except SourceLost as error:
                if not lost:
                    log.warning("states cannot be published", problem=str(error))
                lost = True
                await anyio.sleep(backoff.next())

    async def _begin(self, client: EtcdClient) -> None:
        """Make sure of a lease, and find out what is there and what has to change."""
        if not (self._lease and await client.keep_alive(self._lease)):
            self._lease = await client.grant(self._ttl)
        values = (await client.range(self._prefix)).values
        wanted = {key_of(self._prefix, name) for name in self._wanted}
        if stale := values.keys() - wanted:
            await client.txn(deletes=stale)
        self._published = {
            key: value.data for key, value in values.items() if value.lease == self._lease and key not in stale
        }
        self._dirty.update(self._wanted)
        self._wake.set()

    async def _hold(self, client: EtcdClient) -> NoReturn:
        """Write changes and keep the lease, until the store or the lease is lost."""
        renew = time.monotonic() + self._ttl / 3
        while True:
            with anyio.move_on_after(renew - time.monotonic()):
                await self._wake.wait()
                await anyio.sleep(max(0, self._sent + INTERVAL - time.monotonic()))
            if time.monotonic() >= renew:
                if not await client.keep_alive(self._lease):
                    raise EtcdError("the lease ran out")
                renew = time.monotonic() + self._ttl / 3
            await self._flush(client)

    async def _flush(self, client: EtcdClient) -> None:
        """Write what changed since the last time, newest states only."""
        dirty, self._dirty, self._wake = self._dirty, set(), anyio.Event()
        self._sent = time.monotonic()
        puts, deletes = {}, set()
        for name in dirty:
            key, state = key_of(self._prefix, name), self._wanted.get(name)
            if state is None:
                if key in self._published:
                    deletes.add(key)
            elif (data := encode_state_json(state)) != self._published.get(key):
                puts[key] = data
        await client.txn(puts=puts, deletes=deletes, lease=self._lease)
        self._published.update(puts)
        for key in deletes:
            del self._published[key]

    async def _take_back(self, client: EtcdClient) -> None:
        if self._lease:
            with anyio.move_on_after(LAST_WORDS, shield=True):
                try:
                    await client.revoke(self._lease)
                except SourceLost as error:
                    log.info("states were left to their lease", problem=str(error))
