"""How long do veth pairs take: ifagent, against ``ip -batch`` doing the same from prepared files.

One pair: ends in two existing namespaces, MAC, MTU, up, one IPv4 and one IPv6 address on each end. Both are
measured in turn (A B A B ...) in private namespaces; what counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from ipaddress import ip_interface
from pathlib import Path

from ifagent import Agent, ConfigState, Interface, Settings, Veth, named

SPACES = 100


def declare(count: int) -> list[Interface]:
    """Return the ends of so many pairs."""
    return [
        Interface(
            name=f"{mine}{number}",
            kind=Veth(peer_if_name=f"{other}{number}"),
            namespace=named(f"bench{(number + shift) % SPACES}"),
            enabled=True,
            mtu=1400,
            phys_address=f"02:00:{shift:02x}:00:{number >> 8:02x}:{number & 255:02x}",
            ip_addresses=tuple(
                ip_interface(text)
                for text in (f"10.{number >> 8}.{number & 255}.{shift}/24", f"2001:db8:{number:x}::{shift}/64")
            ),
        )
        for number in range(count)
        for shift, mine, other in ((1, "a", "b"), (2, "b", "a"))
    ]


def ip(*words: str) -> None:
    """Run ``ip``."""
    subprocess.run(["ip", *words], check=True)


def fresh_namespaces() -> None:
    """Make the namespaces anew, so that both find the same."""
    for number in range(SPACES):
        subprocess.run(["ip", "netns", "del", f"bench{number}"], check=False, stderr=subprocess.DEVNULL)
        ip("netns", "add", f"bench{number}")


async def with_agent(interfaces: list[Interface]) -> float:
    """Return the seconds from declaring to everything applied; the agent runs already."""
    async with Agent.open(Settings(label="bench")) as agent:
        started = time.perf_counter()
        states = await agent.resync(interfaces)
        seconds = time.perf_counter() - started
        assert all(state.config_state is ConfigState.APPLIED for state in states.values())
        return seconds


def batches(interfaces: Iterable[Interface], folder: Path) -> list[tuple[str, Path]]:
    """Write one file of ``ip`` commands per namespace, first those that create pairs."""
    by_name = {interface.name: interface for interface in interfaces}
    create: dict[str, list[str]] = {}
    settle: dict[str, list[str]] = {}
    for interface in by_name.values():
        space = interface.namespace.reference
        if interface.name.startswith("a"):
            peer = by_name[interface.name.replace("a", "b", 1)]
            create.setdefault(space, []).append(
                f"link add name {interface.name} address {interface.phys_address} mtu {interface.mtu} type veth "
                f"peer name {peer.name} address {peer.phys_address} mtu {peer.mtu} netns {peer.namespace.reference}"
            )
        lines = settle.setdefault(space, [])
        lines.append(f"link set dev {interface.name} up")
        lines += [f"addr add {address} dev {interface.name}" for address in interface.ip_addresses]
    files: list[tuple[str, Path]] = []
    for step, group in (("create", create), ("settle", settle)):
        for space, lines in group.items():
            path = folder / f"{step}-{space}"
            path.write_text("\n".join(lines) + "\n")
            files.append((space, path))
    return files


def with_ip(files: list[tuple[str, Path]]) -> float:
    """Return the seconds that ``ip -batch`` takes for all files."""
    started = time.perf_counter()
    for space, path in files:
        ip("-n", space, "-batch", str(path))
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    interfaces = declare(options.pairs)
    times: dict[str, list[float]] = {"ifagent": [], "ip -batch": []}
    with tempfile.TemporaryDirectory() as folder:
        files = batches(interfaces, Path(folder))
        for _ in range(options.rounds):
            fresh_namespaces()
            times["ifagent"].append(asyncio.run(with_agent(interfaces)))
            fresh_namespaces()
            times["ip -batch"].append(with_ip(files))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["ifagent"] / medians["ip -batch"]
    if options.json:
        print(json.dumps({"pairs": options.pairs, "seconds": times, "ratio": ratio}))
        return
    for name, values in times.items():
        spread = f"{min(values):.3f} to {max(values):.3f} s"
        print(f"{name:>10}: {medians[name]:.3f} s ({medians[name] / options.pairs * 1000:.2f} ms a pair, {spread})")
    print(f"     ratio: {ratio:.2f}")


if __name__ == "__main__":
    if os.environ.get("IFAGENT_BENCH_INSIDE"):
        main()
    else:
        os.environ["IFAGENT_BENCH_INSIDE"] = "1"
        inside = 'mount -t tmpfs tmpfs /run && exec "$0" "$@"'
        os.execvp("unshare", ["unshare", "-Urnm", "sh", "-c", inside, sys.executable, *sys.argv])
