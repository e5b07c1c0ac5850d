"""One agent per label: a lock key under a lease, and writes that are conditional on holding it.

The value of the key names the holder. An agent that finds the lock held waits until the key is gone: immediately after
the holder has ended properly, or is a dead process of this machine, and otherwise at most one lease later. Every write
of the holder is a transaction with the condition that the key is still under its lease.

Whoever may write values may write this key too. So it is trusted only while its holder shows signs of life: the
agent's health is under the same lease, and is rewritten at every heartbeat (:class:`Timings`). A key without a lease,
or without such a heartbeat, is forged and gets overwritten. A holder whose lease never expired has not lost the lock,
whatever the key says: it writes the key again.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import anyio

from ifagent.errors import InvalidSettings, LabelTaken, SourceLost
from ifagent.formats.keys import health_key, lock_key
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.log import log
from ifagent.stores.etcd.answers import Value
from ifagent.stores.etcd.backoff import Backoff
from ifagent.stores.etcd.client import EtcdClient, LockLost
from ifagent.stores.etcd.errors import EtcdError

HOLDER_POLL = 0.3
"""Seconds between two reads of a lock that another agent holds."""

REMINDER = 60.0
"""Least seconds between two log messages that the key was overwritten."""

MAX_BYTES = 4096
"""Most bytes of the key's value that are parsed."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """When an agent shows that it is alive, and when others are considered dead, in seconds; equal for all agents.

    The health is looked at every ``health_poll``, and written even if unchanged after ``heartbeat``, as ligato v1.4.1
    does. A holder is considered dead when its heartbeat is late by ``takeover_grace``.
    """

    health_poll: float = 1.0
    heartbeat: float = 10.0
    takeover_grace: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that holds a lock, identified precisely enough to tell on the same machine whether it is alive.

    ``started`` is in clock ticks since boot, ``space`` the inode of the process id namespace.
    """

    host: str = ""
    pid: int = 0
    started: int = 0
    boot: str = ""
    space: int = 0

    @classmethod
    def here(cls) -> Self:
        """Identify this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """Identify a process of this machine that is alive, in the process id namespace of this one."""
        return cls(
            host=socket.gethostname(),
            pid=pid,
            started=_started(pid),
            boot=_BOOT_ID.read_text().strip(),
            space=Path("/proc/self/ns/pid").stat().st_ino,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what :meth:`encode` wrote; anything else is an unknown process."""
        given = None
        with suppress(BrokenJson):
            given = read_json(data[:MAX_BYTES])
        if not isinstance(given, dict):
            return cls()
        return cls(**{name: given[name] for name, kind in _FIELDS.items() if _is_sane(given.get(name), kind)})

    def encode(self) -> bytes:
        """Return the value of the key: JSON."""
        return json.dumps(asdict(self)).encode()

    def __str__(self) -> str:
        """Name the process in messages."""
        return f"process {self.pid} on {self.host[:64]}" if self.host else "unknown process"

    def is_dead(self, observer: Holder) -> bool:
        """Tell whether the process has ended; false if it is on another machine than the observer."""
        return (self.boot, self.space) == (observer.boot, observer.space) and _started(self.pid) != self.started


_FIELDS: Mapping[str, type] = {name: type(default) for name, default in asdict(Holder()).items()}


def _is_sane(value: object, kind: type) -> bool:
    """Tell whether a field has the right type and is printable."""
    match value:
        case bool():
            return False
        case int():
            return kind is int and 0 <= value < 2**64
        case str():
            return kind is str and value.isprintable()
        case _:
            return False


def _started(pid: int) -> int:
    """Return when a process was started, 0 if there is no such process or it has ended."""
    try:
        # The name, in parentheses, may have anything in it; the state is field 3, the start field 22.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in {"Z", "X"} else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


class _Signs:
    """Signs of life of another holder, since the lock was first read."""

    def __init__(self) -> None:
        self.is_alive: bool = False
        self._health = 0
        self._since = time.monotonic()

    def note(self, health: Value | None) -> None:
        """Note the health key under another agent's lease, ``None`` if there is none."""
        if health is not None and health.revision != self._health:
            self.is_alive = bool(self._health)
            self._health = health.revision
            self._since = time.monotonic()

    @property
    def quiet_for(self) -> float:
        """Seconds since the last sign of life, or since the first read."""
        return time.monotonic() - self._since


class LabelLock:
    """The lock of the agent called ``label``; it expires ``ttl`` seconds after the store was last reached.

    ``lease`` is the one that the key is under, 0 before the first. Requests raise :class:`EtcdError`.
    """

    def __init__(
        self,
        client: EtcdClient,
        label: str,
        *,
        holder: Holder,
        ttl: float,
        timings: Timings = Timings(),
    ) -> None:
        self.lease: int = 0
        self.ttl = ttl
        self._timings = timings
        self._client = client
        self._label = label
        self._key = lock_key(label)
        self._health = health_key(label)
        self._holder = holder
        self._held_under = 0
        self._refresh_at = 0.0
        self._taken_back = 0
        self._remind_at = 0.0

    @property
    def refresh_due(self) -> float:
        """Seconds until the lease has to be renewed."""
        return max(0.0, self._refresh_at - time.monotonic())

    async def try_acquire(self) -> Holder | None:
        """Take the lock if it is free, or confirm it; return another agent that holds it, ``None`` if it is ours."""
        return await self._take(_Signs())

    async def acquire(self) -> bool:
        """Wait until the lock is ours; return false without waiting if the store cannot be reached.

        Once another holder has been seen, this also waits for an unreachable store to return. Raises
        :class:`InvalidSettings` if this very process holds it already.
        """
        signs, seen, backoff = _Signs(), None, Backoff(self._client.address.limits.longest_wait)
        while True:
            try:
                holder = await self._take(signs)
                if holder is None:
                    return True
                if holder == self._holder:
                    raise InvalidSettings("two of the stores are in one and the same etcd")
                if holder != seen:
                    log.warning(
                        "another agent holds the label, waiting for it to end", label=self._label, holder=holder
                    )
                seen = holder
                backoff.reset()
            except SourceLost as error:
                if seen is None:
                    log.warning(
                        "cannot acquire the label lock, continuing without it", label=self._label, problem=str(error)
                    )
                    return False
                await anyio.sleep(backoff.next())
            else:
                await anyio.sleep(HOLDER_POLL)

    async def reacquire(self) -> None:
        """Confirm the lock, or take it again. Raises :class:`LabelTaken` if another live agent holds it."""
        signs, seen = _Signs(), None
        while (holder := await self._take(signs)) is not None:
            if signs.is_alive:
                log.error("another agent holds the label", label=self._label, holder=holder)
                raise LabelTaken(self._label, str(holder))
            if holder != seen:
                log.warning(
                    "another agent holds the label, waiting to see whether it is still alive",
                    label=self._label,
                    holder=holder,
                )
            seen = holder
            await anyio.sleep(HOLDER_POLL)

    async def refresh(self) -> None:
        """Renew the lease if that is due, and check that the lock is still under it; take the lock back if not."""
        if self.refresh_due:
            return
        if not await self._client.keep_alive(self.lease):
            raise EtcdError("the lease ran out")
        self._refresh_at = time.monotonic() + self.ttl / 3
        found = await self._client.get(self._key)
        if found and found.lease == self.lease:
            return
        self._say_overwritten(found)
        if await self._put(found) is not None:
            raise LockLost(self._key)

    async def write(
        self, *, puts: Mapping[bytes, bytes] | None = None, deletes: Collection[bytes] = frozenset()
    ) -> int:
        """Write under the lease, and delete; return the revision. Raises :class:`LockLost` without the lock."""
        return (await self._client.txn(puts=puts, deletes=deletes, lease=self.lease, held=self._key)).revision

    async def release(self) -> None:
        """Revoke the lease, which deletes the lock and everything written under it."""
        if self.lease:
            await self._client.revoke(self.lease)

    async def _take(self, signs: _Signs) -> Holder | None:
        """Take the lock if it is free, judged by ``signs``; return another holder, ``None`` if it is ours."""
        await self._have_lease()
        there = await self._client.get(self._key)
        health = await self._client.get(self._health)
        signs.note(health if health and health.lease not in {0, self.lease} else None)
        if there and there.lease == self.lease and there.data == self._holder.encode():
            self._held_under = self.lease
            return None
        if self.lease == self._held_under:
            self._say_overwritten(there)
        elif not self._may_take(there, health, signs):
            return Holder.decode(there.data if there else b"")
        found = await self._put(there)
        return None if found is None else Holder.decode(found.data)

    def _may_take(self, there: Value | None, health: Value | None, signs: _Signs) -> bool:
        """Tell whether the lock is free, or forged."""
        if there is None and not (health and health.lease not in {0, self.lease}):
            return True
        if there and Holder.decode(there.data).is_dead(self._holder):
            return True
        grace = self._timings.takeover_grace
        if there and not there.lease:
            # The true holder, if there is one, notices within a third of a lease and takes it back.
            return bool(self._held_under) or signs.quiet_for > self.ttl / 3 + grace / 2
        return signs.quiet_for > self._timings.heartbeat + grace

    async def _put(self, there: Value | None) -> Value | None:
        """Replace ``there`` by our key; return the current value if it has changed meanwhile."""
        mine, since = self._holder.encode(), there.revision if there else 0
        found = await self._client.put_if(self._key, mine, lease=self.lease, unchanged_since=since)
        if found is None or (found.lease == self.lease and found.data == mine):
            self._held_under = self.lease
            return None
        return found

    async def _have_lease(self) -> None:
        """Renew the lease, or get a new one if it has expired."""
        if not (self.lease and await self._client.keep_alive(self.lease)):
            self.lease = await self._client.grant(self.ttl)
        self._refresh_at = time.monotonic() + self.ttl / 3

    def _say_overwritten(self, found: Value | None) -> None:
        """Log, at most once in :data:`REMINDER` seconds, that another client has overwritten our lock."""
        self._taken_back += 1
        if time.monotonic() < self._remind_at:
            return
        self._remind_at = time.monotonic() + REMINDER
        log.warning(
            "label lock was overwritten, taking it back",
            label=self._label,
            holder=Holder.decode(found.data) if found else "none",
            times=self._taken_back,
        )
