"""Publishes an agent's presence, its health and the state of every interface in etcd.

Everything is written under one lease that the agent keeps alive, so what an agent said goes away by itself when it
has died: the label's lock (:mod:`ifagent.stores.etcd.lock`), the agent's health
(``/vnf-agent/<label>/check/status/v1/agent``), and one value per interface under
``/vnf-agent/<label>/linux/status/v1/interface/``. Nothing is written unless the lock is ours.

The outlet is level-triggered: it holds the value that every key should have, and at the beginning of each *session* (a
lease and a lock that are ours, a store that answers) compares it with what is there. What was not written by us is
written anew, what should not be there is deleted. Every half a minute it looks whether somebody else has written there.

Very many states are written in portions; in between the lease is renewed and the agent's health written.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from hashlib import blake2b
from typing import NamedTuple, NoReturn

import anyio
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from ifagent.core.resources import Key, interface_key
from ifagent.core.state import Change, StateEvent
from ifagent.errors import AgentEnded, SourceLost
from ifagent.formats.keys import StatusKeys, health_key
from ifagent.formats.state import encode_state_json
from ifagent.log import log
from ifagent.outlets.contract import AgentView
from ifagent.pauses import Pauses
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.answers import Value
from ifagent.stores.etcd.backoff import Presence
from ifagent.stores.etcd.client import MAX_TXN_OPS, EtcdClient, chunks
from ifagent.stores.etcd.foreign_keys import ForeignKeys
from ifagent.stores.etcd.health import PublishedHealth
from ifagent.stores.etcd.lock import Holder, LabelLock, Timings
from ifagent.stores.to_publish import ToPublish

INTERVAL = 0.05
"""Least seconds between the beginnings of two transactions; changes are collected meanwhile."""

CHECK = 30.0
"""Seconds between two checks whether other clients have changed published states."""

SOME = MAX_TXN_OPS - 1
"""Most states that are written at a time: the agent's health has a place beside them."""

DELETIONS = 4
"""Most transactions in a row that delete keys of others, before states are written again."""

SHUTDOWN_TIMEOUT = 1.0
"""Most seconds that the outlet takes, when it is cancelled, to withdraw what it has published."""


class _Published(NamedTuple):
    """What we have written under a key: the store's revision, and a digest."""

    revision: int
    digest: bytes


class EtcdOutlet:
    """Publishes for the agent called ``label``; what it publishes outlives the agent by at most ``ttl`` seconds.

    ``holder`` is who has the label then, this process unless given, and ``timings`` say when it shows that it is alive.
    Raises :class:`ifagent.errors.InvalidSettings` for a label that cannot be part of a key.
    """

    def __init__(
        self,
        address: EtcdAddress,
        label: str,
        *,
        holder: Holder | None = None,
        ttl: float = 10.0,
        timings: Timings = Timings(),  # noqa: B008 frozen
    ) -> None:
        self._timings = timings
        self._client = EtcdClient(address)
        self._lock = LabelLock(self._client, label, holder=holder or Holder.here(), ttl=ttl, timings=timings)
        self._keys = StatusKeys(label)
        self._health_key = health_key(label)
        self._health: PublishedHealth
        self._wanted = ToPublish()
        self._published: dict[bytes, _Published] = {}
        self._published_under = 0
        self._follows = False
        self._foreign = ForeignKeys()
        self._compared = False
        self._checked, self._check_at = 0, 0.0
        self._wake = anyio.Event()
        self._sent = 0.0

    @property
    def ports(self) -> tuple[int, ...]:
        """None."""
        return ()

    async def run(self, agent: AgentView, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Have the label and write what should be there, until cancelled.

        ``task_status.started()`` is called once the label is ours, which waits for the end of another agent that
        has it, or at once if the store cannot be reached. What an earlier agent has published stays until the agent is
        ready; then it is taken back as far as the agent does not know it. The store's absence is waited out and logged
        once. On the way out the lease is revoked, with which everything goes. Raises
        :class:`ifagent.errors.LabelTaken` if another agent took the label while the store, or the lease, was lost.
        """
        self._health = PublishedHealth(self._health_key, agent.statistics, heartbeat=self._timings.heartbeat)
        async with self._client:
            try:
                await self._lock.acquire()
                task_status.started()
                await self._speak_for(agent)
            finally:
                await self._take_back()

    async def _speak_for(self, agent: AgentView) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._follow, agent)
                await self._publish()
        except BaseExceptionGroup as errors:
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise

    async def _follow(self, agent: AgentView) -> None:
        """Have the newest state of each interface published from when the agent is ready, until it ends."""
        try:
            await agent.wait_ready()
        except AgentEnded:
            return  # the agent reports the reason itself
        states, pauses = agent.states(), Pauses()
        for event in states.listing():
            self._note(event)
            await pauses.now_and_then()
        self._follows = True
        async for event in states:
            self._note(event)
            await pauses.now_and_then()

    def _note(self, event: StateEvent) -> None:
        if event.event is Change.GAP:
            return
        self._wanted.note(interface_key(event.name), None if event.event is Change.DELETED else event.state)
        self._health.left_out = len(self._wanted.left_out)
        self._wake.set()

    async def _publish(self) -> NoReturn:
        """Hold one session after the other."""
        presence = Presence(self._client.address.limits.longest_wait)
        while True:
            try:
                await self._lock.reacquire()
                self._begin()
                await self._write()
                presence.reached()
                await self._hold(presence)
            except SourceLost as error:
                if presence.lost():
                    log.warning("cannot publish states", problem=str(error))
                await anyio.sleep(presence.wait())

    def _begin(self) -> None:
        """Forget what cannot be there any more, and compare the rest."""
        self._compared, self._foreign = False, ForeignKeys()
        if self._published_under != self._lock.lease:
            self._published, self._published_under = {}, self._lock.lease
        self._wake.set()
        self._health.begin()

    async def _hold(self, presence: Presence) -> NoReturn:
        """Write changes and keep the lease, until the store, the lease or the lock is lost."""
        while True:
            if presence.return_due == 0:
                presence.returned()
                log.info("publishing states again")
            if not (len(self._wanted) or self._foreign):
                with anyio.move_on_after(min(self._timings.health_poll, self._lock.refresh_due)):
                    await self._wake.wait()
            await anyio.sleep(max(0, self._sent + INTERVAL - time.monotonic()))
            await self._lock.refresh()
            await self._write()

    # What is there

    async def _compare(self) -> None:
        """Find out which states are there as we have written them, and delete those that should not be there."""
        there: dict[bytes, _Published] = {}
        async with aclosing(self._client.pages(self._keys.prefix, keys_only=True)) as pages:
            async for page in pages:
                if page.is_first:
                    there, self._checked = {}, page.position.revision
                there.update(self._ours(page.values))
                self._foreign.add(key for key, _ in page.values if self._resource(key) is None)
                await self._keep_up()
        self._published = there
        self._wanted.touch_unless(lambda resource: self._keys.key_of(resource) in there)
        self._compared = True
        self._check_at = time.monotonic() + CHECK

    async def _check(self) -> None:
        """Repair what other clients have written or deleted since the last check."""
        changed, checked, expected = 0, self._checked, len(self._published)
        async with aclosing(
            self._client.pages(self._keys.prefix, keys_only=True, changed_after=self._checked)
        ) as pages:
            async for page in pages:
                checked = page.position.revision
                ours = self._ours(page.values)
                foreign = [key for key, _ in page.values if key not in ours]
                for key in foreign:
                    known = self._published.pop(key, None)
                    if (resource := self._resource(key)) is not None:
                        self._wanted.touch(resource)
                        expected += known is None
                self._foreign.add(key for key in foreign if self._resource(key) is None)
                changed += len(foreign)
                await self._keep_up()
        self._checked = checked
        # The keys of others that wait to be deleted may already be gone: then it is compared once too often.
        if await self._client.count(self._keys.prefix) - len(self._foreign) < expected:
            self._compared = False  # some were deleted
        if changed or not self._compared:
            log.warning("published states were changed by another client, rewriting them", keys=changed)
        self._check_at = time.monotonic() + CHECK

    def _ours(self, values: list[tuple[bytes, Value]]) -> dict[bytes, _Published]:
        """Return the keys of a listing that are as we have written them."""
        return {
            key: known
            for key, value in values
            if (known := self._published.get(key)) and known.revision == value.revision
        }

    def _resource(self, key: bytes) -> Key | None:
        """Return the resource whose state is to be under a key, ``None`` if none is."""
        resource = self._keys.resource_at(key)
        return resource if resource in self._wanted.states and self._keys.key_of(resource) == key else None

    async def _delete_some(self) -> None:
        """Delete some of what others have written; states are written before it goes on."""
        for _ in range(DELETIONS):
            if not (keys := self._foreign.take()):
                break
            await self._lock.write(deletes=[key for key in keys if self._resource(key) is None])
            await self._keep_up()
        if self._foreign.missed and not self._foreign:
            self._foreign, self._compared = ForeignKeys(), False

    # What is to be there

    async def _write(self) -> None:
        """Write what changed since the last time, newest states only, and how the agent is."""
        self._wake = anyio.Event()
        self._sent = time.monotonic()
        await self._keep_up()
        if self._follows and not self._compared:
            await self._compare()
        elif self._follows and time.monotonic() >= self._check_at:
            await self._check()
        left = len(self._wanted)  # what comes meanwhile has its time afterwards
        while left > 0:
            resources = self._wanted.take(min(left, SOME))
            left -= len(resources)
            try:
                await self._write_some(resources)
            except BaseException:
                for resource in resources:
                    self._wanted.touch(resource)
                raise
            await self._keep_up()
        await self._delete_some()

    async def _write_some(self, resources: list[Key]) -> None:
        """Write, or delete, the states of some resources where they are not as they should be."""
        operations: dict[bytes, bytes | None] = dict(self._health.due())
        digests: dict[bytes, bytes] = {}
        for resource in resources:
            key, state = self._keys.key_of(resource), self._wanted.states.get(resource)
            known = self._published.get(key)
            if state is None:
                if known:
                    operations[key] = None
                continue
            data = encode_state_json(state)
            digests[key] = blake2b(data, digest_size=16).digest()
            if known is None or known.digest != digests[key]:
                operations[key] = data
        for chunk in chunks(iter(operations.items())):
            puts = {key: data for key, data in chunk if data is not None}
            revision = await self._lock.write(puts=puts, deletes=[key for key, _ in chunk if key not in puts])
            for key, _ in chunk:
                if key not in puts:
                    self._published.pop(key, None)
                elif key in digests:
                    self._published[key] = _Published(revision, digests[key])
        await checkpoint()

    async def _keep_up(self) -> None:
        """Renew the lease and write the agent's health, if due."""
        await self._lock.refresh()
        if puts := self._health.due():
            await self._lock.write(puts=puts)

    async def _take_back(self) -> None:
        with anyio.move_on_after(SHUTDOWN_TIMEOUT, shield=True):
            try:
                await self._lock.release()
            except SourceLost as error:
                log.info("cannot withdraw published states, they expire with their lease", problem=str(error))
