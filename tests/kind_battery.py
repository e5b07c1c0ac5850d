"""What every kind of link is put through: an agent, a kernel, simulated or real, and somebody else who interferes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from kernel_rig import External, LinuxExternal, SimulatedExternal
from linux import can_make
from patience import PATIENCE

from ifagent import Agent, ConfigState, Interface, InterfaceState, Memory, Settings
from ifagent.core.events import LinkSeen, LinksListed
from ifagent.core.interface import Interface as Declared
from ifagent.core.kinds import Kind, Veth
from ifagent.core.link import Link, LinkId, NsId
from ifagent.core.names import HostName, Name
from ifagent.core.namespace_ref import NamespaceRef, named
from ifagent.core.operation import Operation, Outcome, Target
from ifagent.core.operations import ChangeLink, DeleteLink, SetLink
from ifagent.kernel.contract import Emit, Kernel
from ifagent.kernel.linux import LinuxKernel
from ifagent.kernel.simulated import SimulatedKernel

WITHIN = 10.0 * PATIENCE
"""Seconds within which what is declared has to be there."""

SPACE = named("s")


class Recorder:
    """A kernel in front of another: keeps what the agent asks for, and every link as it was last told."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.links: dict[LinkId, Link] = {}
        self.asked: list[Operation] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    async def run(self, emit: Emit, **options: Any) -> None:
        def note(event: Any) -> None:
            if isinstance(event, LinksListed):
                self.links = {id_: link for id_, link in self.links.items() if id_.namespace != event.namespace}
                for link in (event.links or {}).values():
                    self.links[link.id] = link
            elif isinstance(event, LinkSeen):
                if event.link is None:
                    self.links.pop(event.id, None)
                else:
                    self.links[event.id] = event.link
            emit(event)

        await self._kernel.run(note, **options)

    async def execute(self, operations: Iterable[Operation]) -> list[Outcome]:
        self.asked += operations
        return await self._kernel.execute(list(operations))

    async def interfere(self, *operations: Operation) -> None:
        """Do what somebody else does, in the agent's own words for it."""
        outcomes = await self._kernel.execute(list(operations))
        assert all(not outcome.errno for outcome in outcomes), outcomes


class Battery:
    """An agent on a kernel; :meth:`restart` makes another agent on it."""

    def __init__(self, kernel: Recorder, external: External, settings: Settings) -> None:
        self.kernel = kernel
        self.external = external
        self.declared = Memory()
        self._settings = settings
        self.agent: Agent | None = None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Agent]:
        self.kernel.asked.clear()
        async with Agent.open(self._settings, sources=[self.declared], kernel=self.kernel) as agent:
            self.agent = agent
            yield agent

    def declare(self, *interfaces: Interface) -> None:
        for interface in interfaces:
            self.declared.set(interface)

    def change(self, name: Name, **fields: Any) -> None:
        before = self.declared.get(name)
        assert before is not None
        self.declared.set(replace(before, **fields))

    def change_kind(self, name: Name, **fields: Any) -> None:
        before = self.declared.get(name)
        assert before is not None
        self.declared.set(replace(before, kind=replace(before.kind, **fields)))

    def state(self, name: Name) -> InterfaceState | None:
        assert self.agent is not None
        return self.agent.state(name)

    def link(self, name: Name) -> Link:
        """Return the link of an interface as the kernel tells of it."""
        state = self.state(name)
        assert state is not None
        return self.kernel.links[LinkId(NsId(state.namespace_id or 0), state.if_index)]

    def target(self, name: Name) -> Target:
        return Target.of(self.link(name))

    async def applied(self, *names: Name) -> None:
        await self.until(lambda: all(self.is_applied(name) for name in names), names)

    def is_applied(self, name: Name) -> bool:
        state = self.state(name)
        return state is not None and state.config_state is ConfigState.APPLIED

    async def says(self, name: Name, config_state: ConfigState, text: str) -> None:
        def said() -> bool:
            state = self.state(name)
            return state is not None and state.config_state is config_state and text in state.reason

        await self.until(said, [name])

    async def until(self, holds: Callable[[], bool], names: Iterable[Name] = ()) -> None:
        """Wait until something holds; says what the interfaces are like if it does not."""
        with anyio.move_on_after(WITHIN):
            while True:
                try:
                    if holds():
                        return
                except (KeyError, AssertionError):
                    pass
                await anyio.sleep(0.01)
        names = names or [interface.name for interface in self.declared]
        told = [(name, state and (state.config_state, state.reason)) for name in names for state in [self.state(name)]]
        raise AssertionError(f"does not hold: {told}; links {sorted(map(str, self.kernel.links.values()))}")


def needs(kernel_kind: str, *kinds: str) -> None:
    """Skip a test whose links the real kernel does not have."""
    for kind in kinds:
        if kernel_kind == "linux" and not can_make(kind):
            pytest.skip(f"this kernel makes no {kind} links")


@asynccontextmanager
async def battery_on(kernel_kind: str, tmp_path: Path, **settings: Any) -> AsyncIterator[Battery]:
    """Make a kernel with the namespaces ``s`` and ``t``."""
    if kernel_kind == "simulated":
        simulated = SimulatedKernel()
        for name in ("s", "t"):
            simulated.external.add_namespace(name)
        yield Battery(Recorder(simulated), SimulatedExternal(simulated), Settings(**settings))
        return
    directory = tmp_path / "netns"
    directory.mkdir()
    external = LinuxExternal(directory)
    try:
        for name in ("s", "t"):
            external.add_namespace(name)
        kernel = LinuxKernel(netns_dir=str(directory))
        yield Battery(Recorder(kernel), external, Settings(netns_dir=directory, label="kinds", **settings))
    finally:
        external.clean_up()


def interface(name: Name, kind: Kind, namespace: NamespaceRef = SPACE, **fields: Any) -> Interface:
    """Return an enabled interface in namespace ``s``."""
    return Declared(name=name, kind=kind, namespace=namespace, **{"enabled": True, **fields})


def pair(near: Name, far: Name, **fields: Any) -> tuple[Interface, Interface]:
    """Return a veth pair in namespace ``s``."""
    return interface(near, Veth(peer_if_name=far), **fields), interface(far, Veth(peer_if_name=near))


__all__ = ["Battery", "ChangeLink", "DeleteLink", "HostName", "SetLink", "battery_on", "interface", "needs", "pair"]
