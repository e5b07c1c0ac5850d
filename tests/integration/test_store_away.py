"""The whole agent while its store is away: drift is healed, and afterwards the kernel is what etcd says."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blackhole import HOLE, BlackHole
from etcd_server import EtcdServer, running
from lab import Lab, addresses, ip, lab_in, pair, until, veth

from ifagent.stores.etcd.address import EtcdAddress

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(180)]


ON_ANOTHER_HOST = (
    "-c",
    "from ifagent import host_lock; host_lock.HostLock.take = lambda self: None; from ifagent.cli import main; main()",
)
"""The command ``ifagent`` as it is on another host, where nobody has bound the label's name."""


def log_of(lab: Lab, number: int = 0) -> list[dict[str, Any]]:
    """Return what one agent of the lab has logged."""
    return [json.loads(line) for line in (lab.folder / f"agent-{number}.log").read_text().splitlines()]


def count(lab: Lab, event: str, number: int = 0) -> int:
    return sum(line["event"] == event for line in log_of(lab, number))


def health(lab: Lab) -> dict[str, Any]:
    answer = json.loads(lab.etcd.ctl("get", f"/vnf-agent/{lab.label}/check/status/v1/agent", "--write-out=json"))
    kvs = answer.get("kvs", [])
    return dict(json.loads(base64.b64decode(kvs[0]["value"]))) if kvs else {}


def heals(lab: Lab, space: str) -> None:
    """Break two things in the kernel and see them healed."""
    before = lab.link("a", space)["ifindex"]
    ip("-n", space, "link", "set", "dev", "a", "mtu", "1300")
    ip("-n", space, "addr", "flush", "dev", "a")
    until(
        lambda: lab.link("a", space)["mtu"] == 1500 and addresses(lab.link("a", space)) == ["10.1.0.1/24"],
        what=lab.logs,
    )
    assert lab.link("a", space)["ifindex"] == before
    ip("-n", space, "link", "del", "dev", "a")
    until(lambda: lab.link("a", space).get("operstate") == "UP", what=lab.logs)


def kernel_is(lab: Lab, spaces: tuple[str, str]) -> bool:
    """Tell whether the kernel has what :func:`change` has left in etcd."""
    left, right = (lab.links(space) for space in spaces)
    return (
        left.keys() == {"a"}
        and right.keys() == {"b", "e", "f"}
        and left["a"]["mtu"] == 1400
        and addresses(left["a"]) == ["10.1.0.9/24"]
        and addresses(right["e"]) == ["10.2.0.1/24"]
    )


def declare(lab: Lab, spaces: tuple[str, str]) -> None:
    left, right = spaces
    lab.put(*pair("c", "d", left, right), veth("a", "b", left, ip_addresses=["10.1.0.1/24"]), veth("b", "a", right))


def change(lab: Lab, spaces: tuple[str, str]) -> None:
    """Put, change and delete."""
    left, right = spaces
    lab.delete("c", "d")
    lab.put(veth("a", "b", left, mtu=1400, ip_addresses=["10.1.0.9/24"]))
    lab.put(veth("e", "f", right, ip_addresses=["10.2.0.1/24"]), veth("f", "e", right))


def healthy_again(lab: Lab) -> None:
    """Check that the trouble was said once, and is over."""
    lab.until_applied("a", "b", "e", "f")
    until(lambda: health(lab).get("state") == 1 and "problems" not in health(lab), what=lambda: health(lab))
    until(lambda: lab.states().keys() == {"a", "b", "e", "f"})
    for event in ("lost connection to the store", "reconnected to the store"):
        assert count(lab, event) == 1, lab.logs()
    assert count(lab, "cannot publish states") <= 1
    levels = {line["level"] for line in log_of(lab)}
    assert "error" not in levels


@pytest.mark.parametrize("end", [EtcdServer.stop, EtcdServer.kill])
def test_drift_is_healed_while_etcd_is_away_for_longer_than_the_lease(
    own_etcd: EtcdServer, label: str, tmp_path: Path, end: Callable[[EtcdServer], None]
) -> None:
    with lab_in(own_etcd, label, tmp_path) as lab:
        spaces = lab.space("l"), lab.space("r")
        agent = lab.start_agent()
        declare(lab, spaces)
        lab.until_applied("a", "b", "c", "d")
        end(own_etcd)
        until(lambda: count(lab, "lost connection to the store"), what=lab.logs)
        gone = time.monotonic()
        heals(lab, spaces[0])
        until(lambda: time.monotonic() - gone > 11, within=20)
        heals(lab, spaces[0])
        assert agent.poll() is None
        own_etcd.start()
        change(lab, spaces)
        until(lambda: kernel_is(lab, spaces), within=20, what=lab.logs)
        healthy_again(lab)


def test_drift_is_healed_behind_a_black_hole_while_etcd_changes_and_is_compacted(tmp_path: Path, label: str) -> None:
    folder = tmp_path / "etcd"
    folder.mkdir()
    with (
        BlackHole() as hole,
        running(folder, hosts=("127.0.0.1", HOLE)) as server,
        lab_in(server, label, tmp_path) as lab,
    ):
        spaces = lab.space("l"), lab.space("r")
        direct, server.address = server.address, EtcdAddress.parse(f"etcd://{HOLE}:{server.port}")
        agent = lab.start_agent()
        server.address = direct
        declare(lab, spaces)
        lab.until_applied("a", "b", "c", "d")
        hole.close()
        change(lab, spaces)
        server.ctl("compact", str(server.revision()))
        until(lambda: count(lab, "lost connection to the store"), within=10, what=lab.logs)
        heals(lab, spaces[0])
        until(lambda: not lab.states() and not health(lab), within=20)
        heals(lab, spaces[0])
        assert agent.poll() is None
        hole.open()
        until(lambda: kernel_is(lab, spaces), within=20, what=lab.logs)
        healthy_again(lab)


# One agent per label


def test_a_second_agent_waits_and_takes_over_from_one_that_was_killed(lab: Lab) -> None:
    space = lab.space("s")
    first = lab.start_agent()
    lab.put(*pair("a", "b", space, space))
    lab.until_applied("a", "b")
    lab.start_agent(ready=False, program=ON_ANOTHER_HOST)
    until(lambda: count(lab, "another agent holds the label, waiting for it to end", 1), what=lab.logs)
    [said] = [line for line in log_of(lab, 1) if line["level"] == "warning"]
    assert said["holder"].startswith(f"process {first.pid} on ")
    assert not count(lab, "agent ready", 1)
    first.kill()
    first.wait(10)
    # What it does shows that the second one is at work.
    until(lambda: count(lab, "agent ready", 1), within=20, what=lab.logs)
    lab.put(veth("a", "b", space, mtu=1400))
    until(lambda: lab.link("a", space)["mtu"] == 1400)
    until(lambda: lab.state("a").get("mtu") == 1400)
    assert count(lab, "another agent holds the label, waiting for it to end", 1) == 1


def test_a_killed_agent_restarts_without_waiting_for_its_own_lease(lab: Lab) -> None:
    space = lab.space("s")
    lab.put(*pair("a", "b", space, space))
    lab.start_agent()
    lab.until_applied("a", "b")
    lab.kill_agent()
    began = time.monotonic()
    lab.start_agent()
    lab.until_applied("a", "b")
    assert time.monotonic() - began < 8
    assert not count(lab, "another agent holds the label, waiting for it to end", 1)


def test_an_agent_that_slept_through_its_lease_ends(lab: Lab) -> None:
    space = lab.space("s")
    first = lab.start_agent()
    lab.put(*pair("a", "b", space, space))
    lab.until_applied("a", "b")
    first.send_signal(signal.SIGSTOP)
    try:
        lab.start_agent(ready=False, program=ON_ANOTHER_HOST)
        until(lambda: count(lab, "agent ready", 1), within=30, what=lab.logs)
        lab.until_applied("a", "b")
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(20) == 1
    lines = (lab.folder / "agent-0.log").read_text().splitlines()
    assert lines[-1].startswith(f"ifagent: the label '{lab.label}' is taken by process ")
    [error] = [one for one in map(json.loads, lines[:-1]) if one["level"] == "error"]
    assert error["event"] == "another agent holds the label"
    # The second one's states are all still there.
    assert {state["config_state"] for state in lab.states().values()} == {"APPLIED"}
    assert lab.states().keys() == {"a", "b"}
    assert health(lab)["state"] == 1


def test_a_waiting_agent_ends_when_it_is_told_to(lab: Lab) -> None:
    lab.start_agent()
    second = lab.start_agent(ready=False, program=ON_ANOTHER_HOST)
    until(lambda: count(lab, "another agent holds the label, waiting for it to end", 1), what=lab.logs)
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == 0


def test_one_etcd_under_two_names_is_refused(lab: Lab) -> None:
    twice = ["--store", f"etcd://localhost:{lab.etcd.port}"]
    agent = lab.start_agent(*twice, ready=False)
    assert agent.wait(20) == 2
    assert "two of the stores are in one and the same etcd" in lab.logs()


def test_health_of_an_agent(lab: Lab) -> None:
    lab.start_agent()
    first = until(lambda: health(lab) if health(lab).get("state") == 1 else {}, what=lab.logs)
    assert first.keys() == {"build_version", "state", "start_time", "last_change", "last_update"}
    began = time.monotonic()
    until(lambda: health(lab)["last_update"] > first["last_update"], within=12)
    assert time.monotonic() - began < 12
    assert health(lab)["last_change"] == first["last_change"]
    lab.kill_agent()
    # Nobody has taken it back; it goes with the lease.
    assert health(lab)
    until(lambda: not health(lab), within=15)
