"""The last known intent of a source that comes late, or not at all."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from linux import MAY_GIVE_FILES_AWAY
from world import veth

from ifagent.cli import run
from ifagent.core.events import Declaration, Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import Key, interface_key
from ifagent.errors import FieldError
from ifagent.stores import intent_file
from ifagent.stores.etcd.source import EtcdSource
from ifagent.stores.files.source import FileSource
from ifagent.stores.intent_file import IntentFile
from ifagent.stores.last_known import LastKnown, Timings
from ifagent.stores.registry import open_source

pytestmark = pytest.mark.anyio

STORE, LABEL = "etcd://127.0.0.1:2379", "lab"
AT_ONCE = 5.0
"""Seconds that a test waits for what takes milliseconds."""
FOREVER = 1000.0


def said(*names: str, mtu: int = 0, revision: int = 7) -> dict[Key, Declaration]:
    interfaces = (veth(name, f"{name}-peer", mtu=mtu) for name in names)
    return {interface_key(each.name): Declaration.of(each, revision=revision) for each in interfaces}


BROKEN = Declaration(
    key=interface_key("x"), errors=(FieldError("mtu", "is \ud800"), FieldError("", "?")), warnings=("w",), revision=3
)


def the_file(folder: Path) -> IntentFile:
    return IntentFile(folder, source=STORE, label=LABEL)


def kept(folder: Path) -> dict[Key, Declaration] | None:
    intent = the_file(folder).read()
    return dict(intent.declarations) if intent else None


class Store:
    """A source that says what the test wants, when it wants."""

    name = STORE

    def __init__(self) -> None:
        self.say: Callable[[Event], None]
        self.runs = anyio.Event()

    async def run(self, emit: Callable[[Event], None]) -> None:
        self.say = emit
        self.runs.set()
        await anyio.sleep_forever()


class Running:
    """A source with a memory, and what it said."""

    def __init__(self) -> None:
        self.store = Store()
        self.events: list[Event] = []
        self._news = anyio.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.move_on_after(AT_ONCE):
            while not condition():
                self._news = anyio.Event()
                with anyio.move_on_after(0.01):
                    await self._news.wait()
        assert condition(), self.events

    def snapshots(self) -> list[SourceSnapshot]:
        return [event for event in self.events if isinstance(event, SourceSnapshot)]

    def problems(self) -> list[str]:
        return [event.problem for event in self.events if isinstance(event, SourceHealth)]


@asynccontextmanager
async def remembering(folder: Path, timings: Timings = Timings(patience=FOREVER)) -> AsyncIterator[Running]:  # noqa: B008 frozen
    running = Running()
    source = LastKnown(running.store, folder, label=LABEL, timings=timings)
    assert source.name == STORE
    async with anyio.create_task_group() as group:
        group.start_soon(source.run, running.emit)
        await running.store.runs.wait()
        yield running
        group.cancel_scope.cancel()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# The file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert {field.name for field in fields(Declaration)} == {"key", "interface", "errors", "warnings", "revision"}
    declarations = said("a", "b", mtu=1400) | {BROKEN.key: BROKEN}
    assert the_file(tmp_path / "new" / "folder").write(declarations)
    assert kept(tmp_path / "new" / "folder") == declarations
    found = the_file(tmp_path / "new" / "folder").path
    assert found.stat().st_mode & 0o777 == 0o600
    assert found.parent.stat().st_mode & 0o777 == 0o700
    document = json.loads(found.read_text())
    assert document["version"] == 1
    assert document["content"]["interfaces"][0]["value"]["veth"] == {"peer_if_name": "a-peer"}


def test_no_file_is_nothing_special(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert kept(tmp_path / "not there") is None
    assert not warnings(caplog)
    assert not (tmp_path / "not there").exists()


def test_every_source_and_label_has_a_file_of_its_own_with_a_harmless_name(tmp_path: Path) -> None:
    pairs = [("s", "a"), ("t", "a"), ("s", "b"), ("s", "../../a"), ("s", ".a"), ("s", "a" * 300), ("\ud800", "ä\n")]
    files = [IntentFile(tmp_path, source=source, label=label) for source, label in pairs]
    for number, file in enumerate(files):
        file.write(said(f"i{number}"))
    assert {file.path.parent for file in files} == {tmp_path}
    assert {file.path for file in files} == set(tmp_path.iterdir())
    assert len({file.path for file in files}) == len(pairs)
    for number, (source, label) in enumerate(pairs):
        intent = IntentFile(tmp_path, source=source, label=label).read()
        assert intent
        assert intent.declarations.keys() == {interface_key(f"i{number}")}


def is_as_written(path: Path, before: os.stat_result) -> bool:
    """Tell whether a file was not written since; it may have been read."""
    now = path.stat()
    return (now.st_mtime_ns, now.st_ctime_ns, now.st_ino) == (before.st_mtime_ns, before.st_ctime_ns, before.st_ino)


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    file = the_file(tmp_path)
    assert file.write(said("a", "b"))
    before = file.path.stat()
    assert not file.write(said("b", "a"))
    assert not the_file(tmp_path).write(said("a", "b")), "not even by another process"
    assert is_as_written(file.path, before)


def flip(path: Path) -> None:
    path.write_text(path.read_text().replace("a-peer", "b-peer"))


def reseal(path: Path, **changes: object) -> None:
    """Change the content and make the checksum fit."""
    document = json.loads(path.read_text())
    document["content"] |= changes
    content = json.dumps(document["content"], separators=(",", ":")).encode()
    document["checksum"] = intent_file._checksum(document["written"], content)
    path.write_text(json.dumps(document))


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace_it(path: Path) -> None:
        path.unlink()
        make(path)

    return replace_it


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "not UTF-8": lambda path: path.write_bytes(b"\xff" + path.read_bytes()),
    "nested": lambda path: path.write_text("[" * 100_000),
    "a number": lambda path: path.write_text("1"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a value": flip,
    "time": lambda path: path.write_text(path.read_text().replace('"written":"2', '"written":"3')),
    "half a character": lambda path: path.write_text(path.read_text().replace('"written":"2', '"written":"\\ud800')),
    "a nested version": lambda path: path.write_text('{"version":' + "[" * 900 + "]" * 900 + "}"),
    "version": lambda path: path.write_text(path.read_text().replace('"version":1', '"version":2')),
    "no version": lambda path: path.write_text(path.read_text().replace('"version":1,', "")),
    "source": lambda path: reseal(path, source="etcd://other"),
    "label": lambda path: reseal(path, label="other"),
    "interfaces": lambda path: reseal(path, interfaces=[{"name": "a"}]),
    "errors": lambda path: reseal(path, interfaces=[{"name": "a", "revision": 1, "warnings": [], "errors": [1]}]),
    "no errors": lambda path: reseal(path, interfaces=[{"name": "a", "revision": 1, "warnings": [], "errors": []}]),
    "no list": lambda path: reseal(path, interfaces={}),
    "writable by others": lambda path: path.chmod(0o622),
    "somebody else's": lambda path: os.chown(path, 12345, 12345),
    "a link": link,
    "a folder": instead(Path.mkdir),
    "a pipe": instead(os.mkfifo),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("then", ["read", "write"])
def test_a_damaged_file_is_set_aside_and_said_so(
    tmp_path: Path, damage: str, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = the_file(tmp_path)
    file.write(said("a"))
    if damage == "somebody else's" and not MAY_GIVE_FILES_AWAY:
        pytest.skip("only root can give a file away")
    DAMAGE[damage](file.path)
    file = the_file(tmp_path)
    if then == "read":
        assert file.read() is None
        assert not os.path.lexists(file.path)
    if then == "write" and damage in {"interfaces", "errors", "no errors"}:
        assert file.write(said("b")), "interfaces are not looked at before they are needed"
        return
    assert file.write(said("b"))
    assert kept(tmp_path) == said("b")
    assert len(warnings(caplog)) == 1
    aside = [path for path in tmp_path.iterdir() if path.name.startswith(f"{file.path.name}.damaged-")]
    assert len(aside) == 1
    assert str(aside[0]) in warnings(caplog)[0]
    assert STORE in warnings(caplog)[0]


def test_a_file_that_may_not_be_read_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = the_file(tmp_path)
    file.write(said("a"))

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)  # root may read anything
        assert file.read() is None
    assert "Permission denied" in warnings(caplog)[0]
    assert not file.path.exists()


def test_what_cannot_even_be_set_aside_is_said_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert kept(tmp_path / "file") is None
    assert "cannot be set aside" in warnings(caplog)[0]


def test_a_value_that_the_rules_no_longer_allow_is_invalid(tmp_path: Path) -> None:
    file = the_file(tmp_path)
    file.write(said("a", "b"))
    interfaces = json.loads(file.path.read_text())["content"]["interfaces"]
    interfaces[0]["value"]["mtu"] = 1
    reseal(file.path, interfaces=interfaces)
    found = kept(tmp_path)
    assert found
    assert found[interface_key("a")].interface is None
    assert found[interface_key("a")].errors[0].field == "mtu"
    assert found[interface_key("b")] == said("b")[interface_key("b")]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = the_file(tmp_path)
    file.write(said("a"))

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="No space"):
            file.write(said("b"))
    assert list(tmp_path.iterdir()) == [file.path]
    assert kept(tmp_path) == said("a")
    assert file.write(said("b"))


WRITER = """
import sys
from pathlib import Path
from ifagent.core.resources import interface_key
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.kinds import Veth
from ifagent.stores.intent_file import IntentFile

count = int(sys.argv[2])
both = [
    {interface_key(n): Declaration.of(Interface(name=n, kind=Veth(peer_if_name="p"), mtu=mtu), revision=mtu)
     for n in (f"i{i}" for i in range(count))}
    for mtu in (1400, 1500)
]
file = IntentFile(Path(sys.argv[1]), source="etcd://127.0.0.1:2379", label="lab")
import os
print("ready", flush=True)
while sys.stdin.readline():
    pid = os.fork()
    if pid == 0:
        turn = 0
        while True:
            file.write(both[turn := 1 - turn])
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("dead", flush=True)
"""


def test_a_writer_killed_at_any_instant_leaves_a_whole_file(tmp_path: Path) -> None:
    chance = random.Random(4)
    mtus: set[int] = set()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), "40"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 40
        kills = 0
        # Until both have been seen whole, and one of them half written: how soon that is depends on the disk.
        while kills < 100 or not (len(mtus) == 2 and list(tmp_path.glob(".*.new"))):
            assert time.monotonic() < deadline, (kills, mtus)
            kills += 1
            writer.stdin.write("go\n")
            writer.stdin.flush()
            pid = int(writer.stdout.readline())
            time.sleep(chance.uniform(0, 0.02 + kills / 2000))  # any instant will do, this is where it is killed
            os.kill(pid, signal.SIGKILL)
            assert writer.stdout.readline() == "dead\n"
            found = kept(tmp_path)
            assert found is not None or not mtus
            if found:
                assert len(found) == 40
                assert len({declaration.revision for declaration in found.values()}) == 1
                mtus.add(found[interface_key("i0")].revision)
        writer.stdin.close()
    assert mtus == {1400, 1500}
    assert not list(tmp_path.glob("*.damaged-*"))
    left_over = list(tmp_path.glob(".*.new"))
    assert left_over, "some were killed while they wrote"
    the_file(tmp_path).write(said("a"))
    assert list(tmp_path.glob(".*.new")) == left_over, "these could be another agent's"
    IntentFile(tmp_path, source=STORE, label=LABEL, left_over=-1.0).write(said("a"))
    assert list(tmp_path.iterdir()) == [the_file(tmp_path).path]


# The option


def test_only_stores_on_other_machines_are_remembered_and_only_if_asked(tmp_path: Path) -> None:
    assert isinstance(open_source(STORE, label=LABEL, state_dir=tmp_path), LastKnown)
    assert isinstance(open_source(STORE, label=LABEL), EtcdSource)
    assert isinstance(open_source(f"file:{tmp_path}", label=LABEL, state_dir=tmp_path), FileSource)


def test_the_directory_is_where_the_service_manager_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*options: str) -> object:
        return run.command.make_context("run", [*options]).params["state_dir"]

    monkeypatch.delenv("IFAGENT_STATE_DIR", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert asked() is None
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/ifagent")
    assert asked() == Path("/var/lib/ifagent")
    monkeypatch.setenv("IFAGENT_STATE_DIR", "/a")
    assert asked() == Path("/a")
    (tmp_path / "c.toml").write_text('state_dir = "/b"')
    monkeypatch.delenv("IFAGENT_STATE_DIR")
    monkeypatch.delenv("STATE_DIRECTORY")
    assert asked("--config", str(tmp_path / "c.toml")) == Path("/b")


# The source


async def test_everything_is_handed_on_and_kept(tmp_path: Path) -> None:
    a, b = said("a", "b").values()
    events: list[Event] = [
        SourceSnapshot(STORE, said("a")),
        Declared(STORE, interface_key("b"), b),
        Declared(STORE, interface_key("x"), BROKEN),
        Declared(STORE, interface_key("a"), None),
        Declared(STORE, interface_key("nothing"), None),
        SourceHealth(STORE, "away"),
        SourceHealth(STORE),
    ]
    async with remembering(tmp_path, Timings(patience=FOREVER, pause=0.0)) as running:
        for event in events:
            running.store.say(event)
        assert running.events == events, "at once"
        await running.until(lambda: kept(tmp_path) == {b.key: b, BROKEN.key: BROKEN})
        running.store.say(SourceSnapshot(STORE, {a.key: a}))
        await running.until(lambda: kept(tmp_path) == {a.key: a})


async def test_a_late_source_replaces_what_was_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    the_file(tmp_path).write(said("a", "b") | {BROKEN.key: BROKEN})
    async with remembering(tmp_path, Timings(patience=0.01)) as running:
        await running.until(lambda: len(running.events) == 2)
        first, health = running.events
        assert first == SourceSnapshot(STORE, said("a", "b") | {BROKEN.key: BROKEN}, complete=False, recalled=True)
        assert isinstance(health, SourceHealth)
        assert health.problem.startswith("using the last known intent of 20")
        assert len(warnings(caplog)) == 1
        assert "age=" in warnings(caplog)[0]
        before = the_file(tmp_path).path.stat()
        running.store.say(SourceSnapshot(STORE, said("a")))
        assert running.events[2:] == [SourceSnapshot(STORE, said("a")), SourceHealth(STORE)]
        running.store.say(SourceHealth(STORE, "away"))
        assert running.events[-1] == SourceHealth(STORE, "away")
        await running.until(lambda: kept(tmp_path) == said("a"))
        assert the_file(tmp_path).path.stat() != before
    assert len(warnings(caplog)) == 1


async def test_trouble_ends_the_patience_and_is_told_with_it(tmp_path: Path) -> None:
    the_file(tmp_path).write(said("a"))
    async with remembering(tmp_path) as running:
        running.store.say(SourceHealth(STORE, "away"))
        await running.until(lambda: len(running.events) == 3)
        assert running.events[1] == SourceSnapshot(STORE, said("a"), complete=False, recalled=True)
        assert running.problems()[0] == "away"
        assert running.problems()[1].startswith("away; using the last known intent of 20")
        running.store.say(SourceHealth(STORE, "no right"))
        assert running.problems()[2].startswith("no right; using the last known intent of 20")
        running.store.say(SourceSnapshot(STORE, said("b")))
        assert running.problems()[3] == "no right"
        running.store.say(SourceHealth(STORE))
        assert running.problems()[4] == ""
        assert len(running.snapshots()) == 2


async def test_a_source_in_time_is_believed_and_the_file_is_not_written_anew(tmp_path: Path) -> None:
    file = the_file(tmp_path)
    file.write(said("a"))
    before = file.path.stat()
    async with remembering(tmp_path) as running:
        running.store.say(SourceSnapshot(STORE, said("a")))
    assert running.events == [SourceSnapshot(STORE, said("a"))]
    assert is_as_written(file.path, before)


async def test_what_is_from_the_file_is_not_written_and_a_change_just_before_the_end_is(tmp_path: Path) -> None:
    the_file(tmp_path).write(said("a"))
    async with remembering(tmp_path, Timings(patience=0.01)) as running:
        await running.until(running.snapshots)
    assert kept(tmp_path) == said("a")
    async with remembering(tmp_path) as running:
        running.store.say(SourceSnapshot(STORE, said("a")))
        running.store.say(Declared(STORE, interface_key("b"), said("b")[interface_key("b")]))
    assert kept(tmp_path) == said("a", "b")


async def test_without_a_file_a_late_source_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with remembering(tmp_path, Timings(patience=0.0)) as running:
        running.store.say(SourceHealth(STORE, "away"))
        await anyio.wait_all_tasks_blocked()
        running.store.say(SourceSnapshot(STORE, {}))
        await running.until(lambda: kept(tmp_path) == {})
    assert running.events == [SourceHealth(STORE, "away"), SourceSnapshot(STORE, {})]
    assert not warnings(caplog)


async def test_a_burst_is_few_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[float] = []

    def count(self: IntentFile, declarations: Mapping[Key, Declaration]) -> bool:
        writes.append(time.monotonic())
        return real(self, declarations)

    real = IntentFile.write
    monkeypatch.setattr(IntentFile, "write", count)
    async with remembering(tmp_path) as running:
        running.store.say(SourceSnapshot(STORE, {}))
        for number in range(300):
            running.store.say(
                Declared(STORE, interface_key("a"), replace(said("a")[interface_key("a")], revision=number))
            )
            await anyio.sleep(0.001)
        last = said("a", revision=299)
        await running.until(lambda: kept(tmp_path) == last)
        ended = time.monotonic()
    pause = Timings().pause
    assert all(later - earlier >= pause * 0.9 for earlier, later in pairwise(writes))
    assert 1 < len(writes) <= (ended - writes[0]) / pause + 1.5


async def test_a_disk_that_refuses_is_said_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ifagent")
    folder = tmp_path / "folder"
    attempts = 0

    def count(self: IntentFile, declarations: Mapping[Key, Declaration]) -> bool:
        nonlocal attempts
        attempts += 1
        if attempts < 4:
            raise OSError(28, "No space left on device")
        return real(self, declarations)

    real = IntentFile.write
    monkeypatch.setattr(IntentFile, "write", count)
    async with remembering(folder, Timings(patience=FOREVER, retry=0.01)) as running:
        running.store.say(SourceSnapshot(STORE, said("a")))
        await running.until(lambda: kept(folder) == said("a"))
        await running.until(lambda: "again" in caplog.records[-1].getMessage())
    assert len(warnings(caplog)) == 1
    assert "No space left" in warnings(caplog)[0]
    assert attempts == 4
