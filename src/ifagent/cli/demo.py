"""``ifagent demo``: the real agent with a small lab, in private namespaces that end with the demo."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import click
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ifagent.agent import Agent
from ifagent.core.link import NsId
from ifagent.core.names import HostName
from ifagent.core.operation import Target
from ifagent.core.operations import DeleteLink
from ifagent.core.state import ConfigState, InterfaceState, Status
from ifagent.kernel.requests import encode
from ifagent.kernel.sockets import RequestSocket
from ifagent.nsfs import OWN_NAMESPACE_PATH, in_netns
from ifagent.settings import Settings
from ifagent.stores.files.source import FileSource
from ifagent.visible import visible

T = TypeVar("T")

NETNS = Path("/run/netns")
PAUSE = 1.2
"""Seconds for which a step stays on the screen."""

LIMIT = 10.0
"""Time limit of a step, in seconds."""

_INSIDE = "IFAGENT_DEMO_INSIDE"


@click.command("demo")
def command() -> None:
    """Demonstrate the agent on a small lab in private namespaces.

    Three namespaces joined by veth pairs come up, answer a ping, are changed and healed. Needs no root and
    leaves nothing behind.
    """
    if not os.environ.get(_INSIDE):
        _enter_private_namespaces()
    with tempfile.TemporaryDirectory(prefix="ifagent-demo-") as folder:
        anyio.run(_show, Path(folder))


def _enter_private_namespaces() -> None:
    """Start this command again in a user, mount and network namespace of its own. Does not return."""
    unshare = shutil.which("unshare")
    if unshare is None:
        raise click.ClickException("the demo needs the command unshare of util-linux")
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # A tmpfs on /run gives the demo a private, writable /run/netns.
    script = 'mount -t tmpfs tmpfs /run && exec "$0" -m ifagent demo'
    os.environ[_INSIDE] = "1"
    sys.stdout.flush()
    os.execv(unshare, [unshare, *own_user, "--mount", "--net", "sh", "-c", script, sys.executable])  # noqa: S606 fixed


async def _show(folder: Path) -> None:
    console = Console()
    example = folder / "lab.yaml"
    example.write_bytes((files("ifagent.cli") / "demo.yaml").read_bytes())
    console.print(f"[bold]ifagent demo[/]: three namespaces joined by veth pairs, declared in {example}\n")
    agent = Agent(Settings(label="demo", private_mounts=True), sources=[FileSource(example)])
    async with anyio.create_task_group() as group:
        group.start_soon(agent.run)
        await _Demo(agent, example, console).play()
        group.cancel_scope.cancel()
    console.print("\n[bold green]Done.[/] Everything was in private namespaces; nothing is left behind.")


class _Demo:
    """The steps, one after another; a step that does not succeed within :data:`LIMIT` raises an error."""

    def __init__(self, agent: Agent, example: Path, console: Console) -> None:
        self.agent = agent
        self.example = example
        self.console = console

    async def play(self) -> None:
        """Run all steps."""
        self._say("1. The interfaces come up")
        with Live(self._table(), console=self.console, refresh_per_second=20) as live, anyio.fail_after(LIMIT):
            async for _ in self.agent.states():
                live.update(self._table())
                if self._healthy(*self.agent.declarations()):
                    break
        await anyio.sleep(PAUSE)

        self._say("2. A ping across both pairs")
        for space, target in (("left", "10.1.0.2"), ("right", "10.2.0.2")):
            seconds = await anyio.to_thread.run_sync(partial(_in_namespace, space, partial(_ping, target)))
            self.console.print(f"   {space:>5} -> {target}: answer after {seconds * 1000:.2f} ms")
        await anyio.sleep(PAUSE)

        self._say("3. One change: mtu 9000 for the pair on the left, written into the file")
        before = self._state("left").if_index
        text = self.example.read_text()
        for name in ("left", "middle-left"):
            text = text.replace(f"  - name: {name}\n", f"  - name: {name}\n    mtu: 9000\n")
        started = time.monotonic()
        self.example.write_text(text)
        await self._until(lambda: self._state("left").mtu == self._state("middle-left").mtu == 9000)
        self._report(f"in {_ms(started)}, at the same ifindex ({before} = {self._state('left').if_index})")
        await anyio.sleep(PAUSE)

        self._say("4. A link is deleted by hand")
        repairs = self._state("right").repairs
        started = time.monotonic()
        await anyio.to_thread.run_sync(partial(_in_namespace, "right", partial(_delete, "eth0", self._state("right"))))
        await self._until(lambda: self._state("right").repairs > repairs and self._healthy("right", "middle-right"))
        self._report(f"drifted and repaired in {_ms(started)}: {self._state('right').last_drift}")
        seconds = await anyio.to_thread.run_sync(partial(_in_namespace, "right", partial(_ping, "10.2.0.2")))
        self.console.print(f"   right -> 10.2.0.2: answer after {seconds * 1000:.2f} ms")

    def _say(self, text: str) -> None:
        self.console.print(f"\n[bold cyan]{text}[/]")

    def _report(self, text: str) -> None:
        self.console.print(self._table())
        self.console.print(Text(visible(f"   {text}")))

    def _state(self, name: str) -> InterfaceState:
        state = self.agent.state(name)
        if state is None:
            raise click.ClickException(f"the agent has no state for {name}")
        return state

    def _healthy(self, *names: str) -> bool:
        states = [self.agent.state(name) for name in names]
        return bool(states) and all(
            s is not None and s.config_state is ConfigState.APPLIED and s.oper_status is Status.UP for s in states
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(LIMIT):
            async for _ in self.agent.states():
                if condition():
                    return

    def _table(self) -> Table:
        table = Table(
            *("interface", "namespace", "link", "ifindex", "mtu", "addresses", "state", "is"),
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        colours = {ConfigState.APPLIED: "green", ConfigState.PENDING: "yellow"}
        for name in sorted(self.agent.declarations()):
            state = self.agent.state(name)
            if state is not None:
                colour = colours.get(state.config_state, "red")
                table.add_row(
                    name,
                    state.namespace.reference,
                    state.internal_name,
                    str(state.if_index or ""),
                    str(state.mtu or ""),
                    "\n".join(map(str, state.ip_addresses)),
                    f"[{colour}]{state.config_state}[/]",
                    state.oper_status.name.lower(),
                )
        return table


def _ms(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.0f} ms"


def _in_namespace(name: str, action: Callable[[], T]) -> T:
    """Run ``action`` inside a named namespace; for worker threads."""
    with (
        (NETNS / name).open("rb") as namespace,
        Path(OWN_NAMESPACE_PATH).open("rb") as home,
        in_netns(namespace.fileno(), home=home.fileno()),
    ):
        return action()


def _delete(host_name: str, state: InterfaceState) -> None:
    """Delete a link as ``ip link del`` does."""
    requests = RequestSocket()
    try:
        requests.request([encode(DeleteLink(Target(NsId(0), HostName(host_name), state.if_index)), fds={})])
    finally:
        requests.close()


def _ping(address: str) -> float:
    """Send one ICMP echo request; return the seconds until its answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        icmp.settimeout(LIMIT)
        body = struct.pack("!HH", os.getpid() & 0xFFFF, 1)
        # The one's complement sum of RFC 1071 is the sum modulo 0xFFFF.
        checksum = ~((0x0800 + sum(struct.unpack("!HH", body))) % 0xFFFF) & 0xFFFF
        started = time.monotonic()
        icmp.sendto(struct.pack("!BBH", 8, 0, checksum) + body, (address, 0))
        while True:
            answer = icmp.recv(1500)
            header = (answer[0] & 0xF) * 4
            if answer[header] == 0 and answer[header + 4 : header + 8] == body:
                return time.monotonic() - started
