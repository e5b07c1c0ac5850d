"""Somebody makes changes in his namespace as fast as he can: others do not notice, and it is known again afterwards."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import cycle
from pathlib import Path

import anyio
import pytest
from kernel_rig import LinuxExternal, Rig

from ifagent.core.events import LinksListed, NamespaceBehind
from ifagent.core.link import Link
from ifagent.core.operations import SetLink
from ifagent.kernel.allowance import Allowance
from ifagent.kernel.linux import LinuxKernel
from ifagent.kernel.listeners import BUFFERS, LARGEST_BUFFER, SMALLEST_BUFFER, Listeners
from ifagent.kernel.relisting import IDLE, LONGEST_PAUSE, Pace
from ifagent.kernel.sockets import ListenSocket

pytestmark = [pytest.mark.anyio, pytest.mark.kernel, pytest.mark.timeout(180)]

ENOUGH = 2.0
"""Seconds in which a change gets through on any machine, unless it waits for whoever storms."""

CHANGES = 20

STORM = """
import socket, struct, sys
kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sender = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
attribute = lambda kind, data: struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
link = lambda index, up, change, more=b"": (16, struct.pack("=BxHiII", 0, 0, index, up, change) + more)
def address(kind, index, number):
    packed = socket.inet_aton(f"10.99.{number >> 8}.{number & 255}")
    return (kind, struct.pack("=BBBBi", 2, 32, 0, 0, index) + attribute(2, packed) + attribute(1, packed))
links = range(first, first + count)
def requests(turn):
    if kind == "flap":
        return [link(index, turn, 1) for index in links]
    if kind == "mtu":
        return [link(index, 0, 0, attribute(4, struct.pack("=I", 1300 + turn))) for index in links]
    if kind == "alias":
        return [link(index, 0, 0, attribute(20, b"%d" % turn * 200)) for index in links]
    return [address(20 + turn, first, number) for number in range(count)]
def packed(some):
    sends = [b""]
    for number, (kind, body) in enumerate(some, start=1):
        data = struct.pack("=IHHII", 16 + len(body), kind, 0x401, 0, 0) + body
        if len(sends[-1]) + len(data) > 30000:
            sends.append(b"")
        sends[-1] += data
    return sends
turns = [packed(requests(turn)) for turn in (0, 1)]
print("begins", flush=True)
while True:
    for sends in turns:
        for data in sends:
            sender.send(data)
"""
"""Does one thing to ``count`` links from ifindex ``first`` on, or with as many addresses of that link, without end."""

FIRST = 1000
LINKS = 400


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    directory = tmp_path / "netns"
    directory.mkdir()
    external = LinuxExternal(directory)
    try:
        async with Rig(LinuxKernel(str(directory)), external) as running:
            await running.add_namespaces("stormy", "a", "b")
            await running.make_pair(("a", "eth0"), ("b", "eth0"))
            await running.make_pair(("stormy", "eth0"), ("b", "eth1"))
            numbers = range(FIRST, FIRST + LINKS)
            pairs = (f"link add s{n} index {n} type veth peer name s{n + 1} index {n + 1}" for n in numbers[::2])
            inside(running, *pairs, *(f"link set dev s{n} up" for n in numbers))
            await running.until(lambda: len(running.host_names("stormy")) == LINKS + 1 and not running.behind)
            yield running
    finally:
        external.clean_up()


def directory_of(rig: Rig) -> Path:
    assert isinstance(rig.external, LinuxExternal)
    return rig.external._directory


def inside(rig: Rig, *lines: str) -> None:
    command = ["nsenter", f"--net={directory_of(rig) / 'stormy'}", "ip", "-force", "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, timeout=60)


@contextmanager
def storm(rig: Rig, kind: str, count: int = LINKS) -> Iterator[None]:
    command = ["nsenter", f"--net={directory_of(rig) / 'stormy'}", sys.executable, "-Sc", STORM]
    with subprocess.Popen([*command, kind, str(FIRST), str(count)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


async def longest_change(rig: Rig) -> float:
    """Return the seconds that the slowest of some changes elsewhere took, until it was heard of."""
    longest = 0.0
    mtus = cycle((1400, 1500))
    for _ in range(CHANGES):
        mtu, began = next(mtus), time.monotonic()
        assert await rig.do(SetLink(target=rig.target("a", "eth0"), mtu=mtu)) == 0
        assert rig.link("a", "eth0").mtu == mtu, "what was done is heard of when it is acknowledged"
        longest = max(longest, time.monotonic() - began)
        await anyio.sleep(0.02)
    return longest


def different(before: dict[int, Link], after: dict[int, Link]) -> dict[int, list[str]]:
    """Return the fields of links that are not the same."""
    assert before.keys() == after.keys()
    names = [field.name for field in fields(Link)]
    found = {n: [x for x in names if getattr(before[n], x) != getattr(after[n], x)] for n in before}
    return {ifindex: words for ifindex, words in found.items() if words}


async def assert_known(rig: Rig) -> None:
    """Wait until the stormy namespace is followed again, and compare what was told of it with a listing made now."""
    await rig.until(lambda: rig.id("stormy") not in rig.behind, within=30)
    rig.kernel.drain()
    heard = dict(rig.picture[rig.id("stormy")])
    await rig.attach("stormy")
    assert different(heard, rig.picture[rig.id("stormy")]) == {}
    inside(rig, "link set dev eth0 mtu 1234")
    await rig.until(lambda: rig.link("stormy", "eth0").mtu == 1234)


@pytest.mark.parametrize(
    ("kind", "count"), [("flap", LINKS), ("flap", 1), ("mtu", LINKS), ("alias", LINKS), ("toggle", 1), ("toggle", 4000)]
)
async def test_others_get_through(rig: Rig, kind: str, count: int) -> None:
    rig.events.clear()
    with storm(rig, kind, count):
        if count > 1:
            await rig.until(lambda: rig.behind == {rig.id("stormy")}, within=30)
        assert await longest_change(rig) < ENOUGH
    assert {e.namespace for e in rig.events if isinstance(e, NamespaceBehind | LinksListed)} <= {rig.id("stormy")}
    await assert_known(rig)


async def test_what_the_agent_does_itself_is_no_storm(rig: Rig) -> None:
    rig.events.clear()
    outcomes = await rig.execute(*(rig.pair(("a", f"p{n}"), ("b", f"p{n}")) for n in range(300)))
    assert {outcome.errno for outcome in outcomes} == {0}
    ups = [SetLink(target=rig.target(place, f"p{n}"), up=True) for n in range(300) for place in ("a", "b")]
    assert {outcome.errno for outcome in await rig.execute(*ups)} == {0}
    assert not [event for event in rig.events if isinstance(event, NamespaceBehind)]
    await rig.until(lambda: all(rig.link("a", f"p{n}").carrier for n in range(300)))


async def test_a_namespace_that_goes_in_the_middle_of_a_storm_is_forgotten(rig: Rig) -> None:
    with storm(rig, "flap"):
        await rig.until(lambda: rig.id("stormy") in rig.behind, within=30)
        await rig.kernel.detach(rig.id("stormy"))
        assert not rig.behind
        assert await longest_change(rig) < ENOUGH
    await rig.attach("stormy")
    await assert_known(rig)


def read_all(listening: ListenSocket) -> int:
    """Return how many notifications there are to be read."""
    buffer = [memoryview(bytearray(65536))]
    for count in range(100_000):
        try:
            listening.receive(buffer)
        except BlockingIOError:
            return count
        except OSError as error:
            assert error.errno == errno.ENOBUFS  # noqa: PT017 some were lost before
    raise AssertionError("there is no end")


async def test_nothing_is_kept_of_what_nobody_reads(rig: Rig) -> None:
    listening = rig.kernel._lanes[rig.id("stormy")].listening  # type: ignore[attr-defined]
    with storm(rig, "alias"):
        await rig.until(lambda: rig.id("stormy") in rig.behind, within=30)
        read_all(listening)  # what was there before
        time.sleep(0.02)  # nobody reads or lists meanwhile
        assert read_all(listening) == 0
    await assert_known(rig)


def test_each_operation_of_a_round_is_allowed_for() -> None:
    allowance = Allowance(burst=0.02, rate=0.1)
    for _ in range(50):
        allowance.grant(0.001, 10.0, most=0.1)
    assert allowance.left(10.0) == pytest.approx(0.07)
    for _ in range(1000):
        allowance.grant(0.001, 10.0, most=0.1)
    assert allowance.left(10.0) == pytest.approx(0.12)
    assert allowance.left(1000.0) == pytest.approx(0.12), "it stays until it is spent"
    allowance.spend(0.11, 1000.0)
    assert allowance.left(1000.1) == pytest.approx(0.02)


def test_the_more_namespaces_the_less_memory_each() -> None:
    listeners = Listeners(own=1)  # type: ignore[arg-type]
    sizes = []
    for count in (1, 10, 100, 1000, 10000):
        listeners._by_namespace = dict.fromkeys(range(count))  # type: ignore[arg-type, assignment]
        sizes.append(listeners._share())
        assert sizes[-1] == SMALLEST_BUFFER or sizes[-1] * count <= BUFFERS
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (LARGEST_BUFFER, SMALLEST_BUFFER)
    listeners.close()


# How often a namespace is listed


def test_a_namespace_that_stays_behind_is_listed_ever_less_often() -> None:
    pace, now, pauses = Pace(), 100.0, []
    pace.fall_behind(now)
    for _ in range(12):
        pauses.append(pace.due - now)
        now = pace.due
        pace.listed(0.001, now)
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert pauses[-1] == LONGEST_PAUSE


def test_a_costly_listing_takes_a_tenth_of_the_time_at_most() -> None:
    pace = Pace()
    pace.fall_behind(0.0)
    pace.listed(3.0, 10.0)
    assert pace.due >= 10.0 + 3.0 * IDLE
    pace.catch_up(11.0)
    pace.request(12.0)
    assert pace.due >= 10.0 + 3.0 * IDLE


def test_who_was_quiet_for_a_while_is_listed_soon() -> None:
    pace, now = Pace(), 0.0
    for _ in range(12):
        pace.fall_behind(now)
        now = pace.due
        pace.listed(0.001, now)
        pace.catch_up(now)
    pace.fall_behind(now)
    assert pace.due - now == LONGEST_PAUSE
    pace.catch_up(now)
    pace.fall_behind(now + 2 * LONGEST_PAUSE)
    assert pace.due - now - 2 * LONGEST_PAUSE < 0.1
