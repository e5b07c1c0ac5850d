"""Without etcd at the start the agent does what etcd said last, and removes nothing until it hears etcd again."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer, free_port
from lab import Lab, ip, lab_in, pair, until

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(180)]


@pytest.fixture
def lab(own_etcd: EtcdServer, label: str, tmp_path: Path) -> Iterator[Lab]:
    folder = tmp_path / "lab"
    folder.mkdir()
    with lab_in(own_etcd, label, folder) as one:
        yield one


def logged(lab: Lab, number: int) -> list[dict[str, Any]]:
    """Return the log of one of the lab's agents."""
    lines = (lab.folder / f"agent-{number}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def ready(port: int) -> str:
    """Return what ``/readyz`` says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_etcd_away_at_the_start(lab: Lab, tmp_path: Path) -> None:
    memory, port = tmp_path / "memory", free_port()
    left, right = lab.space("l"), lab.space("r")
    lab.put(*pair("a", "b", left, right, mtu=1400), *pair("c", "d", left, right))
    lab.start_agent("--state-dir", str(memory))
    lab.until_applied("a", "b", "c", "d")
    assert lab.kill_agent(signal.SIGTERM) == 0
    assert len(list(memory.iterdir())) == 1

    # What the file does not know of: a pair more, and one that is no longer wanted.
    lab.put(*pair("e", "f", left, right))
    lab.start_agent()
    lab.until_applied("e", "f")
    lab.kill_agent()
    lab.delete("c", "d")
    lab.etcd.stop()
    ip("-n", left, "link", "del", "dev", "a")
    assert lab.links(left).keys() == {"c", "e"}

    lab.start_agent("--state-dir", str(memory), "--http", f"127.0.0.1:{port}")
    everything = {"a", "c", "e"}
    until(lambda: lab.links(left).keys() == everything and lab.link("b", right), what=lab.logs)
    assert lab.link("a", left)["mtu"] == 1400
    ip("-n", left, "link", "set", "dev", "a", "mtu", "1300")
    ip("-n", left, "link", "del", "dev", "c")
    until(lambda: lab.link("a", left)["mtu"] == 1400 and lab.link("c", left), what=lab.logs)
    assert lab.links(left).keys() == everything, "nothing is removed"
    assert "using the last known intent of 20" in ready(port)
    said = [line for line in logged(lab, 2) if line["level"] == "warning" and "last known" in line["event"]]
    assert [line["interfaces"] for line in said] == [4]

    kept = lab.link("a", left)["ifindex"]
    lab.etcd.start()
    until(lambda: lab.links(left).keys() == {"a", "e"}, within=30, what=lab.logs)
    until(lambda: lab.links(right).keys() == {"b", "f"}, what=lab.logs)
    assert lab.link("a", left)["ifindex"] == kept
    lab.until_applied("a", "b", "e", "f")
    until(lambda: lab.states().keys() == {"a", "b", "e", "f"}, what=lab.logs)
    until(lambda: "last known" not in ready(port), what=lambda: ready(port))
    (file,) = memory.iterdir()

    def names() -> set[str]:
        return {entry["name"] for entry in json.loads(file.read_text())["content"]["interfaces"]}

    until(lambda: names() == {"a", "b", "e", "f"}, what=names)


def test_a_damaged_file_is_not_used(lab: Lab, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    space = lab.space("s")
    lab.put(*pair("a", "b", space, space))
    lab.start_agent("--state-dir", str(memory))
    lab.until_applied("a", "b")
    lab.kill_agent(signal.SIGTERM)
    (file,) = memory.iterdir()
    file.write_text(file.read_text().replace('"a"', '"z"'))
    lab.etcd.stop()
    lab.start_agent("--state-dir", str(memory), ready=False)
    until(lambda: [line for line in logged(lab, 1) if "damaged" in line["event"]], what=lab.logs)
    (aside,) = memory.iterdir()
    assert aside.name.startswith(f"{file.name}.damaged-")
    assert lab.links(space).keys() == {"a", "b"}
    lab.etcd.start()
    until(file.exists, within=30, what=lab.logs)
    assert lab.links(space).keys() == {"a", "b"}
