"""The file source on real directories and real inotify."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from patience import PATIENCE

from ifagent.core.events import Declaration, Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import Key, by_name
from ifagent.stores.files.source import FileSource, Timings

pytestmark = pytest.mark.anyio

AT_ONCE = 2.0 * PATIENCE
assert Timings().interval > AT_ONCE, "what is found within this time was told by inotify"


def veth(name: str, peer: str = "other", **fields: object) -> dict[str, object]:
    return {"name": name, "veth": {"peer_if_name": peer}, **fields}


def write(path: Path, *interfaces: dict[str, object]) -> None:
    path.write_text(json.dumps(list(interfaces)))


class Heard:
    """Folds what a source says."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.declared: dict[str, Declaration] = {}
        self.complete: bool | None = None
        self.problem = ""
        self._news = anyio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case SourceSnapshot(_, declarations, complete):
                self.declared = by_name(declarations)
                self.complete = complete
            case Declared(_, Key(name=name), None):
                del self.declared[name]
            case Declared(_, Key(name=name), Declaration() as declaration):
                self.declared[name] = declaration
            case SourceHealth(_, problem):
                self.problem = problem
        self._news.set()

    async def until(self, condition: Callable[[Heard], bool], *, within: float = AT_ONCE) -> None:
        with anyio.move_on_after(within):
            while not condition(self):
                self._news = anyio.Event()
                await self._news.wait()
        assert condition(self), f"not so: {list(self.declared)} {self.problem!r}"

    async def until_names(self, *names: str) -> None:
        await self.until(lambda heard: set(heard.declared) == set(names))


@asynccontextmanager
async def listening(path: Path, timings: Timings = Timings()) -> AsyncIterator[Heard]:  # noqa: B008 frozen
    heard = Heard()
    async with anyio.create_task_group() as group:
        group.start_soon(FileSource(path, timings=timings).run, heard)
        await heard.until(lambda heard: heard.complete is not None)
        yield heard
        group.cancel_scope.cancel()


async def test_a_directory_is_one_snapshot_then_changes_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b.json", veth("b1"), veth("b2"))
    (tmp_path / "a.yaml").write_text("interfaces:\n- name: a1\n  veth: {peer_if_name: b1}\n")
    (tmp_path / "one.yml").write_text("name: one\nveth: {peer_if_name: b1}\n")
    (tmp_path / ".hidden.yaml").write_text("name: hidden\nveth: {peer_if_name: b1}\n")
    (tmp_path / "notes.txt").write_text("nothing")
    async with listening(tmp_path) as heard:
        assert set(heard.declared) == {"a1", "b1", "b2", "one"}
        assert heard.complete
        write(tmp_path / "b.json", veth("b1", mtu=1400), veth("b3"))
        await heard.until_names("a1", "b1", "b3", "one")
        assert heard.declared["b1"].interface is not None
        assert heard.declared["b1"].interface.mtu == 1400
        (tmp_path / "one.yml").unlink()
        await heard.until_names("a1", "b1", "b3")
        write(tmp_path / "new.json", veth("new"))
        await heard.until_names("a1", "b1", "b3", "new")
    assert [type(event) for event in heard.events].count(SourceSnapshot) == 1
    assert not [event for event in heard.events if isinstance(event, Declared) and event.key.name == "a1"]


async def test_the_revision_is_the_time_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path, veth("a"))
    async with listening(tmp_path) as heard:
        assert heard.declared["a"].revision == path.stat().st_mtime_ns
        os.utime(path, ns=(5, 7))
        await heard.until(lambda heard: heard.declared["a"].revision == 7)


async def test_files_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path, veth("a"))
    os.utime(path, ns=(5, 7))
    async with listening(tmp_path) as heard:
        with path.open("r+") as file:  # the same size, inode and time
            file.write(path.read_text().replace('"a"', '"b"'))
        os.utime(path, ns=(5, 7))
        write(tmp_path / "c.json", veth("c"))
        await heard.until_names("a", "c")


async def test_one_file_that_is_replaced_by_renaming(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write(path, veth("a"))
    async with listening(path) as heard:
        await heard.until_names("a")
        for number in range(3):
            new = tmp_path / "new"
            write(new, veth(f"x{number}"))
            new.replace(path)
            await heard.until_names(f"x{number}")


async def test_the_last_say_stands_while_a_file_is_away(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write(path, veth("a"))
    async with listening(path) as heard:
        path.unlink()
        await heard.until(lambda heard: "No such file" in heard.problem)
        assert set(heard.declared) == {"a"}
        assert heard.complete
        write(path, veth("b"))
        await heard.until_names("b")
        await heard.until(lambda heard: heard.problem == "")


async def test_a_directory_that_comes_goes_and_comes_again(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "er"
    async with listening(directory) as heard:
        assert heard.complete is False
        assert str(directory) in heard.problem
        directory.mkdir(parents=True)
        write(directory / "a.json", veth("a"))
        await heard.until_names("a")
        await heard.until(lambda heard: heard.complete is True)
        (directory / "a.json").unlink()
        await heard.until_names()
        write(directory / "a.json", veth("b"))
        await heard.until_names("b")
        (tmp_path / "deep").rename(tmp_path / "moved")
        (tmp_path / "moved" / "er").rename(tmp_path / "gone")
        await heard.until(lambda heard: heard.problem != "")
        assert set(heard.declared) == {"b"}
        directory.mkdir(parents=True)
        write(directory / "c.json", veth("c"))
        await heard.until_names("c")


async def test_a_file_that_breaks_keeps_its_last_say_and_tells_the_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "good.json", veth("good"))
    path = tmp_path / "bad.yaml"
    path.write_text("name: a\nveth: {peer_if_name: b}\n")
    async with listening(tmp_path) as heard:
        path.write_text("name: a\nveth: {peer_if_name: b\n")
        await heard.until(lambda heard: heard.problem != "")
        assert f"{path}: line " in heard.problem
        assert set(heard.declared) == {"good", "a"}
        write(tmp_path / "good.json", veth("good"), veth("more"))
        await heard.until_names("good", "a", "more")
        path.write_text("name: a2\nveth: {peer_if_name: b}\n")
        await heard.until_names("good", "a2", "more")
        await heard.until(lambda heard: heard.problem == "")
    assert heard.complete
    assert len([r for r in caplog.records if r.levelname == "WARNING" and "bad.yaml" in r.getMessage()]) == 1


async def test_a_file_that_was_never_readable_makes_it_incomplete(tmp_path: Path) -> None:
    write(tmp_path / "good.json", veth("good"))
    (tmp_path / "bad.json").write_text("{")
    async with listening(tmp_path) as heard:
        assert heard.complete is False
        assert set(heard.declared) == {"good"}
        assert "bad.json: line 1: column 2: is not valid JSON" in heard.problem
        write(tmp_path / "bad.json", veth("b"))
        await heard.until_names("good", "b")
        assert heard.complete is True


async def test_an_emptied_file_is_taken_for_one_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write(path, veth("a"))
    async with listening(tmp_path) as heard:
        path.write_text("")
        await heard.until(lambda heard: "is empty" in heard.problem)
        assert set(heard.declared) == {"a"}
        path.write_text("[]")
        await heard.until_names()


async def test_interfaces_with_errors_are_declared_with_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "- {name: bad, mtu: 5, veth: {peer_if_name: x}}\n- {mtu: 1500}\n- 7\n"
        f"- {{name: {'n' * 200}, veth: {{peer_if_name: x}}}}\n- {{name: ok, veth: {{peer_if_name: x}}}}\n"
    )
    async with listening(tmp_path) as heard:
        assert set(heard.declared) == {"bad", "a.yaml[1]", "a.yaml[2]", "a.yaml[3]", "ok"}
        assert [error.field for error in heard.declared["bad"].errors] == ["mtu"]
        assert heard.declared["a.yaml[1]"].errors
        assert heard.declared["ok"].interface is not None


async def test_of_a_name_in_two_files_the_first_counts_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "1.json", veth("a", mtu=1400))
    write(tmp_path / "2.json", veth("b"), veth("a", mtu=1300))
    async with listening(tmp_path) as heard:
        declared = heard.declared["a"]
        assert declared.interface is not None
        assert declared.interface.mtu == 1400
        assert declared.warnings == ("is also declared in 2.json, entry 2; the one in 1.json takes precedence",)
        (tmp_path / "1.json").unlink()
        await heard.until(lambda heard: heard.declared["a"].warnings == ())
        taken = heard.declared["a"].interface
        assert taken is not None
        assert taken.mtu == 1300


async def test_a_burst_is_few_looks_and_all_of_it_is_heard(tmp_path: Path) -> None:
    async with listening(tmp_path) as heard:
        for number in range(300):
            write(tmp_path / f"{number}.json", veth(f"i{number}"))
        await heard.until_names(*(f"i{number}" for number in range(300)))


async def test_a_symbolic_link_that_is_switched(tmp_path: Path) -> None:
    """As kubelet updates the files of a config map."""
    directory = tmp_path / "config"
    for version in ("v1", "v2"):
        (directory / version).mkdir(parents=True)
        write(directory / version / "a.json", veth(version))
    (directory / "..data").symlink_to("v1")
    (directory / "a.json").symlink_to("..data/a.json")
    async with listening(directory) as heard:
        await heard.until_names("v1")
        (directory / "..new").symlink_to("v2")
        (directory / "..new").replace(directory / "..data")
        await heard.until_names("v2")


async def test_a_file_that_is_being_written_is_not_read_half(tmp_path: Path) -> None:
    # So much longer than the pauses of the writer that a busy machine does not make one as long.
    timings = Timings(quiet=1.0)
    path = tmp_path / "a.yaml"
    interfaces = [f"- {{name: i{number}, veth: {{peer_if_name: x}}}}\n" for number in range(20)]
    path.write_text("".join(interfaces))
    async with listening(tmp_path, timings) as heard:
        with path.open("w") as file:
            for number, text in enumerate(interfaces):
                file.write(text)
                file.flush()
                write(tmp_path / "other.json", veth(f"other{number}"))
                await anyio.sleep(0.005)
        await heard.until(lambda heard: "other19" in heard.declared, within=30)
        await heard.until(lambda heard: heard.declared["i1"].revision == path.stat().st_mtime_ns, within=30)
    taken_back = [e.key.name for e in heard.events if isinstance(e, Declared) and e.declaration is None]
    assert not [name for name in taken_back if name.startswith("i")]


async def test_no_file_descriptors_are_left(tmp_path: Path) -> None:
    async with listening(tmp_path):
        pass
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        async with listening(tmp_path):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
