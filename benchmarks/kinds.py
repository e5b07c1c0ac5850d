"""K1: VLANs on few lower links, and bridges with ports, against ``ip -batch`` making the same.

As in P2, an agent with nothing to do runs, and the values are put into etcd; from the first put to the last interface
applied. What a kernel does not have is replaced: VLANs by macvlans, dummies by pairs.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linux import can_make

from benchmarks.bench import Bench
from benchmarks.cold_start import in_turn
from benchmarks.fixture import GROUP, key
from benchmarks.results import Figure
from benchmarks.spaces import Spaces
from ifagent.formats.enums import InterfaceType

LABEL = "kinds"
SPACE = "s0"


@dataclass(slots=True)
class Links:
    """What is to be made: the values, and what ``ip -batch`` is told."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def add(self, name: str, kind: InterfaceType, line: str, **fields: Any) -> None:
        """Add a link that is to be up; ``line`` is what follows the name and the group."""
        value = {"name": name, "type": kind, "enabled": True, "namespace": {"type": 2, "name": SPACE}, **fields}
        self.values[key(LABEL, name)] = json.dumps(value).encode()
        if line:
            self.lines += [f"link add name {name} group {GROUP} {line}", f"link set dev {name} up"]

    def add_plain(self, name: str, **fields: Any) -> None:
        """Add a link without a kind's own settings: a dummy, or a pair where there are none."""
        if can_make("dummy"):
            self.add(name, InterfaceType.DUMMY, "type dummy", **fields)
            return
        far = f"{name}-far"
        self.add(name, InterfaceType.VETH, f"type veth peer name {far}", veth={"peer_if_name": far}, **fields)
        self.add(far, InterfaceType.VETH, "", veth={"peer_if_name": name})
        self.lines += [f"link set dev {far} group {GROUP} up"]


def uppers_on(lowers: int, each: int) -> tuple[str, Links]:
    """Return VLANs on lower links."""
    links = Links()
    word = "VLANs" if can_make("vlan") else "macvlans"
    for lower in range(lowers):
        links.add_plain(f"l{lower}")
        for number in range(each):
            name, on = f"v{lower}-{number}", f"l{lower}"
            if word == "VLANs":
                vlan = {"lower_if_name": on, "id": number + 1}
                links.add(name, InterfaceType.VLAN, f"link {on} type vlan id {number + 1}", vlan=vlan)
            else:
                macvlan = {"lower_if_name": on}
                links.add(name, InterfaceType.MACVLAN, f"link {on} type macvlan mode bridge", macvlan=macvlan)
    return f"{lowers * each} {word} on {lowers} links", links


def bridges_with(bridges: int, ports: int) -> tuple[str, Links]:
    """Return bridges with ports."""
    links = Links()
    for bridge in range(bridges):
        links.add(f"b{bridge}", InterfaceType.BRIDGE, "type bridge")
        for port in range(ports):
            name = f"p{bridge}-{port}"
            links.add_plain(name, master_if_name=f"b{bridge}")
            links.lines.append(f"link set dev {name} master b{bridge}")
    return f"{bridges} bridges with {ports} ports each", links


def run(bench: Bench) -> Iterator[Figure]:
    """Measure K1."""
    tasks = [uppers_on(4, 10), bridges_with(10, 4)] if bench.quick else [uppers_on(10, 50), bridges_with(100, 5)]
    with Spaces.made(Path("/run/netns"), 1) as spaces:
        for what, links in tasks:
            times = in_turn(bench.repeats, agent=_agent(bench, spaces, links), ip=_ip(bench, spaces, links))
            count = len(links.values)
            yield Figure(
                row="K1",
                measure=f"{what}, put into a running agent",
                values=[seconds / count * 1000 for seconds in times["agent"]],
                unit="ms/link",
                reference="ip -batch",
                ratios=[one / two for one, two in zip(times["agent"], times["ip"], strict=True)],
                quick_most=8.0,
            )
            values = [seconds / count * 1000 for seconds in times["ip"]]
            yield Figure(row="K1", measure=f"{what}, ip -batch", values=values, unit="ms/link")


def _agent(bench: Bench, spaces: Spaces, links: Links) -> Any:
    def put() -> float:
        with bench.agent(LABEL, spaces.directory) as agent:
            agent.wait_ready()
            agent.wait_idle()
            started = time.perf_counter()
            bench.store.put(links.values)
            seconds = agent.wait_applied(len(links.values)) - started
            _check(links)
        return _cleared(bench, spaces, seconds)

    return put


def _ip(bench: Bench, spaces: Spaces, links: Links) -> Any:
    def batch() -> float:
        path = bench.folder / "kinds"
        path.write_text("\n".join(links.lines) + "\n")
        started = time.perf_counter()
        subprocess.run(["ip", "-n", SPACE, "-batch", str(path)], check=True)
        seconds = time.perf_counter() - started
        _check(links)
        return _cleared(bench, spaces, seconds)

    return batch


def _check(links: Links) -> None:
    """Raise ``AssertionError`` unless all links are there and up."""
    listed = subprocess.run(["ip", "-n", SPACE, "-j", "link"], capture_output=True, text=True, check=True).stdout
    up = {link["ifname"] for link in json.loads(listed) if "UP" in link["flags"]}
    missing = {json.loads(value)["name"] for value in links.values.values()} - up
    assert not missing, f"{len(missing)} links are missing or down, such as {sorted(missing)[:3]}"


def _cleared(bench: Bench, spaces: Spaces, seconds: float) -> float:
    bench.store.clear(LABEL)
    spaces.sweep(LABEL)
    time.sleep(0.5)  # what the kernel does after the end of a link is not to disturb the next
    return seconds
