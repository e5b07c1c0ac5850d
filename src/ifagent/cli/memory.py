"""Returns memory to the system after most of very many objects are gone.

When a hundred thousand interfaces have been declared and deleted again, the process keeps memory that it does not
need: Python's dicts and sets never shrink by themselves, cyclic garbage waits for a rare collection, and the C library
keeps freed memory. All three are handled here, together, when the process is idle. The last one also matters after a
few values were very large, or written very often.

Python returns memory of small objects in arenas of 1 MiB, and only empty ones, so some of it stays.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from mmap import PAGESIZE
from pathlib import Path
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import anyio
from anyio import to_thread

from ifagent.agent import Agent

GROWN = 32 * 1024**2
"""Bytes by which the process has to have grown for free memory to be returned although no table is nearly empty."""

LARGE = 64 * 1024
"""Size in bytes from which a table is checked."""

EMPTY = 8
"""A large table is shrunk if fewer than one in so many of its slots are used."""

MANY = 10_000
"""Entries of a table from which on there are too many objects for a collection of cyclic garbage."""

_ENTRY = 32
"""Approximate size in bytes of a slot of a table."""

_FEW = 64
"""Most members of a collection that is searched: a larger one has values, and not parts of the agent."""

_APART = "ifagent.kernel."
"""Modules with threads of their own, which may be using a table at the same time."""

Table = dict[Any, Any] | set[Any]


async def hand_back_memory(agent: Agent, *others: object, interval: float = 1.0, idle_load: float = 0.2) -> None:
    """Until cancelled, return memory when most entries of large tables of an agent, others and their parts are gone.

    Looks every ``interval`` seconds, and waits until the process is idle, which is when it takes less than
    ``idle_load`` of a processor. Blocks the event loop for some 50 ms: cyclic garbage is collected only if no table
    is large, since that takes as long as there are objects.
    """
    trim = _trim()
    before, spent, resident = time.monotonic(), time.process_time(), _resident()
    while True:
        await anyio.sleep(interval)
        now, spent_now = time.monotonic(), time.process_time()
        is_idle = spent_now - spent < idle_load * (now - before)
        before, spent = now, spent_now
        if not is_idle:
            continue
        tables = large_tables([agent, *others])
        if empty := [table for table in tables if is_nearly_empty(table)]:
            agent.tidy()
            for table in empty:
                compact(table)
            if all(len(table) < MANY for table in tables):
                gc.collect()
        if trim is not None and (empty or _resident() > resident + GROWN):
            await to_thread.run_sync(trim)
            resident = _resident()
        del tables, empty


def large_tables(roots: Iterable[object]) -> list[Table]:
    """Return the tables of objects, and of the objects that those have, that take much memory.

    Objects are looked into that are of a class of the agent's, and have their attributes in a dict.
    """
    found: list[Table] = []
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict | set) and sys.getsizeof(part) >= LARGE:
            found.append(part)
        waiting.extend(_parts(part))
    return found


def compact(table: Table) -> None:
    """Have a table take as much memory as its entries need; it stays the same object, with the same entries."""
    entries: Any = table.copy()
    table.clear()
    table.update(entries)


def is_nearly_empty(table: Table) -> bool:
    """Tell whether there is next to nothing in a large table."""
    return len(table) * _ENTRY * EMPTY < sys.getsizeof(table)


def _parts(of: object) -> Iterator[object]:
    if isinstance(of, dict | WeakValueDictionary):
        yield from list(of.values()) if len(of) <= _FEW else ()
    elif isinstance(of, list | tuple | set | frozenset | WeakSet):
        yield from list(of) if len(of) <= _FEW else ()
    elif type(of).__module__.startswith("ifagent.") and not type(of).__module__.startswith(_APART):
        attributes: Mapping[str, object] = getattr(of, "__dict__", {})
        yield from list(attributes.values())


def _resident() -> int:
    """Return the resident memory of the process in bytes, 0 if unknown."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGESIZE
    return 0


def _trim() -> Callable[[], object] | None:
    """Return a function that makes the C library return free memory to the system, ``None`` if it has none."""
    with suppress(OSError, AttributeError):
        malloc_trim = ctypes.CDLL(None).malloc_trim
        return lambda: malloc_trim(0)
    return None
