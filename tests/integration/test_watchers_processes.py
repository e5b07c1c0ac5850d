"""References by process id, with real processes: where they lead, and that an id is not a process."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import private
import pytest
from spawned import OWN_SPACE, SLEEP, Spawned, SpawnedAs, free_pid, open_files, pidfds, space_of
from watched import Watched, until_true, watching

from ifagent.core.events import NamespaceSeen
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceType
from ifagent.nsfs import namespace_at, own_namespace
from ifagent.watchers import processes
from ifagent.watchers.process_connector import Connector, named_pids
from ifagent.watchers.processes import ProcessWatcher, Timings

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

READ_THEN = ("sh", "-c", 'read line; exec "$@"', "sh")
"""In front of a command: wait for a line, then become it."""

Connect = Callable[[], Connector]


@asynccontextmanager
async def running(watcher: ProcessWatcher | None = None) -> AsyncIterator[Watched]:
    async with watching(watcher or ProcessWatcher(), NamespaceType.PID) as watched:
        yield watched


@pytest.fixture
def spawned_as() -> type[SpawnedAs]:
    """Give the way to choose a process id."""
    try:
        with SpawnedAs(free_pid(), *SLEEP):
            pass
    except PermissionError as error:
        pytest.skip(str(error))
    return SpawnedAs


@pytest.fixture
def hearing() -> Connect:
    """Give the way to the process connector.

    It speaks in the initial namespaces only; the run may come from there.
    """
    connect = partial(Connector, private.BEFORE)
    try:
        connect().close()
    except OSError as error:
        pytest.skip(f"no process connector here: {error}")
    return connect


def refuse() -> Connector:
    raise ConnectionRefusedError("no connector, says the test")


@pytest.fixture(params=["connector", "interval"])
def hearing_or_not(request: pytest.FixtureRequest) -> Connect:
    """Give the way to the process connector, or to none."""
    hearing: Connect = request.getfixturevalue("hearing") if request.param == "connector" else refuse
    return hearing


async def until_listening(watched: Watched) -> None:
    """Wait until the connector is open, and what happened before has been looked at."""
    watcher = watched.watcher
    assert isinstance(watcher, ProcessWatcher)
    await until_true(lambda: watcher._connector and not watcher._due)


def sockets_open() -> int:
    return sum(file.startswith("socket") for file in open_files())


async def until_moved(watched: Watched, pid: int) -> None:
    await watched.until(lambda: watched.where(pid) not in {None, own_namespace()})
    assert watched.where(pid) == space_of(pid)


# Where a process is


async def test_a_process_is_seen_until_it_is_killed() -> None:
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        async with running() as watched:
            watched.want(process.pid)
            await until_moved(watched, process.pid)
            path = f"/proc/{process.pid}/ns/net"
            assert watched.last(process.pid) == NamespaceSeen(watched.ref(process.pid), NsId(process.space), path)
            process.kill()
            await watched.until_said(process.pid, "has ended")
            assert watched.where(process.pid) is None


async def test_a_process_that_exits_by_itself_has_ended() -> None:
    with Spawned(*READ_THEN, "true") as process:
        async with running() as watched:
            watched.want(process.pid)
            await watched.until_at(process.pid, own_namespace())
            process.tell()
            await watched.until_said(process.pid, "has ended")


async def test_a_zombie_has_ended() -> None:
    with Spawned(*SLEEP) as process:
        process.kill()
        async with running() as watched:
            watched.want(process.pid)
            await watched.until_said(process.pid, "has ended")
            assert len(watched.said) == 1


async def test_a_thread_is_no_process() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        async with running() as watched:
            watched.want(thread.native_id)
            await watched.until_said(thread.native_id, "is not running")
    finally:
        done.set()
        thread.join()


async def test_a_process_that_may_not_be_looked_into_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [PermissionError(13, "Permission denied")] * 2

    def namespace_at_last(path: str) -> NsId | None:
        if answers:
            raise answers.pop()
        return namespace_at(path)

    monkeypatch.setattr(processes, "namespace_at", namespace_at_last)
    async with running() as watched:
        watched.want(os.getpid())
        await watched.until_said(os.getpid(), "cannot be looked into: Permission denied")
        await watched.until_at(os.getpid(), own_namespace())


async def test_too_many_open_files_are_told_and_got_over(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [OSError(24, "Too many open files")] * 2
    pidfd_open = os.pidfd_open

    def pidfd_open_at_last(pid: int) -> int:
        if answers:
            raise answers.pop()
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", pidfd_open_at_last)
    async with running() as watched:
        watched.want(os.getpid())
        await watched.until(lambda: watched.problem(os.getpid()).startswith("cannot be watched: too many open files"))
        await watched.until_at(os.getpid(), own_namespace())


# Waiting


async def test_a_process_is_waited_for(hearing_or_not: Connect, spawned_as: type[SpawnedAs]) -> None:
    pid = free_pid()
    async with running(ProcessWatcher(connect=hearing_or_not)) as watched:
        watched.want(pid)
        await watched.until_said(pid, "is not running")
        with spawned_as(pid, *OWN_SPACE, *SLEEP):
            await until_moved(watched, pid)
        await watched.until_said(pid, "has ended")


async def test_a_process_that_enters_another_namespace_later_is_followed(hearing_or_not: Connect) -> None:
    with Spawned(*READ_THEN, *OWN_SPACE, *SLEEP) as process:
        async with running(ProcessWatcher(connect=hearing_or_not)) as watched:
            watched.want(process.pid)
            await watched.until_at(process.pid, own_namespace())
            process.tell()
            await until_moved(watched, process.pid)


async def test_a_process_on_its_way_elsewhere_is_not_said_to_be_here(hearing_or_not: Connect) -> None:
    with (
        Spawned(*SLEEP) as ended,
        Spawned(*OWN_SPACE, *SLEEP) as elsewhere,
        Spawned(*READ_THEN, *OWN_SPACE, *SLEEP) as process,
    ):
        await until_true(lambda: elsewhere.space != own_namespace())
        async with running(ProcessWatcher(connect=hearing_or_not, timings=Timings(grace=3600))) as watched:
            watched.want(ended.pid, elsewhere.pid, process.pid)
            await until_moved(watched, elsewhere.pid)
            ended.kill()
            await watched.until_said(ended.pid, "has ended")
            process.tell()
            await until_moved(watched, process.pid)
            assert len(watched.said) == 3


async def test_the_connector_is_open_only_while_somebody_is_waited_for(
    hearing_or_not: Connect, spawned_as: type[SpawnedAs]
) -> None:
    pid = free_pid()
    async with running(ProcessWatcher(connect=hearing_or_not)) as watched:
        sockets = sockets_open()
        for _ in range(2):
            watched.want(pid)
            await watched.until_said(pid, "is not running")
            with spawned_as(pid, *OWN_SPACE, *SLEEP):
                await until_moved(watched, pid)
                watched.want(pid, os.getpid())
                await watched.until_at(os.getpid(), own_namespace())
                await until_true(lambda: (sockets_open() > sockets) is (hearing_or_not is not refuse))
                watched.want(pid)
                await until_true(lambda: sockets_open() == sockets)
            await watched.until_said(pid, "has ended")
            assert sockets_open() == sockets
            watched.want()


class Losing(Connector):
    """Loses all events."""

    def read(self) -> None:
        super().read()


@pytest.mark.usefixtures("hearing")
async def test_lost_news_makes_it_look_at_everybody(spawned_as: type[SpawnedAs]) -> None:
    pid = free_pid()
    connect, timings = partial(Losing, private.BEFORE), Timings(interval=3600, grace=3600)
    async with running(ProcessWatcher(connect=connect, timings=timings)) as watched:
        watched.want(pid)
        await watched.until_said(pid, "is not running")
        await until_listening(watched)
        with spawned_as(pid, *OWN_SPACE, *SLEEP):
            await until_moved(watched, pid)


@pytest.mark.usefixtures("hearing")
def test_the_connector_says_when_news_is_lost() -> None:
    listening = Connector(private.BEFORE, buffer=1)
    try:
        for _ in range(20):
            subprocess.run(["true"], check=True)
        heard = [listening.read() for _ in range(10)]
    finally:
        listening.close()
    assert None in heard


def test_the_connector_names_who_forks_and_executes(hearing: Connect) -> None:
    listening = hearing()
    try:
        with Spawned("true") as process:
            pid = process.pid
        named = listening.read()
    finally:
        listening.close()
    assert named
    assert {pid, os.getpid()} <= named


@pytest.mark.parametrize(
    ("what", "ids", "pids"),
    [
        (0x1, (7, 7, 9, 9), (7, 9)),
        (0x1, (7, 7, 9, 7), ()),  # a thread
        (0x2, (8, 7, 0, 0), (7,)),  # a thread that executes is the process from then on
        (0x8000_0000, (7, 7, 0, 17), ()),
    ],
)
def test_messages_of_the_connector(what: int, ids: tuple[int, ...], pids: tuple[int, ...]) -> None:
    message = bytes(36) + struct.pack("=IIQ4I", what, 0, 0, *ids) + bytes(8)
    assert named_pids(message) == pids
    assert named_pids(message[:60]) == ()


# An id is not a process


async def test_a_reused_id_is_not_the_old_process_that_was_waited_for(
    hearing: Connect, spawned_as: type[SpawnedAs], tmp_path: Path
) -> None:
    pid, later = free_pid(), free_pid()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with running(ProcessWatcher(connect=hearing)) as watched:
        first = spawned_as(pid, "sh", "-c", f"read line <{gate}; exec sleep 600")
        try:
            watched.want(pid, later)
            await watched.until_at(pid, own_namespace())
            await until_listening(watched)
            gate.write_text("\n")
            while Path(f"/proc/{pid}/comm").read_text() != "sleep\n":
                pass
        finally:
            first.end()
        # The watcher hears of the old program, of its end and of the new one all at once.
        with spawned_as(pid, *OWN_SPACE, *SLEEP), spawned_as(later, *OWN_SPACE, *SLEEP):
            await watched.until_said(pid, "has ended")
            await until_moved(watched, later)
            assert watched.problem(pid) == "has ended"


async def test_a_reused_id_is_not_the_old_process(hearing: Connect, spawned_as: type[SpawnedAs]) -> None:
    pid, later = free_pid(), free_pid()
    async with running(ProcessWatcher(connect=hearing)) as watched:
        first = spawned_as(pid, *OWN_SPACE, *SLEEP)
        try:
            watched.want(pid, later)
            await until_moved(watched, pid)
        finally:
            first.end()
        with spawned_as(pid, *OWN_SPACE, *SLEEP) as second:
            # Everything happened before the watcher could see any of it.
            await watched.until_said(pid, "has ended")
            with spawned_as(later, *OWN_SPACE, *SLEEP):
                await until_moved(watched, later)
            assert watched.problem(pid) == "has ended"
            watched.want(later)
            watched.want(pid, later)
            await until_moved(watched, pid)
            assert watched.where(pid) == second.space


async def test_an_id_that_is_reused_during_a_look_is_not_the_old_process(
    spawned_as: type[SpawnedAs], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = free_pid()
    with ExitStack() as stack:
        first = stack.enter_context(spawned_as(pid, *SLEEP))

        def reuse_first(path: str) -> NsId | None:
            first.end()
            stack.enter_context(spawned_as(pid, *OWN_SPACE, *SLEEP))
            return namespace_at(path)

        monkeypatch.setattr(processes, "namespace_at", reuse_first)
        async with running() as watched:
            watched.want(pid)
            await watched.until_said(pid, "has ended")
            assert len(watched.said) == 1


# Who is wanted


async def test_what_is_no_longer_wanted_is_let_go_of() -> None:
    with Spawned(*OWN_SPACE, *SLEEP) as one, Spawned(*OWN_SPACE, *SLEEP) as other:
        async with running() as watched:
            watched.want(one.pid, other.pid)
            await until_moved(watched, one.pid)
            await until_moved(watched, other.pid)
            held = len(open_files())
            watched.want(other.pid)
            await until_true(lambda: len(open_files()) == held - 1)
            said = watched.of(one.pid)
            one.kill()
            other.kill()
            await watched.until_said(other.pid, "has ended")
            assert watched.of(one.pid) == said
            watched.want(one.pid, other.pid)
            await watched.until_said(one.pid, "has ended")


async def test_who_is_let_go_of_while_given_time_stays_so() -> None:
    with Spawned(*SLEEP) as one, Spawned(*SLEEP) as other:
        async with running(ProcessWatcher(timings=Timings(grace=0.05))) as watched:
            watched.want(one.pid)
            await until_true(pidfds)
            watched.want(other.pid)
            await watched.until_at(other.pid, own_namespace())
            assert pidfds() == len(watched.said) == 1


async def test_what_is_wanted_before_it_runs_is_said_and_said_again_after_a_restart() -> None:
    watcher = ProcessWatcher()
    for _ in range(2):
        before = open_files()
        async with running(watcher) as watched:
            watched.want(os.getpid())
            await watched.until_at(os.getpid(), own_namespace())
        assert open_files() == before


async def test_nothing_stays_open_after_200_references() -> None:
    async with running() as watched:
        before = open_files()
        for _ in range(2):
            with ExitStack() as stack:
                pids = [stack.enter_context(Spawned(*OWN_SPACE, *SLEEP)).pid for _ in range(200)]
                watched.want(*pids)
                for pid in pids:
                    await until_moved(watched, pid)
                watched.want()
            await until_true(lambda: open_files() == before)
    assert watched.watcher.types == {NamespaceType.PID}


# Processes of another pid namespace


async def test_processes_of_another_pid_namespace() -> None:
    script = "sleep 600 & read line; exec unshare -n sleep 600"
    with Spawned("unshare", "-pf", "--kill-child", "--mount-proc", "sh", "-c", script) as outer:
        proc = await proc_inside(outer.pid)
        async with running(ProcessWatcher(proc)) as watched:
            watched.want(1, 2, 77)
            await watched.until_said(77, "is not running")
            await watched.until_at(1, own_namespace())
            await watched.until_at(2, own_namespace())
            assert watched.last(2) == NamespaceSeen(watched.ref(2), own_namespace(), f"{proc}/2/ns/net")
            outer.tell()
            await watched.until(lambda: watched.where(1) not in {None, own_namespace()})
            (first,) = children_of(outer.pid)
            (second,) = children_of(first)
            os.kill(second, signal.SIGKILL)
            await watched.until_said(2, "has ended")
            os.kill(first, signal.SIGKILL)
            await watched.until_said(1, "has ended")


async def test_a_process_of_another_pid_namespace_may_have_any_name() -> None:
    script = r"printf '\377\376) Z' > /proc/$$/comm; sleep 600 & wait"
    with Spawned("unshare", "-pf", "--kill-child", "--mount-proc", "sh", "-c", script) as outer:
        proc = await proc_inside(outer.pid)
        await until_true(lambda: (proc / "1" / "comm").read_bytes().startswith(b"\xff"))
        async with running(ProcessWatcher(proc)) as watched:
            watched.want(1)
            await watched.until_at(1, own_namespace())


async def proc_inside(pid: int) -> Path:
    """Return the procfs that ``unshare --mount-proc`` has mounted for its child."""
    await until_true(lambda: children_of(pid))
    (first,) = children_of(pid)
    await until_true(lambda: children_of(first))
    return Path(f"/proc/{first}/root/proc")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
