"""Paths that hostile people chose, or that lead over file systems which do not answer (T10)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import anyio
import pytest
from hanging_mount import HangingMount
from spawned import OWN_SPACE, SLEEP, Spawned, open_files
from watched import Watched, until_true, watching

from ifagent.core.namespace_ref import NamespaceType
from ifagent.filesystem.helpers import DoesNotAnswer, Helpers, Limits, Seen, Step
from ifagent.filesystem.walk import MayHang, Walker
from ifagent.nsfs import namespace_at, own_namespace
from ifagent.watchers import paths
from ifagent.watchers.paths import PathWatcher

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

OWN = "/proc/self/ns/net"


@asynccontextmanager
async def running() -> AsyncIterator[Watched]:
    async with watching(PathWatcher(), NamespaceType.FILE) as watched:
        yield watched


@pytest.fixture
def walker() -> Iterator[Walker]:
    walker = Walker()
    yield walker
    walker.close()


def threads_that_wait_for_a_fifo() -> list[str]:
    """Return what threads of this process wait for a partner at a FIFO."""
    found = [(task / "wchan").read_text() for task in Path("/proc/self/task").iterdir()]
    return [place for place in found if "fifo" in place or "partner" in place]


# A path that changes under the eyes of whoever looks


async def test_a_link_that_is_swapped_with_a_fifo_all_the_time_hangs_nothing(tmp_path: Path) -> None:
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        await until_true(lambda: process.space != own_namespace())
        link, fifo, fresh = tmp_path / "link", tmp_path / "fifo", tmp_path / "fresh"
        os.mkfifo(fifo)
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                fresh.symlink_to(f"/proc/{process.pid}/ns/net")
                fresh.rename(link)
                os.link(fifo, fresh)
                fresh.rename(link)

        swapping = threading.Thread(target=swap)
        swapping.start()
        try:
            found = 0
            for _ in range(20_000):
                found += namespace_at_quietly(str(link)) == process.space
            async with running() as watched:
                watched.want(link)
                await watched.until(lambda: len(watched.said) > 2)
                assert not threads_that_wait_for_a_fifo()
                assert found, "it was a namespace sometimes"
        finally:
            stop.set()
            swapping.join()
        fresh.unlink(missing_ok=True)


def namespace_at_quietly(path: str) -> int | None:
    try:
        return namespace_at(path)
    except FileNotFoundError:
        return None


async def test_what_was_found_is_what_is_entered_wherever_the_path_leads_then(tmp_path: Path) -> None:
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        await until_true(lambda: process.space != own_namespace())
        link = tmp_path / "link"
        link.symlink_to(f"/proc/{process.pid}/ns/net")
        async with running() as watched:
            watched.want(link)
            await watched.until_at(link, process.space)
            last = watched.last(link)
            assert last
            link.unlink()
            os.mkfifo(link)
            assert namespace_at(last.path) == process.space
            await watched.until_said(link, "is not a network namespace")


# File systems that do not answer


async def test_a_file_system_that_does_not_answer_holds_up_nobody_else(tmp_path: Path) -> None:
    with HangingMount(tmp_path / "share", target=OWN) as share:
        share.hang()
        async with running() as watched:
            watched.want(share.place / "link")
            watched.want(share.place / "link", OWN)
            await watched.until_at(OWN, own_namespace())
            (tmp_path / "later").symlink_to(OWN)
            watched.want(share.place / "link", OWN, tmp_path / "later")
            await watched.until_at(tmp_path / "later", own_namespace())
            await watched.until_said(share.place / "link", "cannot be looked at: its file system is not responding")


async def test_it_is_found_once_the_file_system_answers(tmp_path: Path) -> None:
    with HangingMount(tmp_path / "share", target=OWN) as share:
        share.hang()
        async with running() as watched:
            watched.want(share.place / "link")
            await watched.until(lambda: "is not responding" in watched.problem(share.place / "link"))
            share.__exit__()
            with HangingMount(tmp_path / "share", target=OWN):
                await watched.until_at(share.place / "link", own_namespace())


async def test_what_was_known_stands_while_the_file_system_does_not_answer(tmp_path: Path) -> None:
    with HangingMount(tmp_path / "share", target=OWN) as share:
        async with running() as watched:
            watched.want(share.place / "link")
            await watched.until_at(share.place / "link", own_namespace())
            share.hang()
            watcher = watched.watcher
            assert isinstance(watcher, PathWatcher)
            await until_true(lambda: watcher._known[str(share.place / "link")].pause)
            assert len(watched.said) == 1
            last = watched.last(share.place / "link")
            assert last
            assert namespace_at(last.path) == own_namespace()


async def test_200_paths_on_it_take_a_few_helpers(tmp_path: Path) -> None:
    with HangingMount(tmp_path / "share") as share:
        share.hang()
        links = [share.place / f"link{number}" for number in range(200)]
        async with running() as watched:
            watched.want(*links, OWN)
            await watched.until_at(OWN, own_namespace())
            for path in links:
                await watched.until(lambda path=path: "is not responding" in watched.problem(path))  # type: ignore[misc]
            assert len(helpers_running()) <= paths.AT_A_TIME


def helpers_running() -> list[int]:
    """Return the helper processes of this process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            parent = int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"helper_process.py" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


class Noting(Helpers):
    """Notes how long each step may take."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def look(self, how: Step, mount: int, directory: int, name: str, *, within: float) -> Seen:
        self.asked.append(within)
        return super().look(how, mount, directory, name, within=within)


def test_a_walk_is_done_in_time_even_if_every_step_is_slow() -> None:
    helpers = Noting()
    with (
        closing(Walker(helpers)) as walker,
        walker.at("/proc/self/root/proc/self/root/proc/self/root/etc"),
    ):
        pass
    assert len(helpers.asked) == 3
    assert sorted(helpers.asked, reverse=True) == helpers.asked
    assert helpers.asked[0] <= helpers.limits.answer_time


def test_a_helper_is_used_again_and_ends_with_its_user(tmp_path: Path) -> None:
    before = open_files()
    with HangingMount(tmp_path / "share", target=OWN) as share:
        walker = Walker()
        first = helpers_running()
        for _ in range(50):
            with walker.at(f"{share.place}/link") as found:
                assert found.place.endswith("/ns/net")
        assert len(helpers_running()) == len(first) + 1
        with pytest.raises(MayHang):
            walker.walk(f"{share.place}/link", patient=False)
        with pytest.raises(FileNotFoundError):
            walker.walk(f"{share.place}/nothing")
        walker.close()
        assert helpers_running() == first
    assert open_files() == before


def test_a_helper_that_is_killed_is_replaced(walker: Walker, tmp_path: Path) -> None:
    with HangingMount(tmp_path / "share", target=OWN) as share:
        walker.walk(f"{share.place}/link").close()
        for pid in helpers_running():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(OSError, match="helper"):
            walker.walk(f"{share.place}/link")
        walker.walk(f"{share.place}/link").close()


def test_there_is_an_end_to_helpers_that_hang(tmp_path: Path) -> None:
    with closing(Walker(Helpers(Limits(answer_time=0.2, helpers=2)))) as walker:
        with (
            HangingMount(tmp_path / "one") as one,
            HangingMount(tmp_path / "two") as two,
            HangingMount(tmp_path / "three") as three,
        ):
            for share in (one, two, three):
                share.hang()
            for share in (one, two):
                with pytest.raises(DoesNotAnswer, match="its file system"):
                    walker.walk(f"{share.place}/link")
            with pytest.raises(DoesNotAnswer, match="too many"):
                walker.walk(f"{three.place}/link")
            assert walker.helpers.lost == 2
        # They end once the kernel lets them.
        for _ in range(500):
            if not walker.helpers.lost:
                break
            signal.sigtimedwait([signal.SIGUSR1], 0.01)
        assert not walker.helpers.lost


async def test_the_process_ends_while_a_path_hangs(tmp_path: Path) -> None:
    program = f"""
import anyio
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.watchers import paths
from ifagent.watchers.paths import PathWatcher
async def main():
    watcher = PathWatcher()
    watcher.want(frozenset({{NamespaceRef(NamespaceType.FILE, {str(tmp_path / "share/link")!r})}}))
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run, lambda event: print(event.problem, flush=True))
        with anyio.open_signal_receiver(15) as signals:
            async for _ in signals:
                group.cancel_scope.cancel()
                return
anyio.run(main)
"""
    with HangingMount(tmp_path / "share") as share:
        share.hang()
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
            assert process.stdout
            assert "is not responding" in process.stdout.readline()
            process.send_signal(number)
            assert process.wait(3) in {0, -9}
            process.stdout.close()


# What nothing tells of


async def test_a_path_below_proc_is_found_once_its_process_is_there(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    with Spawned("sh", "-c", f"echo $$ >{started}; read line; exec unshare -n sleep 600") as process:
        link = tmp_path / "link"
        path = Path(f"/proc/{process.pid}/task/{process.pid}/ns/net")
        link.symlink_to(path)
        async with running() as watched:
            watched.want(link)
            await watched.until_at(link, own_namespace())
            process.tell()
            await until_true(lambda: process.space != own_namespace())
            await watched.until_at(link, process.space)


async def test_a_path_that_changes_all_the_time_is_told_of_a_few_times_a_second(tmp_path: Path) -> None:
    link, fresh = tmp_path / "link", tmp_path / "fresh"
    link.symlink_to(OWN)
    async with running() as watched:
        watched.want(link)
        await watched.until_at(link, own_namespace())
        end = anyio.current_time() + 3.0
        number = 0
        while anyio.current_time() < end:
            number += 1
            fresh.symlink_to(OWN if number % 2 else "nowhere")
            fresh.rename(link)
            await anyio.sleep(0.015)
        assert len(watched.said) <= paths.FLAPS + 6
        fresh.symlink_to(OWN)
        fresh.rename(link)
        await watched.until_at(link, own_namespace())
