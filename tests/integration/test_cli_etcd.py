"""The commands with a store in etcd, which need no agent on their own machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from lab import Lab, lab_in, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


def declare(lab: Lab, *values: object) -> str:
    path = lab.folder / "in.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_apply_wait_get_states_delete(lab: Lab) -> None:
    lab.start_agent()
    ends = list(pair("a", "b", lab.space("s1"), lab.space("s2"), ip_addresses=["10.1.0.1/24"]))
    done = lab.command("apply", declare(lab, *ends), "--wait", "20")
    assert "a: APPLIED" in done.stdout
    assert lab.link("a", lab.space("s1"))["operstate"] == "UP"
    told = json.loads(lab.command("get", "a", "--json").stdout)
    assert told["desired"]["ip_addresses"] == told["state"]["ip_addresses"] == ["10.1.0.1/24"]
    assert told["state"]["applied_revision"] == told["revision"]
    assert [state["name"] for state in json.loads(lab.command("states", "--json").stdout)] == ["a", "b"]

    done = lab.command("apply", declare(lab, *ends, veth("lonely", "nobody")), "--wait", "0.5", check=False)
    assert done.returncode == 1
    assert "lonely: PENDING" in done.stderr

    done = lab.command("delete", "a", "zzz", check=False)
    assert done.returncode == 1
    assert "zzz" in done.stderr
    lab.until_state("b", "PENDING")


def test_wait_is_0_when_applied_and_1_with_the_reason_when_not(lab: Lab) -> None:
    lab.start_agent()
    lab.put(*pair("a", "b", lab.space("s1"), lab.space("s2")))
    done = lab.command("wait", "a", "b", "--timeout", "20")
    assert {line.split(",")[0] for line in done.stdout.splitlines()} >= {"a: APPLIED", "b: APPLIED"}
    lab.put(veth("lonely", "nobody"))
    done = lab.command("wait", "a", "lonely", "unknown", "--timeout", "0.5", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2] == "unknown: not declared"
    assert "lonely: PENDING, peer nobody is not declared" in done.stderr
    assert done.stderr.splitlines()[-1] == "ifagent: not applied: lonely, unknown"


def test_apply_of_more_than_fits_one_transaction_waits_for_all(lab: Lab) -> None:
    lab.start_agent()
    space = lab.space("many")
    ends = [end for n in range(100) for end in pair(f"a{n}", f"b{n}", space, space)]
    lab.command("apply", declare(lab, *ends), "--wait", "60")
    assert len(lab.links(space)) == 200


def test_watch_writes_nothing_but_events_to_stdout(own_etcd: EtcdServer, label: str, tmp_path: Path) -> None:
    with lab_in(own_etcd, label, tmp_path) as lab:
        lab.start_agent()
        lab.put(*pair("a", "b", lab.space("s1"), lab.space("s2")))
        lab.until_applied("a", "b")
        seen, log = tmp_path / "watch.out", tmp_path / "watch.err"
        command = [sys.executable, "-m", "ifagent", "watch", "--json", "--label", label]
        with seen.open("wb") as out, log.open("wb") as err:
            watch = subprocess.Popen([*command, "--store", str(own_etcd.address)], stdout=out, stderr=err)
        try:
            until(lambda: seen.read_text().count("\n") == 2)
            own_etcd.kill()
            until(lambda: "lost connection to the store" in log.read_text())
            own_etcd.start()
            until(lambda: "reconnected to the store" in log.read_text())
            lab.put(*pair("a", "b", lab.space("s1"), lab.space("s2"), mtu=1400))
            until(lambda: '"mtu":1400' in seen.read_text())
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(10) == 0
        finally:
            watch.kill()
        events = [json.loads(line) for line in seen.read_text().splitlines()]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert {event["event"] for event in events[:2]} == {"snapshot"}
