"""Others who may write to the store, or are root in a container: the agent goes on, and says what is wrong."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from lab import Lab, ip, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(90)]


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.start_agent()
    return lab


def test_a_key_of_a_megabyte_keeps_no_other_state_from_being_published(running: Lab) -> None:
    huge = running.key("x" * 1_000_000)
    running.etcd.ctl("txn", given=f"\nput {huge} 7\n\n\n".encode())
    running.put(*pair("a", "b"))
    running.until_applied("a", "b")
    name = next(name for name in running.states() if name.startswith("xxx"))
    assert len(name) < 200
    assert running.state(name)["config_state"] == "INVALID"
    running.etcd.ctl("txn", given=f"\ndel {huge}\n\n\n".encode())
    until(lambda: running.states().keys() == {"a", "b"}, what=running.logs)


def test_a_link_renamed_to_no_text_whose_place_is_taken(lab: Lab) -> None:
    agent, space = lab.start_agent(), lab.space("s")
    lab.put(veth("a", "b", space, mtu=1400), veth("b", "a"))
    lab.until_applied("a", "b")
    index = lab.link("a", space)["ifindex"]
    agent.send_signal(signal.SIGSTOP)  # else it might take the name back in between
    commands = [b"set dev a down", b"set dev a name " + b"\xff" * 9, b"add name a type veth peer name foreign"]
    given = b"".join(b"link %s\n" % command for command in commands)
    subprocess.run(["ip", "-n", space, "-batch", "-"], input=given, capture_output=True, check=True)
    agent.send_signal(signal.SIGCONT)
    assert "conflict" in lab.until_state("a", "FAILED")["reason"]
    ip("-n", space, "link", "del", "dev", "foreign")
    lab.until_applied("a", "b")
    assert (lab.link("a", space)["ifindex"], lab.link("a", space)["mtu"]) == (index, 1400)


@pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="/dev/net/tun cannot be opened")
def test_the_alias_of_an_adopted_tap_is_scribbled_over(running: Lab) -> None:
    space = running.space("s")
    ip("tuntap", "add", "dev", "made", "mode", "tap")
    running.put({"name": "t", "type": 1, "enabled": True, "tap": {"temp_if_name": "made"}} | in_space(space))
    running.until_applied("t")
    for damage in ("made/no MAC/1500", f"{'x' * 150}/02:00:00:00:00:01/1500", "made/02:00:00:00:00:01/99999999999"):
        ip("-n", space, "link", "set", "dev", "t", "alias", f"ifagent-tap/{running.label}/{damage}/t")
        running.until_applied("t")
        running.put({"name": "u", "type": 1} | in_space(space))
        running.until_state("u", "PENDING")
        running.delete("u")
        until(lambda: not running.state("u"))
    running.delete("t")
    until(lambda: "made" in running.links() or "t" in running.links(), what=running.logs)


def in_space(space: str) -> dict[str, object]:
    return {"namespace": {"type": 2, "name": space}}
