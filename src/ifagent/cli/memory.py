"""Hands memory back to the system once most of very many things are gone.

Whoever declares a hundred thousand interfaces and takes them back leaves memory behind that nobody else can use:
Python's dicts and sets never become smaller by themselves, garbage in cycles waits for a look that comes rarely, and
the C library keeps what is freed. All three are dealt with here, in one go, when it is quiet. The last of them is also
where few values were very large, or written very often.

What Python has for small objects it gives back by the MiB, and only where nothing is left in one. So some of it stays.
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

LOOK = 1.0
"""Seconds between two looks at whether there is something to hand back."""

QUIET = 0.2
"""Share of a processor of which less is used while nobody waits for anything."""

GROWN = 32 * 1024**2
"""Bytes by which the process has to have grown for free memory to be handed back though no table is nearly empty."""

LARGE = 64 * 1024
"""Bytes from which on a table is worth looking at."""

EMPTY = 8
"""A large table with fewer than one entry for so many that it has room for is to become smaller."""

_ENTRY = 32
"""Bytes for each entry that a table has room for, or a little less."""

_FEW = 64
"""Most members of a collection that are looked into: what has more has values, and not parts of the agent."""

_APART = "ifagent.kernel."
"""Modules with threads of their own, which may be in the midst of using a table."""

Table = dict[Any, Any] | set[Any]


async def hand_back_memory(agent: Agent, *others: object) -> None:
    """Hand memory back when most of what an agent, others and their parts had in large tables is gone.

    Until cancelled. That waits until it is quiet. It holds up the event loop for some 50 ms, longer the more there is
    still.
    """
    trim = _trim()
    before, spent, resident = time.monotonic(), time.process_time(), _resident()
    while True:
        await anyio.sleep(LOOK)
        now, spent_now = time.monotonic(), time.process_time()
        is_quiet = spent_now - spent < QUIET * (now - before)
        before, spent = now, spent_now
        if not is_quiet:
            continue
        if empty := nearly_empty([agent, *others]):
            agent.tidy()
            for table in empty:
                compact(table)
            gc.collect()
        if trim is not None and (empty or _resident() > resident + GROWN):
            await to_thread.run_sync(trim)
            resident = _resident()
        del empty


def nearly_empty(roots: Iterable[object]) -> list[Table]:
    """Return the large tables of objects, and of the objects that those have, in which there is next to nothing.

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
        if isinstance(part, dict | set) and _is_nearly_empty(part):
            found.append(part)
        waiting.extend(_parts(part))
    return found


def compact(table: Table) -> None:
    """Have a table take as much memory as its entries need; it stays the same object, with the same entries."""
    entries: Any = table.copy()
    table.clear()
    table.update(entries)


def _is_nearly_empty(table: Table) -> bool:
    size = sys.getsizeof(table)
    return size >= LARGE and len(table) * _ENTRY * EMPTY < size


def _parts(of: object) -> Iterator[object]:
    if isinstance(of, dict | WeakValueDictionary):
        yield from list(of.values()) if len(of) <= _FEW else ()
    elif isinstance(of, list | tuple | set | frozenset | WeakSet):
        yield from list(of) if len(of) <= _FEW else ()
    elif type(of).__module__.startswith("ifagent.") and not type(of).__module__.startswith(_APART):
        attributes: Mapping[str, object] = getattr(of, "__dict__", {})
        yield from list(attributes.values())


def _resident() -> int:
    """Return how many bytes of memory the process has, 0 where that is not told."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGESIZE
    return 0


def _trim() -> Callable[[], object] | None:
    """Return what has the C library give free memory to the system, ``None`` if it is none that can."""
    with suppress(OSError, AttributeError):
        malloc_trim = ctypes.CDLL(None).malloc_trim
        return lambda: malloc_trim(0)
    return None
