"""Counters and rates with real traffic, all the way: the kernel, etcd, the command line, the metrics."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

import pytest
from etcd_server import free_port
from lab import Lab, ip, pair, until
from sysctl import set_sysctl

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]

INTERVAL = 0.2


@contextmanager
def pinging(space: str, address: str) -> Iterator[None]:
    """Have 20 packets of 84 bytes and their answers under way a second."""
    command = ["ip", "netns", "exec", space, "ping", "-q", "-i", "0.05", address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as ping:
        try:
            yield
        finally:
            ping.terminate()


def statistics(lab: Lab, name: str) -> dict[str, Any]:
    return dict(lab.state(name).get("statistics") or {})


def make(lab: Lab) -> tuple[str, str]:
    left, right = lab.space("left"), lab.space("right")
    one, other = pair("a", "b", left, right)
    lab.put(one | {"ip_addresses": ["10.9.0.1/24"]}, other | {"ip_addresses": ["10.9.0.2/24"]})
    lab.until_applied("a", "b")
    return left, right


def test_a_ping_is_counted_and_told_everywhere(lab: Lab) -> None:
    port = free_port()
    lab.start_agent("--counters", str(INTERVAL), "--http", f"127.0.0.1:{port}")
    left, _ = make(lab)
    with pinging(left, "10.9.0.2"):
        until(lambda: statistics(lab, "a").get("in_packets", 0) > 20, what=lab.logs)
        first = lab.state("a")

        def counted_on() -> dict[str, Any]:
            state = lab.state("a")
            told = state["statistics"]
            return state if told["in_packets"] > 60 and told["rates"]["out_packets"] else {}

        second = until(counted_on, what=lambda: lab.state("a"))
        packets = second["statistics"]["in_packets"] - first["statistics"]["in_packets"]
        rates = second["statistics"]["rates"]
        assert rates["out_bytes"] >= 42 * rates["out_packets"], "no frame is shorter than an ARP request"
        assert second["last_change"] == first["last_change"]
        assert (second["speed"], second["duplex"]) == (10_000_000_000, 2)

        done = lab.command("states", "--json")
        listed = {s["name"]: s for s in json.loads(done.stdout)}
        assert listed.keys() == {"a", "b"}, done.stderr
        assert listed["b"]["statistics"]["out_packets"] >= packets
        table = lab.command("states").stdout.splitlines()
        assert all("B/s" in line and "p/s" in line for line in table[1:]), table
        metrics = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        [line] = [
            line
            for line in metrics.splitlines()
            if line.startswith('ifagent_interface_in_packets_total{interface="a"}')
        ]
        assert float(line.split()[1]) >= second["statistics"]["in_packets"]
        kernel = json.loads(ip("-n", left, "-j", "-s", "link", "show", "dev", "a"))[0]["stats64"]
        told = until(lambda: now if (now := statistics(lab, "a"))["in_packets"] >= kernel["rx"]["packets"] else {})
        assert told["in_bytes"] >= kernel["rx"]["bytes"]
        assert told["drop_packets"] == kernel["rx"]["dropped"] + kernel["tx"]["dropped"]
    until(lambda: statistics(lab, "a")["rates"]["in_packets"] == 0, what=lambda: lab.state("a"))


def test_a_link_made_anew_begins_at_nought(lab: Lab) -> None:
    lab.start_agent("--counters", str(INTERVAL))
    left, right = make(lab)
    with pinging(left, "10.9.0.2"):
        before = until(lambda: now if (now := statistics(lab, "b")).get("in_packets", 0) > 20 else {})
    ip("-n", right, "link", "del", "dev", "b")

    def anew() -> dict[str, Any]:
        now = statistics(lab, "b")
        return now if now.get("rates") and now["in_packets"] < before["in_packets"] else {}

    after = until(anew, what=lambda: lab.state("b"))
    assert min(after["rates"].values()) >= 0


SEND = """
import socket, time
links = [name for _, name in socket.if_nameindex() if name != "lo"]
raw = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW) for _ in links]
for one, name in zip(raw, links):
    one.bind((name, 0))
while True:
    for one in raw:
        one.send((b"\\xff" * 6 + b"\\x02" + bytes(5) + b"\\x08\\x06").ljust(60, b"\\0"))
    time.sleep(0.01)
"""


def revisions(lab: Lab) -> list[int]:
    """Return the revision in which each state was written last."""
    answer = json.loads(lab.etcd.ctl("get", "--prefix", lab.key("", "status"), "--write-out=json"))
    values = [kv for kv in answer.get("kvs", []) if b"statistics" in base64.b64decode(kv["value"])]
    return [int(kv["mod_revision"]) for kv in values]


def test_a_reading_is_few_transactions_and_silence_is_none(lab: Lab) -> None:
    lab.start_agent("--counters", str(INTERVAL))
    left, right = lab.space("left"), lab.space("right")
    for space in (left, right):
        ip("netns", "add", space)
        set_sysctl(f"/run/netns/{space}", "net.ipv6.conf.all.disable_ipv6=1")
    lab.put(*(end for n in range(30) for end in pair(f"a{n}", f"b{n}", left, right)))
    lab.until_applied("a29", "b29")
    with subprocess.Popen(["ip", "netns", "exec", left, sys.executable, "-Sc", SEND]) as sending:
        try:
            until(lambda: len(revisions(lab)) == 60, what=lab.logs)
            seen = [revisions(lab)]
            while len(seen) < 20:
                time.sleep(INTERVAL / 2)
                seen.append(revisions(lab))
        finally:
            sending.terminate()
    assert max(len(set(one)) for one in seen) <= 3, "states that are read together are written together"
    assert max(seen[-1]) > max(seen[0]), "and at every reading"

    def silent() -> bool:
        before = revisions(lab)
        time.sleep(3 * INTERVAL)
        return revisions(lab) == before

    until(silent)


def test_nothing_is_counted_without_the_setting(lab: Lab) -> None:
    lab.start_agent()
    left, _ = make(lab)
    ip("netns", "exec", left, "ping", "-q", "-c", "3", "-i", "0.1", "10.9.0.2")
    assert not any("statistics" in state for state in lab.states().values())


def test_foreign_links_are_shown_to_those_who_ask_and_never_published(lab: Lab) -> None:
    lab.start_agent()
    left, _ = make(lab)
    ip("-n", left, "link", "add", "br7", "type", "bridge")
    sock = ["--socket", str(lab.folder / "0.sock")]

    def foreign() -> dict[str, Any]:
        listed = json.loads(lab.command("states", "--foreign", "--json", *sock).stdout)
        return {state["name"]: state for state in listed if state["config_state"] == "FOREIGN"}

    state = until(lambda: foreign().get(f"br7@named:{left}", {}))
    assert (state["internal_name"], state["namespace"]["name"]) == ("br7", left)
    assert {"lo", f"lo@named:{left}"} <= foreign().keys()
    assert lab.states().keys() == {"a", "b"}
    ip("-n", left, "link", "del", "br7")
    until(lambda: f"br7@named:{left}" not in foreign())
