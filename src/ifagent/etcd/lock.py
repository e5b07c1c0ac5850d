"""One agent per label: a key that hangs on a lease, and writes that only its holder can make.

The value of the key says who has the label. An agent that finds it taken waits until the key goes away, which is at
most one lease after the other agent died; at once, if it ended well, or can be seen to be dead because it was a
process of this machine. Every write of the holder goes with the condition that the key is still its own.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import anyio

from ifagent.errors import InvalidSettings, LabelTaken, SourceLost
from ifagent.etcd.backoff import Backoff
from ifagent.etcd.client import EtcdClient, NotHeld, Value
from ifagent.etcd.keys import lock_key
from ifagent.etcd.watcher import Changes, Snapshot, watch_prefix
from ifagent.etcd.words import EtcdError
from ifagent.formats.strict_json import BrokenJson, read_json
from ifagent.log import log

PATIENCE = 3.0
"""Seconds beyond a lease after which an agent that still has the label counts as alive."""

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
        self._holder = holder
        self._was_ours = False

    async def take(self) -> Holder | None:
        """Take the lock, or make sure of it; return who else has it, ``None`` if it is ours."""
        if not (self.lease and await self._client.keep_alive(self.lease)):
            self.lease = await self._client.grant(self.ttl)
        there, mine = Value(b"", 0), self._holder.encode()
        while True:
            found = await self._client.put_if(self._key, mine, lease=self.lease, unchanged_since=there.mod_revision)
            if found is None or (found.lease == self.lease and found.data == mine):
                self._was_ours = True
                return None
            holder = Holder.decode(found.data)
            if found.mod_revision and not holder.is_dead(self._holder):
                return holder
            there = found

    async def claim(self) -> bool:
        """Wait until the lock is ours; return false at once if the store cannot be reached.

        Once somebody else was seen to have it, the store's absence is waited out too. Raises
        :class:`InvalidSettings` if this very process has it already.
        """
        seen, backoff = None, Backoff()
        while True:
            try:
                holder = await self.take()
                if holder is None:
                    return True
                if holder == self._holder:
                    raise InvalidSettings("two of the stores are in one and the same etcd")
                if holder != seen:
                    log.warning("another agent has the label, waiting for its end", label=self._label, holder=holder)
                seen = holder
                backoff.reset()
            except SourceLost as error:
                if seen is None:
                    log.warning("the label cannot be claimed, going on", label=self._label, problem=str(error))
                    return False
                await anyio.sleep(backoff.next())
            else:
                await self._wait_free()

    async def claim_again(self) -> None:
        """Make sure of the lock, or take it again. Raises :class:`LabelTaken` if somebody else has it for good.

        An agent that never had it gives a holder the time to be gone: that may be its own predecessor.
        """
        holder = await self.take()
        if holder is not None and not self._was_ours:
            log.warning("another agent has the label, waiting whether it is alive", label=self._label, holder=holder)
            with anyio.move_on_after(self.ttl + PATIENCE):
                await self._wait_free()
            holder = await self.take()
        if holder is not None:
            log.error("another agent has the label", label=self._label, holder=holder)
            raise LabelTaken(self._label, str(holder))

    async def keep(self) -> None:
        """Start the lease's time anew, and see that the lock still hangs on it."""
        if not await self._client.keep_alive(self.lease):
            raise EtcdError("the lease ran out")
        found = await self._client.get(self._key)
        if not found or found.lease != self.lease:
            raise NotHeld(self._key)

    async def write(self, *, puts: dict[bytes, bytes] | None = None, deletes: frozenset[bytes] = frozenset()) -> None:
        """Write under the lease, and delete. Raises :class:`ifagent.etcd.client.NotHeld` if the lock is not ours."""
        await self._client.txn(puts=puts, deletes=deletes, lease=self.lease, held=self._key)

    async def release(self) -> None:
        """Let go of the lock and of everything that was written."""
        if self.lease:
            await self._client.revoke(self.lease)

    async def _wait_free(self) -> None:
        """Wait until nobody has the lock."""
        async with aclosing(watch_prefix(self._client, self._key)) as events:
            async for event in events:
                match event:
                    case Snapshot(_, values) if self._key not in values:
                        return
                    case Changes(_, changes) if (self._key, None) in changes:
                        return
