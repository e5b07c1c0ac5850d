"""What the Linux kernel side hears: nothing missed, nothing guessed, whatever happens meanwhile."""

from __future__ import annotations

import errno
import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_interface
from pathlib import Path

import anyio
import pytest
from kernel_rig import GROUP, LinuxExternal, Rig
from sysctl import set_sysctl

from ifagent.core.events import LinksListed
from ifagent.core.link import LinkId, NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.operation import Target
from ifagent.core.operations import (
    AddAddress,
    CreateLink,
    CreateNamespace,
    DeleteLink,
    LinkEnd,
    RemoveNamespace,
    SetLink,
)
from ifagent.errors import NamespaceUnavailable
from ifagent.kernel.lane import Lane
from ifagent.kernel.link_cache import NamespaceDump
from ifagent.kernel.linux import LinuxKernel
from ifagent.kernel.netlink import Ack

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Give a directory for named namespaces, and take away what is in it afterwards."""
    path = tmp_path / "netns"
    path.mkdir()
    yield path
    LinuxExternal(path).clean_up()


@pytest.fixture
async def rig(directory: Path) -> AsyncIterator[Rig]:
    async with Rig(LinuxKernel(str(directory)), LinuxExternal(directory)) as running:
        yield running


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def least_open_files() -> int:
    """Return how many there are while no thread happens to list the names."""
    counts = []
    for _ in range(50):
        counts.append(open_files())
        await anyio.sleep(0.001)
    return min(counts)


async def until_open_files_are(expected: int) -> None:
    """Wait, since the names are listed in a thread at any time, which takes a file or two."""
    deadline = time.monotonic() + 5
    while open_files() != expected:
        assert time.monotonic() < deadline, (open_files(), expected)
        await anyio.sleep(0.001)


def batch(directory: Path, name: str, *lines: str) -> None:
    """Have ``ip`` carry out many commands in one namespace."""
    command = ["nsenter", f"--net={directory / name}", "ip", "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, timeout=30)


async def assert_cache_is_true(rig: Rig, *names: str) -> None:
    """Compare what was put together from notifications with a listing made now."""
    rig.kernel.drain()
    heard = {name: dict(rig.picture[rig.id(name)]) for name in names}
    for name in names:
        await rig.attach(name)
        assert rig.picture[rig.id(name)] == heard[name]


# Files


async def test_files_are_back_after_200_namespaces(rig: Rig) -> None:
    before = await least_open_files()
    for start in range(0, 200, 50):
        refs = [named(f"n{number}") for number in range(start, start + 50)]
        made = await rig.execute(*(CreateNamespace(ref, "mark") for ref in refs))
        assert {outcome.errno for outcome in made} == {0}
        assert await rig.kernel.attach(dict(rig.names[ref] for ref in refs)) == {}
        await until_open_files_are(before + 3 * 50)
        removed = await rig.execute(*(RemoveNamespace(ref, rig.names[ref][0]) for ref in refs))
        assert {outcome.errno for outcome in removed} == {0}
    await until_open_files_are(before)
    assert rig.picture == {}


async def test_files_are_closed_when_listening_ends(directory: Path) -> None:
    before = await least_open_files()
    async with Rig(LinuxKernel(str(directory)), LinuxExternal(directory)) as rig:
        await rig.add_namespaces("a", "b")
    await until_open_files_are(before)


async def test_ending_in_the_middle_of_deletions_harms_nothing(directory: Path) -> None:
    before = await least_open_files()
    async with Rig(LinuxKernel(str(directory)), LinuxExternal(directory)) as rig:
        await rig.add_namespaces("a", "b")
        await rig.execute(*(rig.pair(("a", f"v{i}"), ("b", f"v{i}")) for i in range(40)))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.kernel.execute, [DeleteLink(rig.target("a", f"v{i}")) for i in range(40)])
            await rig.until(lambda: len(rig.host_names("a")) < 40)
            tasks.cancel_scope.cancel()
    await until_open_files_are(before)


@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor does one thing at a time")
async def test_the_loop_runs_on_while_the_kernel_works(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.execute(*(rig.pair(("a", f"v{i}"), ("b", f"v{i}")) for i in range(40)))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await rig.execute(*(DeleteLink(rig.target("a", f"v{i}")) for i in range(40)))
        tasks.cancel_scope.cancel()
    assert ticks > 5
    assert rig.host_names("a") == rig.host_names("b") == set()


# Losing notifications


async def test_lost_notifications_are_made_up_for(directory: Path) -> None:
    external = LinuxExternal(directory)
    async with Rig(LinuxKernel(str(directory), receive_buffer=4096), external) as rig:
        await rig.add_namespaces("a", "b")
        rig.events.clear()
        # The loop does not run while this does, so nobody reads.
        lines = [f"link add v{i} type veth peer name w{i}" for i in range(50)]
        flaps = [f"link set v{i} {state}" for state in ("up", "down") * 3 for i in range(50)]
        batch(directory, "a", *lines, *flaps, *(f"link del v{i}" for i in range(0, 50, 2)))
        expected = {f"{letter}{i}" for i in range(1, 50, 2) for letter in "vw"}
        await rig.until(lambda: rig.host_names("a") == expected and not rig.behind)
        listed = {event.namespace for event in rig.events if isinstance(event, LinksListed)}
        assert listed == {rig.id("a")}, "nothing of the other was lost"
        await assert_cache_is_true(rig, "a", "b")


# Attaching


async def test_nothing_is_missed_while_a_namespace_is_attached(rig: Rig, directory: Path) -> None:
    await rig.add_namespaces("a")
    batch(directory, "a", *(f"link add v{i} type veth peer name w{i}" for i in range(20)))
    ended = threading.Event()

    def disturb() -> None:
        for number in itertools.count():
            addresses = [f"address add 10.{number >> 8}.{number & 255}.{i + 1}/24 dev v{i}" for i in range(20)]
            # Some are taken off again, so that a slow machine does not have ever more to list.
            old = [f"address flush dev v{i}" for i in range(20)] if number % 8 == 0 else []
            batch(directory, "a", *old, *addresses, f"link set v{number % 20} mtu {1000 + number % 60000}")
            if ended.is_set():
                return

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(25):
            await rig.kernel.detach(rig.id("a"))
            await rig.attach("a")
    finally:
        ended.set()
        await anyio.to_thread.run_sync(thread.join)
    rig.kernel.drain()
    await assert_cache_is_true(rig, "a")


async def test_what_happens_between_listing_and_knowing_is_not_missed(
    rig: Rig, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.add_namespaces("a")
    await rig.kernel.detach(rig.id("a"))
    numbers = itertools.count()
    real = Lane.dump

    def dump_too_early(lane: Lane, *, has_ifa_proto: bool) -> NamespaceDump:
        listing = real(lane, has_ifa_proto=has_ifa_proto)
        number = next(numbers)
        batch(directory, "a", f"link add v{number} type veth peer name w{number}", f"link set v{number} mtu 1400")
        return listing

    monkeypatch.setattr(Lane, "dump", dump_too_early)
    await rig.attach("a")
    looks = next(numbers)
    assert rig.host_names("a") == {f"{letter}{number}" for letter in "vw" for number in range(looks)}
    assert rig.link("a", "v0").mtu == 1400
    assert rig.link("a", "v0").peer == rig.link("a", "w0").id


async def test_a_namespace_is_attached_by_many_at_once(rig: Rig) -> None:
    await rig.add_namespaces("a")
    await rig.kernel.detach(rig.id("a"))
    before = await least_open_files()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(rig.attach, "a")
    assert rig.picture[rig.id("a")].keys() == {1}
    await until_open_files_are(before + 3)


async def test_what_is_no_such_namespace_cannot_be_attached(rig: Rig, directory: Path, tmp_path: Path) -> None:
    await rig.add_namespaces("a")
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for ever
    wrong = NsId(rig.id("a") + 1)
    for path in (directory / "missing", tmp_path / "fifo", Path("/proc/self/ns/mnt"), Path("/proc/self/ns/net")):
        meant = NsId(path.stat().st_ino) if path.exists() and path.name != "net" else wrong
        with pytest.raises(NamespaceUnavailable, match=str(path)):
            await rig.open(meant, str(path))
    assert rig.picture.keys() == {rig.id("a")}


async def test_what_is_not_attached_is_refused(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    here, there = rig.id("a"), rig.id("b")
    await rig.kernel.detach(there)
    create = CreateLink("veth", (LinkEnd(here, HostName("x"), "", 0), LinkEnd(there, HostName("y"), "", 0)), GROUP)
    outcomes = await rig.execute(create, DeleteLink(Target(there, HostName("lo"), 1)))
    assert [outcome.errno for outcome in outcomes] == [errno.ENOENT, errno.ENODEV]
    assert rig.host_names("a") == set()


# Peers


async def test_peers_across_namespaces_with_equal_indexes(rig: Rig) -> None:
    names = ("a", "b", "c", "d")
    await rig.add_namespaces(*names)
    pairs = [*itertools.combinations(names, 2)] * 3
    for number, (one, other) in enumerate(pairs):
        await rig.make_pair((one, f"{other}{number}"), (other, f"{one}{number}"))

    def assert_peers() -> None:
        for number, (one, other) in enumerate(pairs):
            near, far = rig.link(one, f"{other}{number}"), rig.link(other, f"{one}{number}")
            assert (near.peer, far.peer) == (far.id, near.id)

    assert_peers()
    indexes = [{link.id.ifindex for link in rig.picture[rig.id(name)].values()} for name in names]
    assert len(set.intersection(*indexes)) > 5
    for order in (("a", "b", "c", "d"), ("d", "c", "b", "a"), ("b", "d", "a", "c")):
        for name in names:
            await rig.kernel.detach(rig.id(name))
        for name in order:
            await rig.attach(name)
        assert_peers()


async def test_a_peer_in_the_own_namespace(rig: Rig) -> None:
    """It mostly has no id in itself, so it is asked about apart."""
    own = rig.kernel.own
    await rig.add_namespaces("a")
    await rig.open(own, "/proc/self/ns/net")
    name = HostName(f"t{random.SystemRandom().randrange(10**9)}")
    far = LinkEnd(rig.id("a"), HostName("eth0"), "", 0)
    assert await rig.do(CreateLink("veth", (LinkEnd(own, name, "", 0), far), GROUP)) == 0
    (near,) = (link for link in rig.picture[own].values() if link.host_name == name)
    assert (near.peer, rig.link("a", "eth0").peer) == (rig.link("a", "eth0").id, near.id)
    for namespace, path in ((own, "/proc/self/ns/net"), rig.names[named("a")]):
        await rig.kernel.detach(namespace)
        await rig.open(namespace, path)
    assert rig.picture[own][near.id.ifindex].peer == rig.link("a", "eth0").id
    assert rig.link("a", "eth0").peer == near.id
    assert await rig.do(DeleteLink(Target(own, name, near.id.ifindex))) == 0


async def test_an_id_used_again_means_the_new_namespace(rig: Rig) -> None:
    """An id that one namespace has for another becomes free with that other one."""
    await rig.add_namespaces("a")
    for name in ("b", "c", "d"):
        await rig.add_namespaces(name)
        await rig.make_pair(("a", f"to-{name}"), (name, "eth0"))
        assert rig.link("a", f"to-{name}").peer == rig.link(name, "eth0").id
        id_ = rig.id(name)
        assert await rig.do(RemoveNamespace(named(name), id_)) == 0
        assert id_ not in rig.picture
        await rig.until(lambda: rig.host_names("a") == set())


async def test_an_id_that_meant_nobody_means_a_namespace_attached_later(rig: Rig) -> None:
    """Of a new pair only the near end tells the other, and by an id that was asked about before."""
    await rig.add_namespaces("a", "b")
    await rig.kernel.detach(rig.id("b"))
    rig.external.add_veth("a", "first", "b", "first")
    await rig.until(lambda: "first" in rig.host_names("a"))
    rig.external.set_link("a", "first", up=True)
    await rig.until(lambda: rig.link("a", "first").up)
    assert rig.link("a", "first").peer is None
    await rig.attach("b")
    await rig.make_pair(("a", "second"), ("b", "second"))
    for name in ("first", "second"):
        assert rig.link("a", name).peer == rig.link("b", name).id


async def test_an_id_of_a_stranger_that_ended_is_asked_about_again(rig: Rig) -> None:
    await rig.add_namespaces("a", "c")
    rig.external.add_namespace("stranger")
    rig.external.add_veth("a", "eth0", "stranger", "eth0")
    await rig.until(lambda: "eth0" in rig.host_names("a"))
    assert rig.link("a", "eth0").peer is None
    rig.external.remove_namespace("stranger")
    await rig.until(lambda: rig.host_names("a") == set())
    await rig.make_pair(("a", "eth0"), ("c", "eth0"))
    assert rig.link("a", "eth0").peer == rig.link("c", "eth0").id


async def test_an_id_is_asked_about_again_after_a_time_without_listening(rig: Rig, directory: Path) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "eth0"), ("b", "eth0"))
    await rig.kernel.detach(rig.id("a"))
    assert await rig.do(RemoveNamespace(named("b"), rig.id("b"))) == 0
    look = ["nsenter", f"--net={directory / 'a'}", "ip", "link", "show", "dev", "eth0"]
    deadline = time.monotonic() + 5
    while subprocess.run(look, check=False, capture_output=True).returncode == 0:  # "b" takes its time to end
        assert time.monotonic() < deadline
    await rig.add_namespaces("d")
    rig.external.add_veth("a", "eth0", "d", "eth0")  # what "a" called "b" is free for the next one
    await rig.attach("a")
    assert rig.link("a", "eth0").peer == rig.link("d", "eth0").id


# The order of addresses


@pytest.mark.parametrize("promote", [0, 1])
@pytest.mark.parametrize("seed", range(4))
async def test_addresses_stay_in_the_kernels_order(rig: Rig, directory: Path, seed: int, promote: int) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "eth0"), ("b", "eth0"), up=True)
    set_sysctl(directory / "a", f"net.ipv4.conf.eth0.promote_secondaries={promote}")
    dice = random.Random(seed)
    ipv4 = [f"192.0.2.{i}/{prefix}" for i in range(1, 5) for prefix in (24, 25, 32)]
    choices = [*ipv4, *(f"2001:db8::{i}/64" for i in range(1, 5)), *(f"fe80::{i}/64" for i in range(1, 4))]
    scopes = ["", " scope link", " scope host"]
    for _ in range(12):
        lines = []
        for _ in range(dice.randint(1, 8)):
            chosen = dice.choice(choices)
            extra = dice.choice(scopes if "." in chosen else ["", " nodad"])
            lines.append(
                f"address add {chosen} dev eth0{extra}" if dice.random() < 0.7 else f"address del {chosen} dev eth0"
            )
        command = ["nsenter", f"--net={directory / 'a'}", "ip", "-force", "-batch", "-"]
        subprocess.run(command, input="\n".join(lines), text=True, check=False, timeout=30, capture_output=True)
        rig.kernel.drain()
        heard = rig.link("a", "eth0").addresses
        ours = LinkId(rig.id("a"), rig.link("a", "eth0").id.ifindex)
        deadline = time.monotonic() + 5
        while True:
            # Some IPv6 addresses are told of late; then the place is looked up, so what was heard comes true.
            await rig.attach("a")
            listed = rig.picture[ours.namespace][ours.ifindex].addresses
            if [a.interface for a in heard] == [a.interface for a in listed]:
                break
            assert time.monotonic() < deadline, (lines, heard, listed)
            await anyio.sleep(0.01)
            rig.kernel.drain()
            heard = rig.link("a", "eth0").addresses


async def test_own_additions_are_in_order_at_once(rig: Rig) -> None:
    await rig.add_namespaces("a", "b", detect_duplicates=True)
    await rig.make_pair(("a", "eth0"), ("b", "eth0"), up=True)
    texts = [
        f"{prefix}{i}{length}" for prefix, length in (("192.0.2.", "/24"), ("2001:db8::", "/64")) for i in (3, 1, 2)
    ]
    await rig.execute(*(AddAddress(rig.target("a", "eth0"), ip_interface(text)) for text in texts))
    heard = [a.interface for a in rig.link("a", "eth0").addresses if not a.made_by_kernel]
    await rig.attach("a")
    assert heard == [a.interface for a in rig.link("a", "eth0").addresses if not a.made_by_kernel]
    assert [str(a) for a in heard[:3]] == ["192.0.2.3/24", "192.0.2.1/24", "192.0.2.2/24"]


# What the kernel does not say by itself


async def test_alias_and_group_of_a_link_that_is_down_are_told(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "eth0"), ("b", "eth0"))
    assert await rig.do(SetLink(target=rig.target("a", "eth0"), alias="mine", group=7)) == 0
    link = rig.link("a", "eth0")
    assert (link.alias, link.group, link.up) == ("mine", 7, False)
    await assert_cache_is_true(rig, "a")


async def test_what_others_set_right_after_the_agent_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "eth0"), ("b", "eth0"), up=True)
    answered = Lane.request

    def then_others(lane: Lane, messages: Sequence[bytes]) -> list[Ack]:
        acks = answered(lane, messages)
        rig.external.set_link("a", "eth0", alias="theirs", group=8)
        return acks

    monkeypatch.setattr(Lane, "request", then_others)
    assert await rig.do(SetLink(target=rig.target("a", "eth0"), alias="mine", group=7)) == 0
    link = rig.link("a", "eth0")
    assert (link.alias, link.group) == ("theirs", 8)


async def test_what_a_refused_request_has_done_is_told(rig: Rig) -> None:
    """The kernel sets the group before it looks at the name, and does not say so."""
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "eth0"), ("b", "eth0"))
    await rig.make_pair(("a", "eth1"), ("b", "eth1"))
    refused = SetLink(target=rig.target("a", "eth0"), group=9, host_name=HostName("eth1"))
    assert await rig.do(refused) == errno.EEXIST
    assert rig.link("a", "eth0").group == 9


async def test_a_refusal_carries_the_kernels_own_words(rig: Rig) -> None:
    await rig.add_namespaces("a", "b")
    await rig.make_pair(("a", "eth0"), ("b", "eth0"))
    (outcome,) = await rig.execute(SetLink(target=rig.target("a", "eth0"), mtu=70000))
    assert outcome.errno == errno.EINVAL
    assert "mtu" in outcome.text
    await assert_cache_is_true(rig, "a")
