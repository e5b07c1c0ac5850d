"""Limits of the host: what they degrade is one thing, they are named, and all is well again once they are lifted."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest
from asyncinotify import Inotify
from spawned import OWN_SPACE, SLEEP, Spawned
from watched import Watched, until_true, watching

from ifagent import inotify
from ifagent.core.events import Event, NamespacesListed, SourceHealth, SourceSnapshot
from ifagent.core.namespace_ref import NamespaceType
from ifagent.core.resources import by_name
from ifagent.kernel.linux import LinuxKernel
from ifagent.limits import inotify_in_words
from ifagent.nsfs import own_namespace
from ifagent.stores.files.source import FileSource, Timings
from ifagent.watchers.paths import PathWatcher
from ifagent.watchers.processes import ProcessWatcher

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

AT_ONCE = 10.0


@pytest.fixture
def no_inotify(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the kernel refuse inotify instances, until what is given is called."""
    monkeypatch.setattr(inotify, "RETRY", 0.2)
    lifted: list[bool] = []

    def limited() -> Inotify:
        if not lifted:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return Inotify()

    monkeypatch.setattr(inotify, "Inotify", limited)
    return lambda: lifted.append(True)


@pytest.fixture
def no_watches(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the kernel refuse inotify watches, until what is given is called."""
    monkeypatch.setattr(inotify, "RETRY", 0.2)
    add_watch = Inotify.add_watch

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inotify, "add_watch", refuse)
    return lambda: monkeypatch.setattr(Inotify, "add_watch", add_watch)


@pytest.fixture(params=["no_inotify", "no_watches"])
def lift(request: pytest.FixtureRequest) -> Callable[[], None]:
    lift: Callable[[], None] = request.getfixturevalue(request.param)
    return lift


@contextmanager
def no_more_files() -> Iterator[None]:
    """Have the process open no more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, before[1]))
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for file in fillers:
            os.close(file)


class Source:
    """What a source of files has said."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.problem = ""

    def __call__(self, event: Event) -> None:
        match event:
            case SourceSnapshot():
                self.names = set(by_name(event.declarations))
            case SourceHealth():
                self.problem = event.problem
            case _ if getattr(event, "declaration", None) is not None:
                self.names.add(event.key.name)  # type: ignore[union-attr]


def text(name: str) -> str:
    return f"- {{name: {name}, veth: {{peer_if_name: x}}}}\n"


# inotify


async def test_files_are_found_without_it(
    tmp_path: Path, lift: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    source, timings = Source(), Timings(interval=60.0, blind=0.3)
    (tmp_path / "a.yaml").write_text(text("a"))
    async with anyio.create_task_group() as group:
        group.start_soon(FileSource(tmp_path, timings=timings).run, source)
        await until_true(lambda: "a" in source.names)
        (tmp_path / "b.yaml").write_text(text("b"))
        await until_true(lambda: "b" in source.names)
        assert "sysctl fs.inotify.max_user_" in caplog.text
        lift()
        (tmp_path / "c.yaml").write_text(text("c"))
        await until_true(lambda: "c" in source.names)
        await until_true(lambda: watches_of_this_process() > 0)
        group.cancel_scope.cancel()
    assert caplog.text.count("inotify unavailable, falling back to polling") == 1


async def test_paths_are_found_without_it(tmp_path: Path, lift: Callable[[], None]) -> None:
    async with watching(PathWatcher(), NamespaceType.FILE) as watched:
        watched.want(tmp_path / "link", tmp_path / "other")
        await watched.until_said(tmp_path / "link", "is not there")
        (tmp_path / "link").symlink_to("/proc/self/ns/net")
        await watched.until_at(tmp_path / "link", own_namespace())
        lift()
        await until_true(lambda: watches_of_this_process() > 0)
        (tmp_path / "other").symlink_to("/proc/self/ns/net")
        await watched.until_at(tmp_path / "other", own_namespace())


async def test_named_namespaces_are_found_without_it(tmp_path: Path, lift: Callable[[], None]) -> None:
    listed: set[str] = set()

    def emit(event: Event) -> None:
        if isinstance(event, NamespacesListed):
            listed.clear()
            listed.update(ref.reference for ref in event.paths)

    kernel = LinuxKernel(netns_dir=str(tmp_path / "netns"))
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: kernel.run(emit, task_status=task_status))
        (tmp_path / "netns").mkdir()
        (tmp_path / "netns/one").symlink_to("/proc/self/ns/net")
        await until_true(lambda: "one" in listed)
        lift()
        await until_true(lambda: watches_of_this_process() > 0)
        (tmp_path / "netns/two").symlink_to("/proc/self/ns/net")
        await until_true(lambda: "two" in listed)
        group.cancel_scope.cancel()


def watches_of_this_process() -> int:
    count = 0
    for entry in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            count += entry.read_text().count("inotify wd:")
    return count


def test_the_limit_that_was_reached_is_the_one_that_is_named() -> None:
    refused = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert "fs.inotify.max_user_instances" in inotify_in_words(refused)
    with no_more_files():
        text = inotify_in_words(refused)
    assert "inotify" not in text
    assert "LimitNOFILE" in text
    assert "fs.inotify.max_user_watches" in inotify_in_words(OSError(errno.ENOSPC, ""))
    assert "fs.file-max" in inotify_in_words(OSError(errno.ENFILE, ""))


def test_the_agent_goes_on_in_a_user_namespace_without_inotify(tmp_path: Path) -> None:
    """The whole program, as on a host where all instances are taken."""
    script = f"""
mount -t tmpfs tmpfs /run; mkdir -p /run/netns; ip link set lo up
echo 1 >/proc/sys/user/max_inotify_instances
python3 - <<'E' &
import ctypes, time
ctypes.CDLL(None).inotify_init(); time.sleep(30)
E
python -m ifagent run --label none --store file:{tmp_path}/d 2>{tmp_path}/log & agent=$!
for i in $(seq 200); do grep -q " ready " {tmp_path}/log && break; sleep 0.05; done
kill $agent; wait $agent; code=$?; kill %1; exit $code
"""
    (tmp_path / "d").mkdir()
    done = subprocess.run(
        ["unshare", "-Urnm", "bash", "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    logged = (tmp_path / "log").read_text()
    if "Permission denied" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, logged
    assert " ready " in logged
    assert "fs.inotify.max_user_instances" in logged


# Open files


async def test_nothing_is_lost_while_no_files_can_be_opened(tmp_path: Path) -> None:
    source, directory = Source(), tmp_path / "d"
    directory.mkdir()
    (directory / "a.yaml").write_text(text("a"))
    with Spawned(*OWN_SPACE, *SLEEP) as process:
        await until_true(lambda: process.space != own_namespace())
        (tmp_path / "link").symlink_to(f"/proc/{process.pid}/ns/net")
        async with (
            watching(PathWatcher(), NamespaceType.FILE) as paths,
            watching(ProcessWatcher(), NamespaceType.PID) as processes,
            anyio.create_task_group() as group,
        ):
            group.start_soon(FileSource(directory).run, source)
            await until_true(lambda: "a" in source.names)
            paths.want(tmp_path / "link")
            processes.want(process.pid)
            await until_there(paths, processes, process, tmp_path)
            with no_more_files():
                paths.want(tmp_path / "link", "/proc/self/ns/net")
                processes.want(process.pid, os.getpid())
                await paths.until(lambda: "LimitNOFILE" in paths.problem("/proc/self/ns/net"))
                await processes.until(lambda: "LimitNOFILE" in processes.problem(os.getpid()))
                assert source.names == {"a"}
            (directory / "b.yaml").write_text(text("b"))
            await paths.until_at("/proc/self/ns/net", own_namespace())
            await processes.until_at(os.getpid(), own_namespace())
            await until_true(lambda: source.names == {"a", "b"})
            assert paths.where(tmp_path / "link") == processes.where(process.pid) == process.space
            group.cancel_scope.cancel()


async def until_there(paths: Watched, processes: Watched, process: Spawned, place: Path) -> None:
    await paths.until_at(place / "link", process.space)
    await processes.until_at(process.pid, process.space)


async def test_watching_begins_once_files_can_be_opened(tmp_path: Path) -> None:
    source = Source()
    (tmp_path / "a.yaml").write_text(text("a"))
    watched = Watched(PathWatcher(), NamespaceType.FILE)
    watched.want("/proc/self/ns/net")
    async with anyio.create_task_group() as group:
        with no_more_files():
            group.start_soon(FileSource(tmp_path).run, source)
            group.start_soon(watched.watcher.run, watched)
            await until_true(lambda: "LimitNOFILE" in source.problem)
        await until_true(lambda: "a" in source.names)
        await watched.until_at("/proc/self/ns/net", own_namespace())
        group.cancel_scope.cancel()
