"""AUTO_TAP: another program's TAP is waited for, adopted, followed and given back."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import Lab, addresses, ip, until

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]


def _tun_works() -> bool:
    try:
        with open("/dev/net/tun", "rb+", buffering=0):  # noqa: PTH123 a device
            return True
    except OSError:
        return False


pytestmark = [
    pytest.mark.kernel,
    pytest.mark.etcd,
    pytest.mark.timeout(90),
    pytest.mark.skipif(not _tun_works(), reason="/dev/net/tun cannot be opened"),
]

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI = 1, 2, 0x1000


@pytest.fixture
def running(lab: Lab) -> Lab:
    lab.start_agent()
    return lab


@contextmanager
def held_tap(host_name: str, mode: int = IFF_TAP) -> Iterator[None]:
    """Make a TAP that lives as long as this program holds it open, as a hypervisor does; it has carrier."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", host_name.encode(), mode | IFF_NO_PI))
        yield
    finally:
        os.close(device)


def auto_tap(name: str, temporary: str = "", space: str = "", **fields: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"name": name, "type": 1, "enabled": True}
    if temporary:
        value["tap"] = {"temp_if_name": temporary}
    if space:
        value["namespace"] = {"type": 2, "name": space}
    return value | fields


def make(host_name: str) -> None:
    """Make a persistent TAP without carrier."""
    ip("tuntap", "add", "dev", host_name, "mode", "tap")


def test_a_tap_is_waited_for_adopted_and_given_back(running: Lab) -> None:
    space = running.space("s")
    wanted = auto_tap(
        "tap1",
        "vpp-tap1",
        space,
        host_if_name="linux-tap",
        mtu=1400,
        phys_address="92:c7:42:67:ab:cc",
        ip_addresses=["172.52.45.127/24", "2001:db8::1/64"],
    )
    running.put(wanted)
    state = running.until_state("tap1", "PENDING")
    assert state["missing"] == ["tap vpp-tap1"]
    make("vpp-tap1")
    running.until_applied("tap1")
    link = running.link("linux-tap", space)
    _, _, _, mac, mtu, _ = link["ifalias"].split("/")
    assert (link["mtu"], link["address"], "UP" in link["flags"]) == (1400, "92:c7:42:67:ab:cc", True)
    assert addresses(link) == wanted["ip_addresses"]
    assert "vpp-tap1" not in running.links()
    assert running.state("tap1")["type"] == 1

    running.put(auto_tap("tap1", "vpp-tap1", space, host_if_name="linux-tap"))
    until(lambda: running.link("linux-tap", space)["mtu"] == 1500)
    until(lambda: running.link("linux-tap", space)["address"] == mac)

    running.delete("tap1")
    until(lambda: not running.spaces() and not running.states(), what=running.logs)
    back = running.link("vpp-tap1")
    assert (back["address"], back["mtu"], back.get("ifalias", "")) == (mac, int(mtu), "")
    assert not addresses(back)
    assert "vpp-tap1" in running.links()


def test_in_its_own_namespace_and_not_enabled(running: Lab) -> None:
    make("tap2")
    running.put(auto_tap("tap2", enabled=False, ip_addresses=["10.0.0.1/24"]))
    running.until_applied("tap2")
    link = running.link("tap2")
    assert "UP" not in link["flags"]
    assert addresses(link) == ["10.0.0.1/24"]
    running.delete("tap2")
    until(lambda: not addresses(running.link("tap2")))
    assert running.link("tap2")["ifindex"] == link["ifindex"]


@pytest.mark.parametrize("host_if_name", ["", "other"])
def test_it_vanishes_and_comes_back(running: Lab, host_if_name: str) -> None:
    running.put(auto_tap("t", "made", host_if_name=host_if_name, ip_addresses=["10.0.0.1/24"]))
    seen = set()
    for _ in range(3):
        running.until_state("t", "PENDING")
        with held_tap("made"):
            running.until_applied("t")
            link = running.link(host_if_name or "t")
            assert addresses(link) == ["10.0.0.1/24"]
            assert "LOWER_UP" in link["flags"]
            seen.add(link["ifindex"])
    running.until_state("t", "PENDING")
    assert len(seen) == 3


def test_a_tap_from_before_the_agent_is_taken_and_kept_over_a_restart(lab: Lab) -> None:
    space = lab.space("s")
    make("early")
    lab.put(auto_tap("t", "early", space, mtu=1400))
    lab.start_agent()
    lab.until_applied("t")
    before = lab.link("t", space)
    lab.kill_agent()
    lab.start_agent()
    lab.until_applied("t")
    after = lab.link("t", space)
    assert [after[key] for key in ("ifindex", "mtu", "address", "ifalias")] == [
        before[key] for key in ("ifindex", "mtu", "address", "ifalias")
    ]
    lab.kill_agent()
    lab.delete("t")
    lab.start_agent()
    until(lambda: lab.link("early").get("mtu") == 1500, what=lab.logs)


def test_what_is_not_a_tap_is_left_alone(running: Lab) -> None:
    with held_tap("l3", IFF_TUN):
        running.put(auto_tap("l3"))
        assert "not a TAP" in running.until_state("l3", "PENDING")["reason"]
        assert "ifalias" not in running.link("l3")
    ip("link", "add", "name", "br", "type", "bridge")
    running.put(auto_tap("br"))
    assert "bridge" in running.until_state("br", "PENDING")["reason"]


def test_drift_of_a_tap_is_repaired(running: Lab) -> None:
    space = running.space("s")
    make("made")
    running.put(auto_tap("t", "made", space, mtu=1400, ip_addresses=["10.0.0.1/24"]))
    running.until_applied("t")
    ip("-n", space, "link", "set", "dev", "t", "mtu", "1300")
    ip("-n", space, "addr", "flush", "dev", "t")
    until(lambda: running.link("t", space)["mtu"] == 1400 and addresses(running.link("t", space)))


def test_what_its_creator_sets_late_stays(running: Lab) -> None:
    running.put(auto_tap("t", "vm0"))
    make("vm0")
    running.until_applied("t")
    ip("link", "set", "dev", "t", "address", "02:00:00:00:00:08", "mtu", "1400")
    state = running.until_state("t", "APPLIED", mtu=1400)
    assert state["phys_address"] == "02:00:00:00:00:08"
    assert not state.get("repairs")
    running.put(auto_tap("t", "vm0", mtu=1300))
    running.until_state("t", "APPLIED", mtu=1300)
    running.put(auto_tap("t", "vm0"))
    assert running.until_state("t", "APPLIED", mtu=1400)["phys_address"] == "02:00:00:00:00:08"
    running.delete("t")
    until(lambda: running.link("vm0").get("mtu") == 1400, what=running.logs)
    assert running.link("vm0")["address"] == "02:00:00:00:00:08"


@pytest.mark.parametrize("restarted", [False, True])
def test_it_is_given_back_whole(lab: Lab, restarted: bool) -> None:
    space = lab.space("s")
    ip("link", "add", "name", "br0", "type", "bridge")
    make("t5")
    ip("link", "set", "dev", "t5", "alias", "vm 5", "master", "br0", "up")
    make("t6")
    for address in ("10.44.0.1/24", "10.44.0.2/24", "2001:db8::6/64"):
        ip("address", "add", address, "dev", "t6", *(["nodad"] if ":" in address else []))
    ip("link", "set", "dev", "t6", "up")
    had = {name: lab.link(name) for name in ("t5", "t6")}
    lab.put(auto_tap("a", "t5", space, host_if_name="vm5", ip_addresses=["10.9.9.9/24"]), auto_tap("t6", enabled=False))
    lab.start_agent("--allow-tap", "t5", "--allow-tap", "t6")
    lab.until_applied("a", "t6")
    assert addresses(lab.link("vm5", space)) == ["10.9.9.9/24"]
    assert not addresses(lab.link("t6"))
    if restarted:
        lab.kill_agent()
    lab.delete("a", "t6")
    if restarted:
        lab.start_agent("--allow-tap", "t5", "--allow-tap", "t6")
    until(lambda: not lab.states() and "t5" in lab.links(), what=lab.logs)
    fields = ("ifindex", "ifalias", "master", "address", "mtu")
    for name, before in had.items():
        back = lab.link(name)
        assert {f: back.get(f) for f in fields} == {f: before.get(f) for f in fields}
        assert addresses(back) == addresses(before)
        assert "UP" in back["flags"]
