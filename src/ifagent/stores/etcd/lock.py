"""One agent per label: a key that hangs on a lease, and writes that only its holder can make.

The value of the key says who has the label. An agent that finds it taken waits until the key goes away, which is at
most one lease after the other agent died; at once, if it ended well, or can be seen to be dead because it was a
process of this machine. Every write of the holder goes with the condition that the key is still its own.

Whoever may write values may write this key too. So it is believed only as far as its holder shows that it lives: the
agent's health hangs on the same lease, and is written anew every :data:`HEARTBEAT` seconds. A key without a lease, or
whose lease shows no such sign, is forged and is overwritten. And a holder whose lease was alive all the time has not
lost the label, whatever the key says: it writes the key again.
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

HEARTBEAT = 10.0
"""Seconds after which an agent's health is written even if it has not changed; ligato v1.4.1's."""

TAKEOVER_GRACE = 3.0
"""Seconds beyond the time in which a holder has to show that it lives, after which it counts as none."""

HOLDER_POLL = 0.3
"""Seconds between two looks at a label that somebody else has."""

REMINDER = 60.0
"""Seconds after which it is logged again that the key keeps being overwritten."""

MAX_BYTES = 4096
"""Most bytes of the key's value that are looked at."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that has a label, told well enough to see from the same machine whether it is still there.

    ``started`` is in clock ticks since the boot, ``space`` the number of the process id namespace.
    """

    host: str = ""
    pid: int = 0
    started: int = 0
    boot: str = ""
    space: int = 0

    @classmethod
    def here(cls) -> Self:
        """Return what this process is."""
        pid = os.getpid()
        return cls(
            host=socket.gethostname(),
            pid=pid,
            started=_started(pid),
            boot=_BOOT_ID.read_text().strip(),
            space=Path("/proc/self/ns/pid").stat().st_ino,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what :meth:`encode` wrote; anything else is somebody unknown."""
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
        """Name the process for people."""
        return f"process {self.pid} on {self.host[:64]}" if self.host else "somebody unknown"

    def is_dead(self, observer: Holder) -> bool:
        """Tell whether a process of the observer's machine has ended; false where that cannot be seen."""
        return (self.boot, self.space) == (observer.boot, observer.space) and _started(self.pid) != self.started


_FIELDS: Mapping[str, type] = {name: type(default) for name, default in asdict(Holder()).items()}


def _is_sane(value: object, kind: type) -> bool:
    """Tell whether a field can be what it should be, and be shown."""
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
    """Return when a process was started, 0 if there is none or it has ended."""
    try:
        # The name, in parentheses, may have anything in it; the state is field 3, the start field 22.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in {"Z", "X"} else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


class _Signs:
    """What has been seen of whoever else has the label, since it was first looked at."""

    def __init__(self) -> None:
        self.is_alive: bool = False
        self._health = 0
        self._since = time.monotonic()

    def note(self, health: Value | None) -> None:
        """Note the health that somebody else keeps under a lease, ``None`` if nobody does."""
        if health is not None and health.revision != self._health:
            self.is_alive = bool(self._health)
            self._health = health.revision
            self._since = time.monotonic()

    @property
    def quiet_for(self) -> float:
        """Seconds since the last sign of life, or the first look."""
        return time.monotonic() - self._since


class LabelLock:
    """The right to be the agent called ``label``; lost at most ``ttl`` seconds after the store was last reached.

    ``lease`` is what the key hangs on, 0 before there was one. Requests raise :class:`EtcdError`.
    """

    def __init__(self, client: EtcdClient, label: str, *, holder: Holder, ttl: float) -> None:
        self.lease: int = 0
        self.ttl = ttl
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
        """Seconds until the lease's time has to be started anew."""
        return max(0.0, self._refresh_at - time.monotonic())

    async def try_acquire(self) -> Holder | None:
        """Take the lock if nobody seems to have it, or make sure of it; return who else has it, if somebody does."""
        return await self._take(_Signs())

    async def acquire(self) -> bool:
        """Wait until the lock is ours; return false at once if the store cannot be reached.

        Once somebody else was seen to have it, the store's absence is waited out too. Raises
        :class:`InvalidSettings` if this very process has it already.
        """
        signs, seen, backoff = _Signs(), None, Backoff()
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
        """Make sure of the lock, or take it again. Raises :class:`LabelTaken` if another agent has it and lives."""
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
        """Start the lease's time anew if that is due, and see that the lock still hangs on it; take it back if not."""
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
        """Write under the lease, and delete; return the revision. Raises :class:`LockLost` if the lock is not ours."""
        return (await self._client.txn(puts=puts, deletes=deletes, lease=self.lease, held=self._key)).revision

    async def release(self) -> None:
        """Let go of the lock and of everything that was written."""
        if self.lease:
            await self._client.revoke(self.lease)

    async def _take(self, signs: _Signs) -> Holder | None:
        """Take the lock if it may be taken, as far as ``signs`` go; return who else has it, ``None`` if it is ours."""
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
        """Tell whether the lock is nobody's, or forged."""
        if there is None and not (health and health.lease not in {0, self.lease}):
            return True
        if there and Holder.decode(there.data).is_dead(self._holder):
            return True
        if there and not there.lease:
            # Its true holder, if there is one, sees that within a third of a lease.
            return bool(self._held_under) or signs.quiet_for > self.ttl / 3 + TAKEOVER_GRACE / 2
        return signs.quiet_for > HEARTBEAT + TAKEOVER_GRACE

    async def _put(self, there: Value | None) -> Value | None:
        """Write the key over what is there; return what is there instead if that is something else by now."""
        mine, since = self._holder.encode(), there.revision if there else 0
        found = await self._client.put_if(self._key, mine, lease=self.lease, unchanged_since=since)
        if found is None or (found.lease == self.lease and found.data == mine):
            self._held_under = self.lease
            return None
        return found

    async def _have_lease(self) -> None:
        """Have a lease that lives; another one if the last is gone."""
        if not (self.lease and await self._client.keep_alive(self.lease)):
            self.lease = await self._client.grant(self.ttl)
        self._refresh_at = time.monotonic() + self.ttl / 3

    def _say_overwritten(self, found: Value | None) -> None:
        """Tell that the lock, which has been ours all the time, is not ours any more in the store."""
        self._taken_back += 1
        if time.monotonic() < self._remind_at:
            return
        self._remind_at = time.monotonic() + REMINDER
        log.warning(
            "label lock was overwritten, taking it back",
            label=self._label,
            holder=Holder.decode(found.data) if found else "nobody",
            times=self._taken_back,
        )
