"""The labs in examples/: applied as they stand there by a real agent, and used."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from kernel_rig import LinuxExternal
from linux import can_make
from patience import PATIENCE

from ifagent import Agent, ConfigState, InterfaceState, Memory, Settings
from ifagent.formats.interface_files import read_interfaces
from ifagent.kernel.linux import LinuxKernel

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

EXAMPLES = Path(__file__).parents[2] / "examples"


class Lab:
    """The namespaces of a lab that is applied."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def run(self, namespace: str, *command: str) -> int:
        inside = ["nsenter", f"--net={self._directory / namespace}", *command]
        return subprocess.run(inside, check=False, capture_output=True, timeout=30 * PATIENCE).returncode

    async def reaches(self, namespace: str, address: str, *options: str) -> bool:
        """Tell whether an address answers from a namespace within some seconds."""
        with anyio.move_on_after(10 * PATIENCE):
            while self.run(namespace, "ping", "-c", "1", "-W", "1", *options, address):
                await anyio.sleep(0.1)
            return True
        return False


@asynccontextmanager
async def applied(name: str, tmp_path: Path, *kinds: str) -> AsyncIterator[Lab]:
    for kind in kinds:
        if not can_make(kind):
            pytest.skip(f"this kernel makes no {kind} links")
    directory = tmp_path / "netns"
    directory.mkdir()
    external = LinuxExternal(directory)
    entries = read_interfaces(EXAMPLES / name).entries
    declared = [entry.declaration.interface for entry in entries]
    assert all(interface is not None for interface in declared), [entry.declaration.errors for entry in entries]
    try:
        sources = [Memory([interface for interface in declared if interface])]
        kernel = LinuxKernel(netns_dir=str(directory))
        async with Agent.open(Settings(netns_dir=directory, label="labs"), sources=sources, kernel=kernel) as agent:
            with anyio.move_on_after(20 * PATIENCE):
                while not all(state.config_state is ConfigState.APPLIED for state in states(agent)):
                    await anyio.sleep(0.05)
            assert {(s.config_state, s.reason) for s in states(agent)} == {(ConfigState.APPLIED, "")}
            yield Lab(directory)
    finally:
        external.clean_up()


def states(agent: Agent) -> list[InterfaceState]:
    return list(agent.current_states().values())


async def test_a_router_on_a_stick(tmp_path: Path) -> None:
    async with applied("router_on_a_stick.yaml", tmp_path, "bridge with VLANs", "vlan") as lab:
        assert await lab.reaches("host10", "10.0.10.1")
        assert await lab.reaches("host20", "10.0.20.1")
        assert lab.run("host10", "ping", "-c", "1", "-W", "1", "10.0.20.2"), "that is another VLAN"


async def test_two_tenants(tmp_path: Path) -> None:
    async with applied("two_tenants.yaml", tmp_path, "vrf") as lab:
        for tenant in ("red", "blue"):
            assert await lab.reaches(tenant, "10.0.0.1")
            assert await lab.reaches("router", "10.0.0.2", "-I", tenant)


async def test_a_bond(tmp_path: Path) -> None:
    async with applied("bond.yaml", tmp_path, "bond") as lab:
        assert await lab.reaches("left", "10.0.0.2")


async def test_an_overlay(tmp_path: Path) -> None:
    async with applied("vxlan.yaml", tmp_path, "vxlan") as lab:
        assert await lab.reaches("left", "10.0.0.2")
        assert await lab.reaches("right", "10.0.0.1", "-s", "1422", "-M", "do"), "it fills the MTU of 1450"


def test_every_lab_is_tried() -> None:
    tried = Path(__file__).read_text()
    assert all(path.name in tried for path in EXAMPLES.glob("*.yaml") if path.name != "pair.yaml")
