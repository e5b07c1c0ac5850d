"""What people, tools and shares do to files of interfaces: the last say stands until there is a new whole one."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest
from hanging_mount import HangingMount

from ifagent.agent import Agent
from ifagent.core.events import Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import Key, by_name
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.stores.files.source import MAX_NAMED, FileSource, Timings
from ifagent.stores.memory import Memory

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

AT_ONCE = 5.0
STRANGER = 4242
"""A user who owns a directory in which the agent looks."""


class Heard:
    """Folds what a source says."""

    def __init__(self) -> None:
        self.declared: dict[str, int] = {}
        self.complete: bool | None = None
        self.problem = ""
        self.withdrawn: list[str] = []
        self.news = anyio.Event()

    def __call__(self, event: Event) -> None:
        match event:
            case SourceSnapshot(_, declarations, complete):
                self.declared = dict.fromkeys(by_name(declarations), 1)
                self.complete = complete
            case Declared(_, Key(name=name), None):
                self.withdrawn.append(name)
                del self.declared[name]
            case Declared(_, Key(name=name)):
                self.declared[name] = self.declared.get(name, 0) + 1
            case SourceHealth(_, problem):
                self.problem = problem
        self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.move_on_after(AT_ONCE):
            while not condition():
                self.news = anyio.Event()
                await self.news.wait()
        assert condition(), f"not so: {self.declared} {self.problem!r}"

    async def until_names(self, *names: str) -> None:
        await self.until(lambda: set(self.declared) == set(names))

    async def until_problem(self, text: str) -> None:
        await self.until(lambda: text in self.problem)


@asynccontextmanager
async def listening(path: Path, timings: Timings = Timings()) -> AsyncIterator[Heard]:  # noqa: B008 frozen
    heard = Heard()
    async with anyio.create_task_group() as group:
        group.start_soon(FileSource(path, timings=timings).run, heard)
        await heard.until(lambda: heard.complete is not None)
        yield heard
        group.cancel_scope.cancel()


def text(*names: str) -> str:
    return "".join(f"- {{name: {name}, veth: {{peer_if_name: x}}}}\n" for name in names)


@contextmanager
def leased(path: Path) -> Iterator[None]:
    """Have a lease on a file, as its owner may; nothing tells of its end."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(file)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Give a directory, and take away what is mounted in it afterwards."""
    yield tmp_path
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for point in reversed([line.split()[4] for line in lines]):
        if Path(point).is_relative_to(tmp_path):
            mount("umount", "--lazy", point)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Give a directory of another user's."""
    if os.geteuid():
        pytest.skip("another user is needed")
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == "root" and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    directory = tmp_path / "d"
    directory.mkdir()
    os.chown(directory, STRANGER, STRANGER)
    return directory


def as_stranger(*command: str | Path) -> None:
    subprocess.run(command, check=True, user=STRANGER, group=STRANGER, extra_groups=[], timeout=30)


def mount(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=30)


# Shares that go away


async def test_a_link_whose_share_goes_away_keeps_its_say(place: Path) -> None:
    share, directory = place / "share", place / "d"
    share.mkdir()
    directory.mkdir()
    mount("mount", "-t", "tmpfs", "share", share)
    (share / "p.yaml").write_text(text("a", "b"))
    (directory / "p.yaml").symlink_to("../share/p.yaml")
    async with listening(directory) as heard:
        await heard.until_names("a", "b")
        mount("umount", share)
        await heard.until_problem("p.yaml: is a symbolic link that leads nowhere")
        mount("mount", "-t", "tmpfs", "share", share)
        (share / "p.yaml").write_text(text("a", "c"))
        await heard.until_names("a", "c")
        await heard.until(lambda: not heard.problem)
    assert heard.withdrawn == ["b"]


async def test_a_directory_whose_mount_goes_away_keeps_its_say(place: Path) -> None:
    directory = place / "d"
    directory.mkdir()
    mount("mount", "-t", "tmpfs", "share", directory)
    (directory / "p.yaml").write_text(text("a", "b"))
    async with listening(directory) as heard:
        await heard.until_names("a", "b")
        mount("umount", "--lazy", directory)
        await heard.until_problem("is another directory than before, and empty")
        assert set(heard.declared) == {"a", "b"}
        (directory / "new.yaml").write_text("[]")
        await heard.until_names()


async def test_a_directory_that_is_replaced_by_a_full_one_is_never_half_of_it(place: Path) -> None:
    directory = place / "d"
    directory.mkdir()
    for name in "abc":
        (directory / f"{name}.yaml").write_text(text(name))
    async with listening(directory) as heard:
        await heard.until_names(*"abc")
        shutil.move(directory, place / "old")
        directory.mkdir()
        for name in "cbd":
            (directory / f"{name}.yaml").write_text(text(name))
            await anyio.sleep(0.1)  # as a copying program does
        await heard.until_names(*"bcd")
    assert heard.withdrawn == ["a"]


async def test_a_directory_that_is_replaced_again_and_again_ends_nothing(place: Path) -> None:
    """As when a watch goes with what it watched, and is removed once more."""
    directory = place / "d"
    async with listening(directory) as heard:
        for number in range(60):
            directory.mkdir()
            (directory / "a.yaml").write_text(text(f"a{number}"))
            await anyio.sleep(0.002 * (number % 12))
            shutil.rmtree(directory)
        directory.mkdir()
        (directory / "a.yaml").write_text(text("last"))
        await heard.until_names("last")


# Half-written


async def test_a_file_that_is_open_for_writing_is_not_taken_for_an_answer(place: Path) -> None:
    (place / "p.yaml").write_text(text("a", "b", "c"))
    async with listening(place) as heard:
        with (place / "p.yaml").open("w") as file:
            file.write(text("a"))
            file.flush()
            await anyio.sleep(0.1)
            (place / "other.yaml").write_text(text("o"))
            await heard.until_names("a", "b", "c", "o")
            await heard.until_problem("p.yaml: is still open for writing")
            file.write(text("b"))
        await heard.until_names("a", "b", "o")
        await heard.until(lambda: not heard.problem)
    assert heard.withdrawn == ["c"]


async def test_so_it_is_where_the_kernel_does_not_tell_of_writers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ifagent.filesystem.walk.is_written_to", lambda _: None)
    timings = Timings(settle=1.5)  # so much longer than the pauses of the writer
    names = [f"i{number}" for number in range(20)]
    (place / "p.yaml").write_text(text(*names, "old"))
    os.utime(place / "p.yaml", ns=(5, 7))
    async with listening(place, timings) as heard:
        with (place / "p.yaml").open("w") as file:
            for name in names:
                file.write(text(name))
                file.flush()
                (place / "other.yaml").touch()
                await anyio.sleep(0.02)
        await heard.until_names(*names)
    assert heard.withdrawn == ["old"]


async def test_looking_hinders_no_writer(place: Path) -> None:
    path = place / "p.yaml"
    path.write_text(text("a"))
    async with listening(place) as heard:
        slowest = 0.0
        for number in range(300):
            began = time.monotonic()
            with path.open("w") as file:
                file.write(text(f"a{number}"))
            slowest = max(slowest, time.monotonic() - began)
            await anyio.sleep(0.001)
        await heard.until_names("a299")
    assert slowest < 5.0, "a lease is broken after 45 s only"


# No regular files


@pytest.mark.parametrize("what", ["fifo", "device", "endless", "socket", "directory", "huge", "loop", "gone"])
async def test_what_is_no_file_in_its_place_changes_nothing(place: Path, what: str) -> None:
    path = place / "p.yaml"
    path.write_text(text("a"))
    (place / "q.yaml").write_text(text("q"))
    async with listening(place) as heard:
        await heard.until_names("a", "q")
        fresh = place / "fresh"
        replace_by(fresh, what)
        if what == "directory":
            path.unlink()
        fresh.rename(path)
        (place / "q.yaml").write_text(text("q2"))
        await heard.until(lambda: "q2" in heard.declared)
        if what != "directory":  # between the two there was no file
            await heard.until_problem("p.yaml: ")
            assert "a" in heard.declared
        fresh.write_text(text("b"))
        if what == "directory":
            path.rmdir()
        fresh.rename(path)
        await heard.until_names("b", "q2")
        await heard.until(lambda: not heard.problem)


def replace_by(path: Path, what: str) -> None:
    match what:
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/null")
        case "endless":
            path.symlink_to("/dev/zero")
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as listening_socket:
                listening_socket.bind(str(path))
        case "directory":
            path.mkdir()
        case "huge":
            with path.open("w") as file:
                file.truncate(1 << 36)
        case "loop":
            path.symlink_to(path.with_name("p.yaml"))
        case _:
            path.symlink_to("nowhere")


async def test_the_path_itself_may_become_anything(place: Path) -> None:
    path = place / "p.yaml"
    path.write_text(text("a"))
    async with listening(path) as heard:
        for what in ("fifo", "endless", "loop", "gone", "huge"):
            fresh = place / "fresh"
            replace_by(fresh, what)
            fresh.rename(path)
            await heard.until_problem("p.yaml")
            assert set(heard.declared) == {"a"}
            fresh.write_text(text("a"))
            fresh.rename(path)
            await heard.until(lambda: not heard.problem)


# Files that the writer himself could not read


async def test_the_content_of_a_file_that_its_linker_cannot_read_is_not_told(stranger: Path) -> None:
    secret = stranger.with_name("secret")
    secret.write_text("password: hunter2\n[")
    secret.chmod(0o600)
    async with listening(stranger) as heard:
        for name in ("a.yaml", "b.json"):
            as_stranger("ln", "-s", secret, stranger / name)
            await heard.until_problem(f"{name}: is a symbolic link of user {STRANGER}'s")
        as_stranger("ln", "-s", "/etc", stranger / "etc")
        as_stranger("ln", "-s", "etc/shadow", stranger / "c.yaml")
        await heard.until_problem("c.yaml: is a symbolic link")
        (stranger / "d.yaml").symlink_to(secret)  # root's own link
        await heard.until_problem("d.yaml: line")
        os.lchown(stranger / "d.yaml", STRANGER, STRANGER)
        (stranger / "d.yaml").rename(stranger / "e.yaml")
        await heard.until_problem("e.yaml: is a symbolic link")
    assert "hunter2" not in heard.problem


async def test_a_hard_link_to_such_a_file_is_not_read(stranger: Path) -> None:
    secret = stranger.with_name("secret")
    secret.write_text("password: hunter2\n[")
    os.link(secret, stranger / "a.yaml")
    async with listening(stranger) as heard:
        await heard.until_problem("a.yaml: has another name elsewhere")


async def test_a_strangers_link_to_his_own_file_is_followed(stranger: Path) -> None:
    (stranger / "real.txt").write_text(text("a"))
    os.chown(stranger / "real.txt", STRANGER, STRANGER)
    as_stranger("ln", "-s", "real.txt", stranger / "a.yaml")
    async with listening(stranger) as heard:
        await heard.until_names("a")
        assert heard.complete


# File systems that do not answer


async def test_a_share_that_does_not_answer_keeps_its_say_and_holds_up_no_other_file(place: Path) -> None:
    with HangingMount(place / "share", text=text("a")) as share:
        directory = place / "d"
        directory.mkdir()
        (directory / "a.yaml").symlink_to(share.place / "file.yaml")
        (directory / "b.yaml").write_text(text("b"))
        async with listening(directory) as heard:
            await heard.until_names("a", "b")
            share.hang()
            (directory / "b.yaml").write_text(text("b2"))
            await heard.until(lambda: "b2" in heard.declared)
            await heard.until_problem("a.yaml: its file system is not responding")
            assert set(heard.declared) == {"a", "b2"}
            (directory / "b.yaml").write_text(text("b3"))
            await heard.until_names("a", "b3")


async def test_a_directory_on_such_a_share_keeps_its_say(place: Path) -> None:
    with HangingMount(place / "share", text=text("a")) as share:
        async with listening(share.place, Timings(interval=0.2)) as heard:
            await heard.until_names("a")
            share.hang()
            await heard.until_problem("its file system is not responding")
            assert set(heard.declared) == {"a"}


# Ready means heard


@pytest.mark.parametrize("what", ["missing", "unexpanded", "broken", "fifo"])
async def test_an_agent_is_not_ready_before_its_files_have_been_read(place: Path, what: str) -> None:
    path = place / "p.yaml"
    if what == "broken":
        path.write_text("{broken")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "unexpanded":
        path = Path(f"~{place}/p.yaml")
    source = FileSource(path)
    agent = Agent(sources=[Memory(), source], kernel=SimulatedKernel())
    async with anyio.create_task_group() as group:
        group.start_soon(agent.run)
        with anyio.fail_after(AT_ONCE):
            while not (found := next(s for s in agent.statistics().sources if s.name == "file")).problem:
                await anyio.sleep(0.01)
        assert not agent.statistics().ready
        assert not found.synced
        if what != "unexpanded":
            fresh = place / "fresh"
            fresh.write_text("[]")
            fresh.rename(path)
            with anyio.fail_after(AT_ONCE):
                await agent.wait_ready()
            path.write_text("{broken again")
            with anyio.fail_after(AT_ONCE):
                while not next(s for s in agent.statistics().sources if s.name == "file").problem:
                    await anyio.sleep(0.01)
            assert agent.statistics().ready, "the last say stands"
        group.cancel_scope.cancel()


async def test_a_file_with_a_lease_counts_as_open_for_writing(tmp_path: Path) -> None:
    one, new = tmp_path / "one.yaml", tmp_path / "new"
    one.write_text(text("a"))
    new.write_text(text("b"))
    async with listening(tmp_path) as heard:
        await heard.until_names("a")
        with leased(new):
            new.rename(tmp_path / "two.yaml")
            await heard.until_problem("two.yaml: is still open for writing")
        await heard.until_names("a", "b")


async def test_thousands_of_broken_files_are_counted_and_some_are_named(place: Path) -> None:
    for number in range(3_000):
        (place / f"broken{number:04}.json").write_text("{")
    (place / "good.yaml").write_text(text("a"))
    async with listening(place) as heard:
        await heard.until_problem("and 2980 more")
        assert heard.problem.count("/broken0") == MAX_NAMED
        assert len(heard.problem) < 10_000
        await heard.until_names("a")
        for file in place.glob("broken*"):
            file.unlink()
        await heard.until(lambda: not heard.problem)
