"""Processes that go where they want, and references to them that are wanted again."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from spawned import OWN_SPACE, SLEEP, Spawned
from watched import Watched, until_true, watching

from ifagent.core.namespace_ref import NamespaceType
from ifagent.nsfs import own_namespace
from ifagent.watchers.processes import ProcessWatcher

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

WANDERER = """
import ctypes, sys
libc = ctypes.CDLL(None)
for line in sys.stdin:
    libc.unshare(0x40000000)
"""
"""A program that enters another network namespace whenever it is told to."""


@asynccontextmanager
async def running() -> AsyncIterator[Watched]:
    async with watching(ProcessWatcher(), NamespaceType.PID) as watched:
        yield watched


async def test_a_process_that_enters_one_namespace_after_the_other_is_followed() -> None:
    with ExitStack() as stack:
        process = stack.enter_context(Spawned(sys.executable, "-c", WANDERER))
        async with running() as watched:
            watched.want(process.pid)
            await watched.until_at(process.pid, own_namespace())
            before: set[int] = {own_namespace()}
            for _ in range(3):
                process.tell()
                await until_true(lambda: process.space not in before)
                before.add(process.space)
                await watched.until_at(process.pid, process.space)
                # As the agent does that works in it; else the next one may have its number.
                stack.enter_context(open(f"/proc/{process.pid}/ns/net"))  # noqa: PTH123
            process.kill()
            await watched.until_said(process.pid, "has ended")


async def test_looking_at_a_thousand_processes_that_stay_where_they_are_costs_little() -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(Spawned(*OWN_SPACE, *SLEEP)) for _ in range(8)]
        await until_true(lambda: own_namespace() not in {process.space for process in processes})
        from ifagent.watchers.processes import _namespaces_of

        paths = [f"/proc/{process.pid}/ns/net" for process in processes] * 125
        began = time.thread_time()
        found = _namespaces_of(paths)
        assert time.thread_time() - began < 0.2, "a fifth of a core, if it is every second"
        assert set(found) == {process.space for process in processes}


async def test_a_reference_that_is_wanted_again_at_once_is_never_said_to_be_nowhere() -> None:
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        await until_true(lambda: process.space != own_namespace())
        async with running() as watched:
            watched.want(process.pid)
            await watched.until_at(process.pid, process.space)
            for times in range(2, 6):
                watched.want()
                watched.want(process.pid)
                await watched.until_count(times)
            assert {seen.id for seen in watched.said} == {process.space}
