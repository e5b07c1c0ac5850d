"""T9: whoever may write values writes, deletes or floods the agent's other keys; it goes on, and takes back its own."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from lab import Lab, ip, pair, until

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]


def heals(lab: Lab, name: str = "a") -> None:
    """Check that drift is repaired."""
    ip("link", "set", "dev", name, "mtu", "1234")
    until(lambda: lab.link(name).get("mtu") == 1500, what=lab.logs)


def lock_of(lab: Lab) -> str:
    return f"/vnf-agent/{lab.label}/ifagent/lock"


def held_by(lab: Lab) -> int:
    """Return the process that the lock names, 0 if it names none."""
    text = lab.etcd.ctl("get", lock_of(lab), "--print-value-only")
    try:
        return int(json.loads(text)["pid"])
    except (ValueError, KeyError, TypeError):
        return 0


def lease(lab: Lab) -> str:
    return lab.etcd.ctl("lease", "grant", "600").split()[1]


@pytest.mark.parametrize("act", ["no lease", "a lease", "somebody's name", "deleted"])
def test_the_lock_of_a_running_agent(lab: Lab, act: str) -> None:
    lab.put(*pair("a", "b"))
    agent = lab.start_agent()
    lab.until_applied("a", "b")
    assert held_by(lab) == agent.pid
    match act:
        case "no lease":
            lab.etcd.ctl("put", lock_of(lab), "{}")
        case "a lease":
            lab.etcd.ctl("put", f"--lease={lease(lab)}", lock_of(lab), "{}")
        case "somebody's name":
            forged = {"host": "elsewhere", "pid": 1, "started": 1, "boot": "b", "space": 1}
            lab.etcd.ctl("put", f"--lease={lease(lab)}", lock_of(lab), json.dumps(forged))
        case "deleted":
            lab.etcd.ctl("del", lock_of(lab))
    heals(lab)
    until(lambda: held_by(lab) == agent.pid, what=lab.logs)
    assert agent.poll() is None
    assert "label lock was overwritten" in lab.logs()
    lab.put({**next(iter(pair("a", "b"))), "mtu": 1400})
    lab.until_state("a", "APPLIED", mtu=1400)


@pytest.mark.parametrize("leased", [False, True])
def test_a_lock_that_is_there_before_the_agent(lab: Lab, *, leased: bool) -> None:
    lab.put(*pair("a", "b"))
    lab.etcd.ctl("put", *([f"--lease={lease(lab)}"] if leased else []), lock_of(lab), '{"host": "x", "pid": 1}')
    agent = lab.start_agent(ready=False)
    until(lambda: held_by(lab) == agent.pid, within=25, what=lab.logs)
    lab.until_applied("a", "b")


def test_a_lock_written_again_and_again(lab: Lab) -> None:
    lab.put(*pair("a", "b"))
    agent = lab.start_agent()
    lab.until_applied("a", "b")
    script = f"while :; do etcdctl --endpoints={lab.etcd.url} put {lock_of(lab)} x; sleep 0.2; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, env=_v3()) as writer:
        try:
            until(lambda: lab.logs().count("label lock was overwritten") >= 1, what=lab.logs)
            for _ in range(3):
                heals(lab)
            assert agent.poll() is None
        finally:
            writer.kill()
    until(lambda: held_by(lab) == agent.pid, within=20, what=lab.logs)
    lab.put({**next(iter(pair("a", "b"))), "mtu": 1400})
    lab.until_state("a", "APPLIED", mtu=1400)
    assert lab.logs().count("label lock was overwritten") <= 2


def test_states_and_health_that_somebody_else_writes(lab: Lab) -> None:
    lab.put(*pair("a", "b"))
    agent = lab.start_agent()
    lab.until_applied("a", "b")
    health = f"/vnf-agent/{lab.label}/check/status/v1/agent"
    lab.etcd.ctl("put", lab.key("a", "status"), "forged")
    lab.etcd.ctl("del", lab.key("b", "status"))
    lab.etcd.ctl("put", lab.key("ghost", "status"), '{"name": "ghost", "config_state": "APPLIED"}')
    lab.etcd.ctl("put", health, "x" * 1000)

    def right() -> bool:
        keys = lab.etcd.ctl("get", "--prefix", lab.key("", "status"), "--keys-only").split()
        if set(keys) != {lab.key("a", "status"), lab.key("b", "status")}:
            return False
        states: dict[str, Any] = lab.states() if "forged" not in lab.etcd.ctl("get", keys[0]) else {}
        return {state["config_state"] for state in states.values()} == {"APPLIED"}

    until(right, within=45, what=lab.logs)
    until(lambda: "xxx" not in lab.etcd.ctl("get", health), within=15)
    assert "published states were changed by another client" in lab.logs()
    assert agent.poll() is None


def _v3() -> dict[str, str]:
    import os

    return {**os.environ, "ETCDCTL_API": "3"}
