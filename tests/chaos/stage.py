"""Everything real that chaos plays with: a kernel, an etcd behind a proxy, an agent, processes and containers."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from anyio.from_thread import BlockingPortal, start_blocking_portal
from chaos import look
from chaos.observation import Observation, SpaceId
from chaos.oracle import Facts
from chaos.store import Store
from chaos.values import OWN, Space
from docker_engine import Box, DockerEngine
from etcd_server import EtcdServer, TcpProxy, proxy_to, running
from lab import Lab, lab_in, until
from spawned import OWN_SPACE, SLEEP, Spawned, space_of

NO_SUCH_PROCESS = 1_999_999_000
"""Process ids from here on nobody has."""


class Wire:
    """The connection between the agent and its store."""

    def __init__(self, portal: BlockingPortal, proxy: TcpProxy) -> None:
        self.reset: Callable[[], None] = partial(portal.call, proxy.reset)
        self.swallow: Callable[[], None] = partial(portal.call, proxy.swallow)
        self.flow: Callable[[], None] = partial(portal.call, proxy.flow)


class Stage:
    """The real things, and what others than the agent have done to them."""

    def __init__(
        self, folder: Path, etcd: EtcdServer, lab: Lab, docker: DockerEngine | None, *, wire: Wire, remembers: bool
    ) -> None:
        self.wire = wire
        self.remembers = remembers
        self.folder = folder
        self.etcd = etcd
        self.lab = lab
        self.docker = docker
        self.store = Store(etcd, lab.label)
        self.agent: subprocess.Popen[bytes] | None = None
        self.processes: dict[str, Spawned] = {}
        self.pids: dict[str, int] = {}
        self.boxes: dict[str, Box] = {}
        self.foreign: set[tuple[SpaceId, str]] = set()
        self.fresh: set[tuple[SpaceId, str]] = set()
        self.namespaces: set[str] = set()
        self.taps: dict[str, str] = {}
        self.taps_at_risk = False
        self.agents_started = 0

    # Names

    def real(self, space: Space) -> Space:
        """Return a reference as the agent is to get it."""
        match space.kind:
            case "pid":
                number = self.pids.get(space.reference, NO_SUCH_PROCESS + int(space.reference[1:]))
                return Space("pid", str(number))
            case "file":
                return Space("file", str(self.folder / space.reference))  # an absolute path stays what it is
            case _:
                return space

    def path(self, space: Space) -> str:
        """Return where a namespace can be entered now, empty if it is not there."""
        match space.kind:
            case "own":
                path = look.OWN_PATH
            case "named":
                path = str(look.NAMESPACES / space.reference)
            case "pid":
                known = space.reference in self.processes
                path = f"/proc/{self.pids[space.reference]}/ns/net" if known else ""
            case "file":
                path = str(self.folder / space.reference)
            case _:
                path = f"/proc/{self.pids[space.reference]}/ns/net" if space.reference in self.boxes else ""
        return path if path and look.space_at(path) else ""

    def other_spaces(self) -> list[Space]:
        """Return every reference that may lead somewhere, but for names and the agent's own namespace."""
        files = [Space("file", f"f{number}") for number in range(2)]
        files += [Space("file", str(look.NAMESPACES / name)) for name in look.named()[0]]
        return [
            *files,
            *(Space("pid", slot) for slot in self.processes),
            *(Space("microservice", slot) for slot in self.boxes),
        ]

    def end_space(self, space: Space, end: Callable[[], object]) -> None:
        """Do what ends a namespace, and whatever is in it, unless there is another way to it."""
        path = self.path(space)
        gone = look.space_at(path) if path else 0
        end()
        self.taps_at_risk = True
        others = [OWN, *self.other_spaces(), *(Space("named", name) for name in look.named()[0])]
        if gone and gone not in {look.space_at(path) for other in others if (path := self.path(other))}:
            self.foreign = {place for place in self.foreign if place[0] != gone}

    # The agent

    def start_agent(self) -> None:
        """Start the agent, without waiting for anything."""
        options = ["--container-socket", str(self.docker.socket)] if self.docker else []
        options += ["--state-dir", str(self.folder / "state")] if self.remembers else []
        self.agent = self.lab.start_agent("--log-level", "info", *options, ready=False)
        self.agents_started += 1

    def end_agent(self, number: signal.Signals) -> None:
        """End the agent."""
        assert self.agent
        self.agent.send_signal(number)
        self.agent.wait(30)
        self.agent = None

    def signal_agent(self, number: signal.Signals) -> None:
        """Send the agent a signal."""
        assert self.agent
        self.agent.send_signal(number)

    def agent_log(self) -> str:
        """Return the end of the newest agent's log."""
        path = self.folder / f"agent-{self.agents_started - 1}.log"
        return path.read_text()[-12000:] if path.exists() else ""

    # Processes

    def start_process(self, slot: str) -> None:
        """Start a process in a network namespace of its own."""
        process = Spawned(*OWN_SPACE, *SLEEP)
        until(lambda: space_of(process.pid) not in {0, look.space_at(look.OWN_PATH)})
        self.processes[slot], self.pids[slot] = process, process.pid

    def join_process(self, slot: str, namespace: str) -> None:
        """Start a process in a named namespace, in the agent's own one if there is none of the name."""
        path = self.path(Space("named", namespace)) or look.OWN_PATH
        process = Spawned("nsenter", f"--net={path}", *SLEEP)
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == "sleep")
        self.processes[slot], self.pids[slot] = process, process.pid

    def end_process(self, slot: str) -> None:
        """Kill it, if it has not ended with the namespace that it had joined."""
        if slot in self.processes:
            self.end_space(Space("pid", slot), lambda: self.processes.pop(slot).end())

    # Looking

    def observe(self) -> Observation:
        """Return what is there."""
        spaces, ordinary = {OWN: look.space_at(look.OWN_PATH)}, set()
        named, stale = look.named()
        spaces |= {Space("named", name): space for name, space in named.items()}
        others = self.other_spaces()
        paths = {spaces[OWN]: look.OWN_PATH}
        paths |= {space: str(look.NAMESPACES / name) for name, space in named.items()}
        for reference in others:
            if path := self.path(reference):
                spaces[self.real(reference)] = space = look.space_at(path)
                paths[space] = path
            elif reference.kind == "file" and (self.folder / reference.reference).exists():
                ordinary.add(self.real(reference))
        found = {space: look.links_in(path, space) for space, path in paths.items()}
        return Observation(
            own=spaces[OWN],
            spaces=spaces,
            links=tuple(link for links, _ in found.values() for link in links),
            states=self.store.states(),
            ordinary=frozenset(ordinary),
            without_ipv6=frozenset(space for space, (_, ipv6) in found.items() if not ipv6),
            named=named,
            stale=frozenset(stale),
        )

    def facts(self, seen: Observation) -> Facts:
        """Return what others have made, as far as it is still there."""
        there = {link.tap for link in seen.links}
        # The agent removes a namespace of its own that is empty, and somebody may have made something in it just then.
        alive = set(seen.spaces.values())
        foreign = frozenset(place for place in self.foreign if place not in self.fresh or place[0] in alive)
        made = {name: mac for name, mac in self.taps.items() if name in there or not self.taps_at_risk}
        return Facts(foreign, frozenset(self.namespaces), made)

    def settle(self, facts: Facts) -> None:
        """Note that these facts are certain."""
        self.foreign = set(facts.foreign)
        self.fresh.clear()
        self.taps = dict(facts.taps)
        self.taps_at_risk = False

    def clean_up(self) -> None:
        """End and take away what the lab does not know of."""
        if self.agent is not None and self.agent.poll() is None:
            self.end_agent(signal.SIGKILL)
        for slot in list(self.processes):
            self.processes.pop(slot).end()
        for number in range(2):
            subprocess.run(["umount", "--lazy", str(self.folder / f"f{number}")], capture_output=True, check=False)
        for name in look.named()[0]:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@contextmanager
def stage(folder: Path, docker: DockerEngine | None, *, remembers: bool = False) -> Iterator[Stage]:
    """Have everything, with a running agent that reaches its etcd through a proxy, and take it away afterwards.

    An agent that ``remembers`` keeps the last intent in a file.
    """
    (folder / "etcd").mkdir()
    with ExitStack() as stack:
        etcd = stack.enter_context(running(folder / "etcd"))
        portal = stack.enter_context(start_blocking_portal())
        proxy = stack.enter_context(portal.wrap_async_context_manager(proxy_to(etcd.port)))
        etcd.address = proxy.before(etcd.address)
        lab = stack.enter_context(lab_in(etcd, "chaos", folder))
        made = Stage(folder, etcd, lab, docker, wire=Wire(portal, proxy), remembers=remembers)
        stack.callback(made.clean_up)
        made.start_agent()
        yield made
