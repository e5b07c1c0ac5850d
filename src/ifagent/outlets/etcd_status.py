"""What an agent is and has, out to etcd: that it is there, how it is, and the state of every interface.

Everything is written under one lease that the agent keeps alive, so what an agent said goes away by itself when it
has died: the label's lock (:mod:`ifagent.etcd.lock`), the agent's health
(``/vnf-agent/<label>/check/status/v1/agent``), and one value per interface under
``/vnf-agent/<label>/linux/status/v1/interface/``. Nothing is written unless the lock is ours.

The outlet is level-triggered: it holds the value that every key should have, and at the beginning of each *session* (a
lease and a lock that are ours, a store that answers) compares it with what is there. What is there under another
lease is written anew, what should not be there is deleted.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import anyio
from anyio.abc import TaskStatus

from ifagent.core.interface import Name
from ifagent.core.state import Change, InterfaceState, StateEvent
from ifagent.errors import SourceLost
from ifagent.etcd.address import EtcdAddress
from ifagent.etcd.backoff import Backoff
from ifagent.etcd.client import EtcdClient
from ifagent.etcd.keys import health_key, key_of, status_prefix
from ifagent.etcd.lock import Holder, LabelLock
from ifagent.formats.health import OperationalState, encode_health
from ifagent.formats.state import encode_state_json
from ifagent.log import log
from ifagent.statistics import Statistics

INTERVAL = 0.05
"""Least seconds between the beginnings of two transactions; changes are collected meanwhile."""

LOOK = 1.0
"""Seconds between two looks at how the agent is."""

HEARTBEAT = 10.0
"""Seconds after which the agent's health is written even if it has not changed; ligato v1.4.1's."""

LAST_WORDS = 1.0
"""Most seconds that the outlet takes, when it is cancelled, to take back what it has said."""


class EtcdStatus:
    """Speaks for the agent called ``label``; what it says outlives the agent by at most ``ttl`` seconds.

    ``statistics`` tells how the agent is; without it no health is published. ``holder`` is who has the label then,
    this process unless given. Raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(
        self,
        address: EtcdAddress,
        label: str,
        *,
        statistics: Callable[[], Statistics] | None = None,
        holder: Holder | None = None,
        ttl: float = 10.0,
    ) -> None:
        self._client = EtcdClient(address)
        self._lock = LabelLock(self._client, label, holder=holder or Holder.here(), ttl=ttl)
        self._prefix = status_prefix(label)
        self._health = Health(health_key(label), statistics) if statistics else None
        self._wanted: dict[Name, InterfaceState] = {}
        self._published: dict[bytes, bytes] = {}
        self._dirty: set[Name] = set()
        self._follows = False
        self._compared = False
        self._wake = anyio.Event()
        self._sent = 0.0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Have the label and write what should be there, until cancelled.

        ``task_status.started()`` is called once the label is ours, which waits for the end of another agent that
        has it, or at once if the store cannot be reached. The store's absence is waited out and logged once. On the
        way out the lease is revoked, with which everything goes. Raises :class:`ifagent.errors.LabelTaken` if
        another agent took the label while the store, or the lease, was lost.
        """
        async with self._client:
            try:
                await self._lock.claim()
                task_status.started()
                await self._publish()
            finally:
                await self._take_back()

    async def follow(self, events: AsyncIterator[StateEvent]) -> None:
        """Have every state that ``events`` tells of published by :meth:`run`, until they end.

        Their snapshot has to be there without a wait. What an earlier agent has published stays until this is
        called; then it is taken back as far as ``events`` do not tell of it. Only what differs from what is there is
        written: the newest state of each interface, all that came in 50 ms in one transaction.
        """
        self._follows = True
        async for event in events:
            if event.event is Change.GAP:
                continue
            if event.event is Change.DELETED or event.state is None:
                self._wanted.pop(event.name, None)
            else:
                self._wanted[event.name] = event.state
            self._dirty.add(event.name)
            self._wake.set()

    async def _publish(self) -> NoReturn:
        """Hold one session after the other."""
        backoff, lost = Backoff(), False
        while True:
            try:
                await self._lock.claim_again()
                self._begin()
                await self._write()
                if lost:
                    log.info("states are published again")
                lost = False
                backoff.reset()
                await self._hold()
            except SourceLost as error:
                if not lost:
                    log.warning("states cannot be published", problem=str(error))
                lost = True
                await anyio.sleep(backoff.next())

    def _begin(self) -> None:
        """Forget what was there."""
        self._published, self._compared = {}, False
        self._dirty.update(self._wanted)
        self._wake.set()
        if self._health:
            self._health.begin()

    async def _hold(self) -> NoReturn:
        """Write changes and keep the lease, until the store, the lease or the lock is lost."""
        third = self._lock.ttl / 3
        renew = time.monotonic() + third
        while True:
            with anyio.move_on_after(min(renew - time.monotonic(), LOOK)):
                await self._wake.wait()
                await anyio.sleep(max(0, self._sent + INTERVAL - time.monotonic()))
            if time.monotonic() >= renew:
                await self._lock.keep()
                renew = time.monotonic() + third
            await self._write()

    async def _compare(self) -> None:
        """Find out which states are there under our lease, and delete those that should not be there."""
        values = (await self._client.range(self._prefix)).values
        wanted = {key_of(self._prefix, name) for name in self._wanted}
        stale = values.keys() - wanted
        await self._lock.write(deletes=frozenset(stale))
        self._published = {
            key: value.data for key, value in values.items() if value.lease == self._lock.lease and key not in stale
        }
        self._compared = True

    async def _write(self) -> None:
        """Write what changed since the last time, newest states only, and how the agent is."""
        if self._follows and not self._compared:
            await self._compare()
        dirty, self._dirty, self._wake = self._dirty, set(), anyio.Event()
        self._sent = time.monotonic()
        puts, deletes = self._health.due() if self._health else {}, set()
        states = {}
        for name in dirty:
            key, state = key_of(self._prefix, name), self._wanted.get(name)
            if state is None:
                if key in self._published:
                    deletes.add(key)
            elif (data := encode_state_json(state)) != self._published.get(key):
                states[key] = data
        await self._lock.write(puts=puts | states, deletes=frozenset(deletes))
        self._published.update(states)
        for key in deletes:
            del self._published[key]

    async def _take_back(self) -> None:
        with anyio.move_on_after(LAST_WORDS, shield=True):
            try:
                await self._lock.release()
            except SourceLost as error:
                log.info("states were left to their lease", problem=str(error))


class Health:
    """How the agent is, under its key: written when it changes, and every 10 s."""

    def __init__(self, key: bytes, statistics: Callable[[], Statistics]) -> None:
        self._key = key
        self._statistics = statistics
        self._version = _version()
        self._start = self._last_change = time.time()
        self._state = OperationalState.INIT
        self._told: tuple[object, ...] = ()
        self._next = 0.0

    def begin(self) -> None:
        """Have it written the next time in any case."""
        self._next = 0.0

    def due(self) -> dict[bytes, bytes]:
        """Return what is to be written now: nothing, or the key and its value."""
        now = self._statistics()
        problems = [f"{source.name}: {source.problem}" for source in now.sources if source.problem]
        problems += [now.trouble] if now.trouble else []
        state = OperationalState.ERROR if problems else OperationalState.OK if now.ready else OperationalState.INIT
        told, moment = (state, *problems), time.time()
        if told == self._told and time.monotonic() < self._next:
            return {}
        if state is not self._state:
            self._state, self._last_change = state, moment
        self._told, self._next = told, time.monotonic() + HEARTBEAT
        value = encode_health(
            state=state,
            start_time=self._start,
            last_change=self._last_change,
            last_update=moment,
            problems=problems,
            build_version=self._version,
        )
        return {self._key: value}


def _version() -> str:
    try:
        return version("ifagent")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return ""
