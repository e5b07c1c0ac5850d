"""Root of a namespace in which the agent works says and makes what he likes; others do not notice, and nothing ends."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kernel_rig import LinuxExternal, Rig, address, linux_rig

from ifagent.core.events import LinksListed
from ifagent.core.link import NsId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.operations import AddAddress, DeleteAddress, SetLink
from ifagent.errors import NamespaceUnavailable
from ifagent.kernel.ifindexes import MAX_IFINDEX
from ifagent.kernel.lane import Lane
from ifagent.kernel.messages import LinkMessage, parse_link
from ifagent.kernel.netlink import Message
from ifagent.kernel.requests import dump_addresses, get_link_called
from ifagent.kernel.routes import list_routes
from ifagent.kernel.sockets import ListenSocket, RequestSocket
from ifagent.nsfs import in_netns, open_thread_namespace

pytestmark = [pytest.mark.anyio, pytest.mark.kernel, pytest.mark.timeout(120)]

_SEND_TO_EVERYBODY = """
import errno, pathlib, socket, struct
sender = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
sender.bind((0, 0))
refused = [struct.pack("=IHHIIiIHHII", 36, 2, 0x100, n, 0, -errno.EPERM, 20, 16, 5, n, 0) for n in range(1, 400)]
print("begins", flush=True)
while True:
    ports = [line.split() for line in pathlib.Path("/proc/net/netlink").read_text().splitlines()[1:]]
    for port in {int(words[2]) for words in ports if words[1] == "0"} - {0, sender.getsockname()[0]}:
        for message in (b"bad", *refused):
            try:
                sender.sendto(message, (port, 0))
            except OSError:
                break
    try:
        sender.sendto(b"bad", (0, 1))
    except OSError:
        pass
"""
"""Sends three bytes and forged refusals to every rtnetlink socket in its namespace, and the bytes to all who listen."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with linux_rig(tmp_path) as running:
        await running.add_namespaces("host", "hostile")
        await running.make_pair(("host", "eth0"), ("hostile", "eth0"))
        yield running


def directory(rig: Rig) -> Path:
    assert isinstance(rig.external, LinuxExternal)
    return rig.external._directory


def ip(rig: Rig, *lines: str) -> None:
    """Have root of the namespace do something."""
    command = ["nsenter", f"--net={directory(rig) / 'hostile'}", "ip", "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True, timeout=60)


@contextmanager
def sends_to_everybody(rig: Rig) -> Iterator[None]:
    command = ["nsenter", f"--net={directory(rig) / 'hostile'}", sys.executable, "-Sc", _SEND_TO_EVERYBODY]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as liar:
        assert liar.stdout is not None
        liar.stdout.readline()
        try:
            yield
        finally:
            liar.kill()


async def assert_all_is_well(rig: Rig) -> None:
    """Have something done and heard of in both namespaces."""
    for place in (("host", "eth0"), ("hostile", "eth0")):
        for mtu in (1400, 1500):
            assert await rig.do(SetLink(target=rig.target(*place), mtu=mtu)) == 0
            await rig.until(lambda place=place, mtu=mtu: rig.link(*place).mtu == mtu)  # type: ignore[misc]
    await rig.until(lambda: not rig.behind)


# Who may speak to the agent's sockets


async def test_nobody_but_the_kernel_is_heard(rig: Rig) -> None:
    target, one = rig.target("hostile", "eth0"), address("192.0.2.1/24")
    with sends_to_everybody(rig):
        for _ in range(300):
            assert await rig.do(AddAddress(target, one)) == 0
            assert await rig.do(DeleteAddress(target, one)) == 0
        await rig.attach("hostile")
    await assert_all_is_well(rig)


@pytest.mark.parametrize("make", [RequestSocket, lambda: ListenSocket(buffer=4096)], ids=["requests", "listening"])
def test_a_socket_refuses_what_others_send(make: Callable[[], RequestSocket | ListenSocket]) -> None:
    ours = make()
    with closing(ours), socket.socket(fileno=os.dup(ours.fileno())) as copy, _rtnetlink() as sender:
        port, _ = copy.getsockname()
        with pytest.raises(ConnectionRefusedError):
            sender.sendto(b"bad", (port, 0))


def _rtnetlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


# What there can be in a namespace


@pytest.mark.parametrize("largest", [MAX_IFINDEX, MAX_IFINDEX - 1, MAX_IFINDEX - 2])
async def test_the_largest_ifindex(rig: Rig, largest: int) -> None:
    ip(rig, f"link add name large index {largest} type veth peer name peer")
    await rig.until(lambda: "large" in rig.host_names("hostile"))
    for number in range(4):
        assert await rig.do(rig.pair(("host", f"h{number}"), ("hostile", f"h{number}"))) == 0
        near, far = rig.link("host", f"h{number}"), rig.link("hostile", f"h{number}")
        assert (near.peer, far.peer) == (far.id, near.id)
    await rig.kernel.detach(rig.id("hostile"))
    await rig.attach("hostile")
    assert await rig.do(rig.pair(("hostile", "again"), ("host", "again"))) == 0
    await assert_all_is_well(rig)


async def test_a_link_that_takes_more_than_64_kib_to_describe(rig: Rig) -> None:
    ip(rig, "link add name fat type veth peer name peer")
    names = [f"{number:04}{'x' * 123}" for number in range(490)]
    ip(rig, *(f"link property add dev fat altname {name}" for name in names))
    await rig.until(lambda: "fat" in rig.host_names("hostile") and not rig.behind)
    await rig.kernel.detach(rig.id("hostile"))
    await rig.attach("hostile")
    assert "fat" in rig.host_names("hostile")
    ip(rig, "link set dev fat mtu 1234")
    await rig.until(lambda: rig.link("hostile", "fat").mtu == 1234)
    await assert_all_is_well(rig)


async def test_names_and_aliases_of_any_bytes(rig: Rig) -> None:
    ip(rig, "link add name odd type veth peer name peer", "link set dev odd alias x")
    script = (
        "import socket,struct;s=socket.socket(16,3,0);"
        "a=lambda k,v:struct.pack('=HH',4+len(v),k)+v+bytes(-len(v)%4);i=socket.if_nametoindex('odd');"
        "b=struct.pack('=BxHiII',0,0,i,0,0)+a(3,bytes([0xff,0x1b,0xc3,0x28,0])[:4]+b'\\0')+a(20,bytes(range(1,256)));"
        "s.send(struct.pack('=IHHII',16+len(b),16,5,1,0)+b);print(struct.unpack_from('=i',s.recv(9000),16)[0])"
    )
    command = ["nsenter", f"--net={directory(rig) / 'hostile'}", sys.executable, "-Sc", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "0"
    await rig.attach("hostile")
    await assert_all_is_well(rig)


# What cannot be read


def refuse(error: Exception) -> Callable[..., LinkMessage | None]:
    """Return a parser that fails at a link called ``odd``, and works as ever for others."""
    real = parse_link

    def parse(data: bytes, message: Message) -> LinkMessage | None:
        if b"odd\0" in data[message.start : message.end]:
            raise error
        return real(data, message)

    return parse


UNREADABLE = [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), struct.error("bad"), ValueError("bad")]


@pytest.mark.parametrize("error", UNREADABLE, ids=repr)
async def test_what_cannot_be_read_concerns_its_namespace_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for module in ("monitor", "lane"):
        monkeypatch.setattr(f"ifagent.kernel.{module}.parse_link", refuse(error))
    ip(rig, "link add name odd type veth peer name peer")
    await rig.until(lambda: rig.behind == {rig.id("hostile")})
    for mtu in (1400, 1500):
        assert await rig.do(SetLink(target=rig.target("host", "eth0"), mtu=mtu)) == 0
        assert rig.link("host", "eth0").mtu == mtu
    ip(rig, "link delete dev odd", "link set dev eth0 mtu 1444")
    await rig.until(lambda: rig.link("hostile", "eth0").mtu == 1444)
    await assert_all_is_well(rig)


@pytest.mark.parametrize("error", UNREADABLE, ids=repr)
async def test_a_namespace_that_cannot_be_listed_cannot_be_attached_and_says_why(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    await rig.kernel.detach(rig.id("hostile"))
    ip(rig, "link add name odd type veth peer name peer")
    monkeypatch.setattr("ifagent.kernel.lane.parse_link", refuse(error))
    with pytest.raises(NamespaceUnavailable, match="bad"):
        await rig.attach("hostile")
    assert rig.id("hostile") not in rig.picture
    ip(rig, "link delete dev odd")
    await rig.attach("hostile")
    await assert_all_is_well(rig)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EMSGSIZE, errno.ENOBUFS, errno.EIO], ids=errno.errorcode.get)
async def test_whatever_is_wrong_with_a_socket_its_namespace_is_listed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert isinstance(rig.kernel._lanes[rig.id("hostile")], Lane)  # type: ignore[attr-defined]
    broken = rig.kernel._lanes[rig.id("hostile")].listening  # type: ignore[attr-defined]
    real, failures = ListenSocket.receive, iter(range(3))

    def receive(listening: ListenSocket, buffer: list[memoryview]) -> bytes:
        data = real(listening, buffer)
        if listening is broken and next(failures, None) is not None:
            raise OSError(number, "as the kernel says")
        return data

    monkeypatch.setattr(ListenSocket, "receive", receive)
    rig.events.clear()
    ip(rig, "link set dev eth0 mtu 1444")
    await rig.until(lambda: rig.link("hostile", "eth0").mtu == 1444)
    assert {event.namespace for event in rig.events if isinstance(event, LinksListed)} == {rig.id("hostile")}
    await assert_all_is_well(rig)


async def test_routes_that_cannot_be_listed_are_a_problem_and_not_none(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_more: object) -> None:
        raise OSError(errno.EMFILE, "as the kernel says")

    where, elsewhere = rig.id("hostile"), NsId(1)
    ip(rig, "link set dev eth0 up", "route add 10.4.0.0/16 dev eth0", "route add 10.5.0.0/16 dev eth0 proto kernel")
    ip(rig, "route add local 10.6.0.0/16 dev lo", "route add local default dev lo table 100")
    found = await rig.kernel.host_routes({where}, (), ())
    assert not found.problems
    assert {str(route.destination) for route in found.routes} == {"10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/16"}
    found = await rig.kernel.host_routes({where}, (), {rig.link("hostile", "eth0").id})
    assert {str(route.destination) for route in found.routes} == {"10.4.0.0/16", "10.6.0.0/16"}
    found = await rig.kernel.host_routes({elsewhere}, (), ())
    assert found.problems == {elsewhere: "its namespace is not attached"}
    with monkeypatch.context() as broken:
        broken.setattr(RequestSocket, "pick", refuse)
        found = await rig.kernel.host_routes({where}, (), ())
        assert "its routes cannot be listed: too many open files" in found.problems[where]
    with monkeypatch.context() as broken:
        broken.setattr(RequestSocket, "ask", refuse)
        assert not (await rig.kernel.host_routes({where}, (), ())).problems, "there is no way is no problem"
        broken.setattr("ifagent.kernel.routes.RequestSocket", refuse)
        found = await rig.kernel.host_routes({where}, (), ())
        assert "its routes cannot be asked for: too many open files" in found.problems[rig.kernel.own]
    await assert_all_is_well(rig)


@contextmanager
def requests_of(rig: Rig, **options: Any) -> Iterator[RequestSocket]:
    """Have a socket for requests in the namespace; options as :class:`RequestSocket` has them."""
    home, there = open_thread_namespace(), os.open(directory(rig) / "hostile", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with in_netns(there, home=home):
            opened = RequestSocket(**options)
        with closing(opened):
            yield opened
    finally:
        os.close(home)
        os.close(there)


async def test_very_many_routes_count_as_a_default_route(rig: Rig) -> None:
    ip(rig, "link set dev eth0 up", *(f"route add 10.4.{number}.0/24 dev eth0" for number in range(100)))
    with requests_of(rig, max_listed=60) as requests:
        routes = list_routes(requests, rig.id("hostile"), (), most=50)
    assert len(routes) == 51
    assert sum(not route.destination.prefixlen for route in routes) == 1
    found = await rig.kernel.host_routes({rig.id("hostile")}, (), ())
    assert len(found.routes) == 100
    assert not found.problems
    await assert_all_is_well(rig)


async def test_what_never_ends_is_not_listed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ip(rig, *(f"address add 10.9.{number}.1/32 dev eth0" for number in range(100)))
    with requests_of(rig, max_listed=50) as requests:
        with pytest.raises(OSError, match="more than 50 entries") as refused:
            requests.dump(dump_addresses())
        found = parse_link(*requests.ask(get_link_called(HostName("eth0"))))
        assert found is not None, "nothing is left of the listing"
        assert found.host_name == "eth0"

    def endless(*_: object) -> None:
        raise refused.value

    await rig.kernel.detach(rig.id("hostile"))
    with monkeypatch.context() as limited:
        limited.setattr(RequestSocket, "dump", endless)
        with pytest.raises(NamespaceUnavailable, match="more than 50 entries"):
            await rig.attach("hostile")
    assert rig.names[named("hostile")]
    await rig.attach("hostile")
    assert len(rig.addresses("hostile", HostName("eth0"))) == 100
    await assert_all_is_well(rig)
