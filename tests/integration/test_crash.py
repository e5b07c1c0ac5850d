"""An agent that is killed, at any step or at any instant, and the next one: the kernel ends as declared.

``IFAGENT_CRASH_RUNS`` says how often an agent is killed at a random instant of a large batch, and with which seed the
instants are chosen ``IFAGENT_CRASH_SEED``.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from lab import Lab, addresses, ip, lab_in, links_of, pair, until, veth

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]

RUNS = int(os.environ.get("IFAGENT_CRASH_RUNS", "3"))
SEED = int(os.environ.get("IFAGENT_CRASH_SEED", "1"))

pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120 + 15 * RUNS)]

PROGRAM = Path(__file__).parent.parent / "crashing_agent.py"
NETNS = Path("/run/netns")


class Agents:
    """Makes agents for a lab quickly, one at a time."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._maker = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._count = 0
        # The agents are nobody's children here, so their ids may be those of others once they have ended.
        self._agent = -1
        self.log = Path()

    def start(self, *, kill_at: int = 0) -> None:
        """Start an agent that ends before that step, or not by itself; the one before must have ended."""
        assert not self.alive
        self._forget()
        self._count += 1
        self.log = self._lab.folder / f"agent-{self._count % 4}.log"
        self.log.unlink(missing_ok=True)
        order = {
            "label": self._lab.label,
            "store": str(self._lab.etcd.address),
            "socket": str(self._lab.folder / "agent.sock"),
            "log": str(self.log),
            "kill_at": kill_at,
        }
        assert self._maker.stdin
        assert self._maker.stdout
        self._maker.stdin.write(json.dumps(order) + "\n")
        self._maker.stdin.flush()
        self._agent = os.pidfd_open(int(self._maker.stdout.readline()))

    @property
    def alive(self) -> bool:
        return self._agent >= 0 and not select.select([self._agent], [], [], 0)[0]

    def said(self, event: str) -> bool:
        return self.log.exists() and bool(re.search(rf'"event": ?"{event}"', self.log.read_text()))

    def killed_itself(self) -> bool:
        """Wait until it has, or has done everything; tell which."""
        until(lambda: not self.alive or self.said("agent ready"), what=self._lab.logs)
        assert self.alive or self.said("killed"), self._lab.logs()
        return not self.alive

    def kill(self) -> None:
        """End the agent, whatever it does."""
        if self.alive:
            with suppress(ProcessLookupError):  # it has just ended by itself
                signal.pidfd_send_signal(self._agent, signal.SIGKILL)
            until(lambda: not self.alive)

    def close(self) -> None:
        self.kill()
        self._forget()
        self._maker.communicate(timeout=10)

    def _forget(self) -> None:
        if self._agent >= 0:
            os.close(self._agent)
            self._agent = -1


@pytest.fixture
def agents(lab: Lab) -> Iterator[Agents]:
    made = Agents(lab)
    try:
        yield made
    finally:
        made.close()


def declare(lab: Lab, values: Sequence[dict[str, Any]]) -> None:
    """Have exactly these values in the store, by one transaction."""
    there = set(lab.etcd.values(lab.key("")))
    puts = [f"put {lab.key(value['name'])} {json.dumps(json.dumps(value))}" for value in values]
    deletes = [f"del {key}" for key in sorted(there - {lab.key(value["name"]) for value in values})]
    lab.etcd.ctl("txn", given=("\n" + "\n".join(puts + deletes) + "\n\n\n").encode())


MET = (
    *("create namespace", "what follows _claim", "what follows _mark", "create veth", "set .*:", "move", "add"),
    *("delete .* from", "delete", "remove namespace", "what follows unmount"),
)
"""How the operations begin, and halves of them, that lie between the two states of the store in both directions."""

MET_FORTH = ("set checksum", "keep secondary")
"""Those that do in one."""

MOST_TURNS = 4
"""How often all steps are gone through until every kind of operation was met."""

Picture = dict[str, dict[str, Any]]


def picture(lab: Lab, names: Sequence[str]) -> Picture:
    """Return what there is of a lab: links by namespace and host name, and the files of named namespaces."""
    mine = lab.label[-8:]
    spaces = {name: {host_name: _told(link) for host_name, link in lab.links(name).items()} for name in names}
    for name in names:
        for link in json.loads(ip("-n", name, "-j", "-d", "addr", "show", "dev", "lo", check=False) or "[]"):
            spaces[name]["lo"] = _told(link)
    own = {host_name: _told(link) for host_name, link in lab.links().items() if host_name.endswith(mine)}
    return spaces | {"own": own, "files": {name: None for name in _files() if name.endswith(mine)}}


def _files() -> set[str]:
    return {path.name for path in NETNS.iterdir()} if NETNS.exists() else set()


def _told(link: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same whenever it is made anew."""
    kept = {key: link.get(key) for key in ("mtu", "address", "ifalias", "group", "operstate", "txqlen")}
    kind = link.get("linkinfo", {}).get("info_kind")
    if kind == "tun":  # without carrier it is down or unknown, by which of two events the kernel looked at last
        del kept["operstate"]
    return kept | {"kind": kind, "up": "UP" in link["flags"], "addresses": addresses(link)}


# At every step


class Stepping:
    """A lab that goes to and fro between two states of the store, each time with an agent that is killed at a step."""

    def __init__(self, lab: Lab, agents: Agents) -> None:
        self._lab = lab
        self._agents = agents
        self.suffix = lab.label[-8:]
        self._states = declarations(lab)
        self._names = [f"{name}-{self.suffix}" for name in ("stays", "old", "new")]
        self._pictures: list[Picture] = []
        self.met: tuple[set[str], set[str]] = (set(), set())

    def learn(self) -> None:
        """Have an agent that nobody disturbs show what each state of the store is to look like."""
        ip("tuntap", "add", "dev", f"made{self._lab.label[-8:]}", "mode", "tap")
        for values in self._states:
            declare(self._lab, values)
            self._agents.start()
            until(lambda: self._agents.said("agent ready"), what=self._lab.logs)
            self._lab.until_applied(*(value["name"] for value in values))
            self._agents.kill()
            self._pictures.append(picture(self._lab, self._names))
        assert self._pictures[0] != self._pictures[1]
        assert [len(seen["files"]) for seen in self._pictures] == [2, 2]

    def go(self, first: int, by: int) -> None:
        """Kill agents at each step from ``first`` on, as long as there are so many; leave out some ``by`` by."""
        if not self._pictures:
            self.learn()
        step, more = first, {0, 1}
        while more:
            for towards in (0, 1):
                if not self._put_right(towards, step if towards in more else 0):
                    more.discard(towards)
            step += by

    def _put_right(self, towards: int, kill_at: int) -> bool:
        """Go to a state with an agent that is killed at a step, and with the next; tell whether there was the step."""
        declare(self._lab, self._states[towards])
        self._agents.start(kill_at=kill_at)
        killed = self._agents.killed_itself()
        told = "nothing"
        if killed:
            told = json.loads(self._agents.log.read_text().splitlines()[-1])["before"]
            self.met[towards].add(next((kind for kind in (*MET_FORTH, *MET) if re.match(kind, told)), told))
            self._agents.start()
            until(lambda: self._agents.said("agent ready"), what=self._lab.logs)
        until(
            lambda: picture(self._lab, self._names) == self._pictures[towards],
            what=lambda: (
                f"after a kill before {told}: {picture(self._lab, self._names)}, not {self._pictures[towards]}\n"
                f"{self._lab.logs()}"
            ),
        )
        self._agents.kill()
        return killed


def declarations(lab: Lab) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return two states of the store between which every kind of operation lies, in both directions."""
    stays, old, new = lab.space("stays"), lab.space("old"), lab.space("new")
    mine = lab.label[-8:]
    # In the namespace that all share, nobody may have an address of somebody else's network.
    net = f"10.{1 + int(mine[:2], 16) % 254}.{int(mine[2:4], 16)}"
    loopback = {"name": "lo", "type": 2, "enabled": True, "namespace": {"type": 2, "name": stays}}
    before = [
        veth("a", "b", stays, mtu=1400, ip_addresses=["10.0.0.1/24", "10.0.0.3/24", "2001:db8::1/64"]),
        veth("b", "a", stays, phys_address="02:00:00:00:00:0b", ip_addresses=["10.0.0.2/24"]),
        veth("c", "d", host_if_name=f"c{mine}", ip_addresses=[f"{net}.1/24"]),
        veth("d", "c", old),
        loopback,
    ]
    after = [
        veth("a", "b", stays, host_if_name="a1", mtu=1300, ip_addresses=["10.0.0.3/24", "10.0.0.9/24"])
        | {"veth": {"peer_if_name": "b", "tx_checksum_offloading": 2}},
        veth("b", "a", stays, phys_address="02:00:00:00:00:0b", ip_addresses=["10.0.0.2/24"]),
        veth("e", "f", new, ip_addresses=["10.0.2.1/24"]),
        veth("f", "e", host_if_name=f"f{mine}"),
        loopback | {"mtu": 60000, "ip_addresses": ["10.0.4.1/32"]},
        {
            "name": "t",
            "type": 1,
            "enabled": True,
            "tap": {"temp_if_name": f"made{mine}"},
            "namespace": {"type": 2, "name": stays},
            "mtu": 1450,
            "ip_addresses": ["10.0.3.1/24"],
        },
    ]
    return before, after


def test_killed_at_every_step_it_is_put_right_by_the_next(etcd: EtcdServer, label: str, tmp_path: Path) -> None:
    """Two labs share the steps: most of the time one waits."""
    before = {*links_of(), *_files()}
    with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        stepping = []
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            lab = stack.enter_context(lab_in(etcd, f"{label}-{uuid.uuid4().hex[:8]}", folder))
            stepping.append(Stepping(lab, stack.enter_context(closing(Agents(lab)))))
        met: set[str] = set()
        for turn in range(MOST_TURNS):
            for done in [threads.submit(one.go, (number + turn) % 2 + 1, 2) for number, one in enumerate(stepping)]:
                done.result()
            met |= {kind for one in stepping for kinds in one.met for kind in kinds}
            if met >= {*MET, *MET_FORTH}:
                break  # what comes at which step depends on what was heard first
        assert met >= {*MET, *MET_FORTH}, "an operation was not met"
        mine = tuple(one.suffix for one in stepping)
        assert {name for name in (*links_of(), *_files()) if not name.endswith(mine)} == before


# At any instant


@pytest.mark.parametrize("run", range(RUNS))
def test_killed_in_the_middle_of_a_batch_it_converges_and_leaves_nothing_over(
    lab: Lab, agents: Agents, run: int
) -> None:
    """A hundred pairs over twenty namespaces, half of which go again under the next kills."""
    chance = random.Random(SEED * 1_000_003 + run)
    spaces = [lab.space(f"s{number}") for number in range(20)]
    values = [
        value
        for number in range(100)
        for value in pair(f"a{number}", f"b{number}", spaces[number % 20], spaces[(number + 7) % 20])
    ]
    first = bool(chance.getrandbits(1))  # the agent is there before the values, or they before it
    if first:
        agents.start()
        until(lambda: agents.said("agent ready"), what=lab.logs)
    lab.put(*values)
    if not first:
        agents.start()
    until(lab.spaces, within=20, what=lab.logs)
    _kill_soon(agents, chance)
    gone = values[:100]
    for _ in range(2):
        lab.delete_all(value["name"] for value in gone)
        agents.start()
        _kill_soon(agents, chance)
    agents.start()
    wanted = {(value["namespace"]["name"], value["name"]) for value in values[100:]}
    until(
        lambda: {(space, link) for space in lab.spaces() for link in lab.links(space)} == wanted,
        within=60,
        what=lab.logs,
    )
    lab.until_applied(*(value["name"] for value in values[100:]))
    assert _files() == lab.spaces()
    lab.etcd.ctl("del", "--prefix", lab.key(""))
    until(lambda: not lab.spaces() and not _files(), within=30, what=lab.logs)
    assert not lab.links().keys() & {value["name"] for value in values}


def _kill_soon(agents: Agents, chance: random.Random) -> None:
    time.sleep(chance.uniform(0, 0.5))  # any instant will do
    agents.kill()
