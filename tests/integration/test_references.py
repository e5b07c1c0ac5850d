"""Every way to name a namespace: waited for, followed when it comes and goes, never mistaken."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, ip, until, veth
from spawned import Spawned, SpawnedAs, free_pid, space_of

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.start_agent()
    return lab


def in_pid(value: dict[str, Any], pid: int) -> dict[str, Any]:
    return value | {"namespace": {"type": 0, "pid": pid}}


def in_file(value: dict[str, Any], path: Path) -> dict[str, Any]:
    return value | {"namespace": {"type": 3, "filepath": str(path)}}


def names_in(pid: int) -> set[str]:
    listed = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-br", "link"], capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    return {line.split("@")[0].split()[0] for line in listed.stdout.splitlines()} - {"lo"}


@contextmanager
def namespace_at(path: Path) -> Iterator[None]:
    """Have a network namespace mounted at a path."""
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=False)
        path.unlink(missing_ok=True)


def test_a_process_is_waited_for_and_followed_to_its_end(running: Lab) -> None:
    space = running.space("s")
    pid = free_pid()
    running.put(in_pid(veth("a", "b"), pid), veth("b", "a", space))
    state = running.until_state("a", "PENDING")
    assert state["missing"] == [f"namespace pid:{pid}"]
    assert not running.spaces()
    with SpawnedAs(pid, "unshare", "-n", "sleep", "60"):
        running.until_applied("a", "b")
        assert names_in(pid) == {"a"}
    state = running.until_state("a", "PENDING")
    assert "has ended" in state["reason"]
    running.until_state("b", "PENDING")
    assert not running.links(space)


def test_a_reused_pid_is_not_taken_for_the_old_process(running: Lab) -> None:
    space = running.space("s")
    pid = free_pid()
    value = in_pid(veth("a", "b"), pid)
    with SpawnedAs(pid, "unshare", "-n", "sleep", "60"):
        running.put(value, veth("b", "a", space))
        running.until_applied("a", "b")
    assert "has ended" in running.until_state("a", "PENDING")["reason"]
    with SpawnedAs(pid, "unshare", "-n", "sleep", "60"):
        running.put(veth("c", "d", space), veth("d", "c", space))
        running.until_applied("c", "d")
        assert "has ended" in running.state("a")["reason"]
        assert names_in(pid) == set()
        running.put(value)
        running.until_applied("a", "b")
        assert names_in(pid) == {"a"}


def test_another_pid_moves_the_interface(running: Lab) -> None:
    space = running.space("s")
    with Spawned("unshare", "-n", "sleep", "60") as one, Spawned("unshare", "-n", "sleep", "60") as other:
        until(lambda: len({space_of(pid) for pid in (os.getpid(), one.pid, other.pid)}) == 3)
        running.put(in_pid(veth("a", "b", mtu=1400), one.pid), veth("b", "a", space))
        running.until_applied("a", "b")
        running.put(in_pid(veth("a", "b", mtu=1400), other.pid))
        until(lambda: names_in(other.pid) == {"a"} and not names_in(one.pid), what=running.logs)
        running.until_applied("a", "b")
        until(lambda: "UP" in running.link("b", space).get("flags", ()), what=running.logs)


def test_a_file_is_waited_for_must_be_a_namespace_and_is_followed(running: Lab) -> None:
    space, path = running.space("s"), running.folder / "space"
    running.put(in_file(veth("a", "b"), path), veth("b", "a", space))
    assert running.until_state("a", "PENDING")["missing"] == [f"namespace file:{path}"]
    path.write_text("no namespace")
    state = running.until_state("a", "INVALID")
    assert state["errors"][0]["field"] == "namespace.filepath"
    assert "is not a network namespace" in state["reason"]
    for _ in range(2):
        with namespace_at(path):
            running.until_applied("a", "b")
        running.until_state("a", "PENDING")
        until(lambda: not running.links(space))


def test_references_that_mean_one_namespace_share_it(running: Lab) -> None:
    space = running.space("s")
    ip("netns", "add", space)
    path = Path("/run/netns") / space
    running.put(in_file(veth("a", "b"), path), veth("b", "a", space), in_file(veth("c", "d", host_if_name="b"), path))
    running.until_applied("a", "b")
    assert running.links(space).keys() == {"a", "b"}
    assert "already has the host name b" in running.until_state("c", "INVALID")["reason"]


def test_two_hundred_namespaces_come_and_go_and_no_file_stays_open(running: Lab) -> None:
    agent = running._agents[-1]

    def open_files() -> int:
        return sum(1 for _ in Path(f"/proc/{agent.pid}/fd").iterdir())

    spaces = [running.space(f"n{number}") for number in range(200)]
    running.put(*(v for n in range(2) for v in (veth(f"x{n}", f"y{n}", spaces[n]), veth(f"y{n}", f"x{n}", spaces[n]))))
    running.until_applied("x0", "y1")
    running.etcd.ctl("del", "--prefix", running.key(""))
    until(lambda: not running.spaces() and not running.states())
    before = open_files()
    values = [v for n, s in enumerate(spaces) for v in (veth(f"a{n}", f"b{n}", s), veth(f"b{n}", f"a{n}", s))]
    running.put(*values)
    running.until_applied(*(value["name"] for value in values))
    assert open_files() <= before + 3 * 200
    running.etcd.ctl("del", "--prefix", running.key(""))
    until(lambda: not running.spaces() and not running.states(), within=30, what=running.logs)
    until(lambda: open_files() <= before, what=lambda: f"{open_files()} files, {before} before")


def ring(lab: Lab, count: int) -> list[dict[str, Any]]:
    """Return the values of pairs that join so many namespaces, two by two."""
    spaces = [lab.space(f"n{number}") for number in range(count)]
    return [
        value
        for number in range(0, count, 2)
        for value in (
            veth(f"a{number}", f"b{number}", spaces[number]),
            veth(f"b{number}", f"a{number}", spaces[number + 1]),
        )
    ]


@pytest.mark.timeout(240)
def test_a_thousand_namespaces_with_the_usual_limit_of_files(lab: Lab) -> None:
    values = ring(lab, 1000)
    lab.put(*values)
    agent = lab.start_agent(under=["prlimit", "--nofile=1024:8192"], within=60)
    lab.until_applied(*(value["name"] for value in values))
    assert sum(1 for _ in Path(f"/proc/{agent.pid}/fd").iterdir()) > 2000
    lab.etcd.ctl("del", "--prefix", lab.key(""))
    until(lambda: not lab.spaces() and not lab.states(), within=60, what=lab.logs)


def test_more_namespaces_than_the_process_may_open(lab: Lab) -> None:
    values = ring(lab, 100)
    lab.put(*values)
    agent = lab.start_agent(under=["prlimit", "--nofile=160:160"])
    names = [value["name"] for value in values]
    reasons = until(
        lambda: [s["reason"] for s in lab.states().values() if "open files" in s.get("reason", "")], what=lab.logs
    )
    assert reasons
    assert agent.poll() is None
    lab.delete(*names[30:])
    lab.until_applied(*names[:30])
