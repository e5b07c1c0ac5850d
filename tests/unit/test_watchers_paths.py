"""References by file path, with real mounts, links and processes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from asyncinotify import Inotify
from spawned import OWN_SPACE, SLEEP, Spawned, SpawnedAs, free_pid, open_files, pidfds, space_of
from watched import Watched, until_true, watching

from ifagent.core.events import NamespaceSeen
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceType
from ifagent.filesystem.walk import Found, Walker
from ifagent.nsfs import namespace_at, open_namespace_of, own_namespace
from ifagent.watchers import paths
from ifagent.watchers.directories import Directories, PathWatches, WalkCache
from ifagent.watchers.paths import PathWatcher

pytestmark = pytest.mark.anyio

OWN = "/proc/self/ns/net"
GONE = "is not there"
PLAIN = "is not a network namespace"


@asynccontextmanager
async def running(watcher: PathWatcher | None = None) -> AsyncIterator[Watched]:
    async with watching(watcher or PathWatcher(), NamespaceType.FILE) as watched:
        yield watched


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Give a directory, and take away what is mounted in it afterwards."""
    yield tmp_path
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for point in reversed([line.split()[4] for line in lines]):
        if Path(point).is_relative_to(tmp_path):
            run("umount", "--lazy", point)


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=30)


def mount_new(path: Path, kind: str = "net") -> None:
    """Mount a new namespace on a file."""
    if not path.exists():
        path.touch()
    run("unshare", f"--{kind}={path}", "true")


# What is there


async def test_what_is_no_namespace_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    references = [tmp_path / name for name in ("file", "link", "fifo", ".")]
    references += [Path("/"), Path("/dev/null"), Path("/proc/self/ns/mnt"), Path("/proc/self/status")]
    async with running() as watched:
        watched.want(*references)
        for path in references:
            await watched.until_said(path, PLAIN)
            assert watched.last(path) == NamespaceSeen(watched.ref(path), None, problem=PLAIN, invalid=True)


async def test_what_is_not_there_may_come(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    references = [tmp_path / "x", tmp_path / "x/y/z", tmp_path / "file/x", Path("/proc/2147483647/ns/net")]
    async with running() as watched:
        watched.want(*references)
        for path in references:
            await watched.until_said(path, GONE)
            assert watched.last(path) == NamespaceSeen(watched.ref(path), None, problem=GONE)


async def test_only_namespaces_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    opened = []
    os_open = os.open

    def spy(path: str, flags: int, *rest: int, **more: int) -> int:
        found = os_open(path, flags, *rest, **more)
        if not flags & os.O_PATH:
            opened.append(Path(f"/proc/self/fd/{found}").readlink().name.partition(":")[0])
        return found

    monkeypatch.setattr(os, "open", spy)
    async with running() as watched:
        watched.want(tmp_path / "file", OWN)
        await watched.until_said(tmp_path / "file", PLAIN)
        await watched.until_at(OWN, own_namespace())
    assert "net" in opened
    assert "file" not in opened


async def test_loops_of_links_are_told_and_got_over(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    async with running() as watched:
        watched.want(one)
        await watched.until_said(one, "is a loop of symbolic links")
        other.unlink()
        await watched.until_said(one, GONE)
        other.symlink_to(OWN)
        await watched.until_at(one, own_namespace())


async def test_what_cannot_be_opened_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [OSError(errno.EIO, "Input/output error")] * 2

    def open_at_last(place: int) -> tuple[NsId, int] | None:
        if answers:
            raise answers.pop()
        return open_namespace_of(place)

    monkeypatch.setattr(paths, "open_namespace_of", open_at_last)
    async with running() as watched:
        watched.want(OWN)
        await watched.until_said(OWN, "cannot be opened: Input/output error")
        await watched.until_at(OWN, own_namespace())


async def test_a_way_that_cannot_be_watched_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Inotify, "add_watch", no_space)
    async with running() as watched:
        watched.want(tmp_path / "link")
        await watched.until_said(tmp_path / "link", GONE)
        (tmp_path / "link").symlink_to(OWN)
        await watched.until_at(tmp_path / "link", own_namespace())


# Links and directories


async def test_a_link_is_followed_wherever_it_changes(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "there").symlink_to("deep/../deep/er")
    path = tmp_path / "there" / "link"
    async with running() as watched:
        watched.want(path)
        await watched.until_said(path, GONE)
        (tmp_path / "deep/er/link").symlink_to("../target")
        (tmp_path / "deep/target").symlink_to(OWN)
        await watched.until_at(path, own_namespace())
        (tmp_path / "deep/target").unlink()
        await watched.until_said(path, GONE)
        (tmp_path / "deep/target").touch()
        await watched.until_said(path, PLAIN)
        (tmp_path / "deep/new").symlink_to(OWN)
        (tmp_path / "deep/new").rename(tmp_path / "deep/target")
        await watched.until_at(path, own_namespace())
        (tmp_path / "there").unlink()
        await watched.until_said(path, GONE)
        (tmp_path / "there").symlink_to(tmp_path / "deep/er")
        await watched.until_at(path, own_namespace())


async def test_directories_may_come_and_go(tmp_path: Path) -> None:
    directory = tmp_path / "a/b/c"
    path = directory / "link"
    async with running() as watched:
        watched.want(path)
        await watched.until_said(path, GONE)
        for _ in range(3):
            directory.mkdir(parents=True)
            path.symlink_to(OWN)
            await watched.until_at(path, own_namespace())
            (tmp_path / "a").rename(tmp_path / "moved")
            await watched.until_said(path, GONE)
            (tmp_path / "moved").rename(tmp_path / "a")
            await watched.until_at(path, own_namespace())
            path.unlink()
            directory.rmdir()
            directory.parent.rmdir()
            directory.parent.parent.rmdir()
            await watched.until_said(path, GONE)


async def test_a_directory_that_is_made_again_at_once_is_seen(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    path = directory / "link"
    async with running() as watched:
        watched.want(path)
        await watched.until_said(path, GONE)
        for _ in range(3):
            directory.mkdir()
            await until_true(lambda: watches() >= len(directory.parts) - 1)
            directory.rmdir()
            directory.mkdir()
            path.symlink_to(OWN)
            await watched.until_at(path, own_namespace())
            path.unlink()
            directory.rmdir()
            await watched.until_said(path, GONE)


def watches() -> int:
    """Count the inotify watches that the process has."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the directory itself
            if str(entry.readlink()) == "anon_inode:inotify":
                lines = Path(f"/proc/self/fdinfo/{entry.name}").read_text().splitlines()
                count += sum(line.startswith("inotify") for line in lines)
    return count


async def test_thousands_of_paths_in_a_directory_take_one_watch(tmp_path: Path) -> None:
    references = [tmp_path / f"x{number}" for number in range(3000)]
    async with running() as watched:
        watched.want(references[0])
        await watched.until_said(references[0], GONE)
        before = watches()
        watched.want(*references)
        await watched.until(lambda: len(watched.said) == len(references))
        assert watches() == before
        references[7].symlink_to(OWN)
        await watched.until_at(references[7], own_namespace())
        assert len(watched.said) == len(references) + 1
        watched.want()
        await until_true(lambda: watches() == 0)


async def test_names_that_nobody_asked_for_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    walk = Walker.walk

    def spy(walker: Walker, path: str, **more: Any) -> Found:
        looked.append(path)
        return walk(walker, path, **more)

    monkeypatch.setattr(Walker, "walk", spy)
    async with running() as watched:
        watched.want(tmp_path / "x", tmp_path / "y")
        await watched.until(lambda: len(watched.said) == 2)
        looked.clear()
        for number in range(100):
            (tmp_path / f"file{number}").touch()
        (tmp_path / "y").touch()
        await watched.until_said(tmp_path / "y", PLAIN)
        assert set(looked) == {str(tmp_path / "y")}


async def test_ways_that_no_longer_matter_are_forgotten(tmp_path: Path) -> None:
    directories, walker = Directories(interval=1.0), Walker()
    try:
        directories.listen(lambda _: None)
        ways = {name: PathWatches() for name in ("one", "other")}
        for name, way in ways.items():
            with suppress(FileNotFoundError):
                walker.walk(str(tmp_path / name), visit=directories.visit(way, known=WalkCache()))
        directories.set_ways({name: frozenset(way.steps) for name, way in ways.items()})
        (last,) = ways["one"].steps - ways["other"].steps
        shared = next(iter(ways["one"].steps & ways["other"].steps))
        assert directories.paths_by(last) == {"one"}
        assert directories.paths_by(shared) == {"one", "other"}
        directories.set_ways({"one": frozenset()})
        assert directories.paths_by(last) == frozenset()
        assert directories.paths_by(shared) == {"other"}
    finally:
        directories.close()
        walker.close()


# Mounts


@pytest.mark.kernel
async def test_a_mounted_namespace_comes_and_goes(place: Path) -> None:
    path = place / "space"
    async with running() as watched:
        watched.want(path)
        await watched.until_said(path, GONE)
        path.touch()
        await watched.until_said(path, PLAIN)
        mount_new(path)
        first = path.stat().st_ino
        await watched.until_at(path, first)
        last = watched.last(path)
        assert last
        assert namespace_at(last.path) == first, "whoever enters it does so through a file that is open"
        mount_new(path)
        second = path.stat().st_ino
        await watched.until_at(path, second)
        run("umount", path)
        await watched.until_at(path, first)
        run("umount", path)
        await watched.until_said(path, PLAIN)
        path.unlink()
        await watched.until_said(path, GONE)


@pytest.mark.kernel
async def test_a_namespace_of_another_type_is_invalid(place: Path) -> None:
    path = place / "uts"
    mount_new(path, kind="uts")
    async with running() as watched:
        watched.want(path)
        await watched.until_said(path, PLAIN)
        mount_new(path)
        await watched.until_at(path, path.stat().st_ino)


@pytest.mark.kernel
async def test_a_mount_over_a_directory_on_the_way(place: Path) -> None:
    directory = place / "a"
    path = directory / "b" / "link"
    path.parent.mkdir(parents=True)
    path.symlink_to(OWN)
    async with running() as watched:
        watched.want(path)
        await watched.until_at(path, own_namespace())
        run("mount", "-t", "tmpfs", "none", directory)
        await watched.until_said(path, GONE)
        path.parent.mkdir()
        path.symlink_to(OWN)
        await watched.until_at(path, own_namespace())
        run("umount", "--lazy", directory)
        path.unlink()
        await watched.until_said(path, GONE)


@pytest.mark.kernel
async def test_nothing_stays_open_after_200_references(place: Path) -> None:
    async with running() as watched:
        watched.want("/x")
        await watched.until_said("/x", GONE)
        before = open_files()
        for _ in range(2):
            references = [place / f"space{number}" for number in range(200)]
            watched.want(*references)
            for path in references:
                mount_new(path)
            for path in references:
                await watched.until_at(path, path.stat().st_ino)
            for path in references:
                run("umount", path)
                path.unlink()
            for path in references:
                await watched.until_said(path, GONE)
            watched.want()
            await until_true(lambda: watches() == 0)
            assert open_files() == before


# Processes


@pytest.mark.kernel
async def test_a_path_into_a_process_leads_there_while_it_lives(tmp_path: Path) -> None:
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        await until_true(lambda: process.space != own_namespace())
        path = Path(f"/proc/{process.pid}/ns/net")
        link = tmp_path / "docker0"
        link.symlink_to(path)
        async with running() as watched:
            watched.want(path, link)
            await watched.until_at(path, process.space)
            await watched.until_at(link, process.space)
            await until_idle(watched)
            process.kill()
            await watched.until_said(path, GONE)
            await watched.until_said(link, GONE)


@pytest.mark.kernel
async def test_a_path_into_a_process_leads_to_the_next_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    pid = free_pid()
    pidfd_open = os.pidfd_open
    with ExitStack() as stack:
        try:
            first = stack.enter_context(SpawnedAs(pid, *OWN_SPACE, *SLEEP))
        except PermissionError as error:
            pytest.skip(str(error))
        await until_true(lambda: first.space != own_namespace())

        def reuse_first(pid: int) -> int:
            first.end()
            stack.enter_context(SpawnedAs(pid, *SLEEP))
            return pidfd_open(pid)

        monkeypatch.setattr(os, "pidfd_open", reuse_first)
        async with running() as watched:
            watched.want(f"/proc/{pid}/ns/net")
            await watched.until_at(f"/proc/{pid}/ns/net", own_namespace())


@pytest.mark.kernel
async def test_a_link_that_moves_to_another_process(tmp_path: Path) -> None:
    link = tmp_path / "link"
    with ExitStack() as stack:
        one, other = (stack.enter_context(Spawned(*OWN_SPACE, *SLEEP)) for _ in range(2))
        await until_true(lambda: own_namespace() not in {one.space, other.space})
        link.symlink_to(f"/proc/{one.pid}/ns/net")
        async with running() as watched:
            watched.want(link)
            await watched.until_at(link, one.space)
            assert pidfds() == 1
            (tmp_path / "new").symlink_to(f"/proc/{other.pid}/ns/net")
            (tmp_path / "new").rename(link)
            await watched.until_at(link, space_of(other.pid))
            one.end()
            other.end()
            await watched.until_said(link, GONE)
            assert not pidfds()
            assert len(watched.said) == 3


async def until_idle(watched: Watched) -> None:
    """Wait for the second look, which makes sure that the process that is watched is the one that was found."""
    watcher = watched.watcher
    assert isinstance(watcher, PathWatcher)
    await until_true(lambda: not watcher._due and not watcher._looking)


# Who is wanted


async def test_what_is_wanted_again_is_said_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    async with running() as watched:
        for times in range(1, 4):
            watched.want(path)
            await watched.until_count(times)
            watched.want()
        assert watched.watcher.types == {NamespaceType.FILE}


async def test_what_is_no_longer_wanted_is_not_spoken_of(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    async with running() as watched:
        watched.want(one, other)
        await watched.until_said(one, GONE)
        await watched.until_said(other, GONE)
        watched.want(other)
        one.touch()
        other.touch()
        await watched.until_said(other, PLAIN)
        assert watched.problem(one) == GONE
        watched.want(one, other)
        await watched.until_said(one, PLAIN)


async def test_it_can_run_again(tmp_path: Path) -> None:
    watcher = PathWatcher()
    for _ in range(2):
        before = open_files()
        async with running(watcher) as watched:
            watched.want(OWN, tmp_path / "x")
            await watched.until_at(OWN, own_namespace())
            await watched.until_said(tmp_path / "x", GONE)
        assert open_files() == before
