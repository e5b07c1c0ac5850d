"""What a conformance test holds in its hands: a kernel that runs, the picture its events give, and somebody else.

Nothing here knows which kernel it is, but for the two drivers of outside interference at the end.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Protocol, Self

import anyio
from patience import PATIENCE
from sysctl import set_sysctl

from ifagent.core.events import Event, LinkSeen, LinksListed, NamespaceBehind, NamespaceSeen, NamespacesListed
from ifagent.core.link import FALLBACK_LINKS, Address, Link, LinkId, NsId
from ifagent.core.names import HostName, IPInterface
from ifagent.core.namespace_ref import NamespaceRef, named
from ifagent.core.operation import Operation, Outcome, Target
from ifagent.core.operations import CreateLink, CreateNamespace, LinkEnd, SetLink
from ifagent.kernel.contract import Kernel
from ifagent.kernel.linux import LinuxKernel
from ifagent.kernel.simulated import SimulatedKernel

WITHIN = 5.0
"""How long a test waits for what the kernel does by itself, in seconds."""

GROUP = 4242
MAC = "02:00:5e:10:00:0{}"
IFA_F_SECONDARY = 0x01
ODD_FLAGS = {0x02: "nodad", 0x10: "home", 0x200: "noprefixroute"}
"""Flags that anybody may give an address; the first two only one of IPv6."""


_SEND = """
import socket, sys
_, host_name, packets, size = sys.argv
frame = b"\\xff" * 6 + b"\\x02" + bytes(5) + b"\\x08\\x06"
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind((host_name, 0))
    for _ in range(int(packets)):
        raw.send(frame.ljust(int(size), b"\\0"))
"""
"""Sends Ethernet frames, broken ARP requests: what has no protocol at all counts as dropped where it arrives."""


class External(Protocol):
    """Somebody else, who knows namespaces and links by name."""

    def add_namespace(self, name: str) -> None: ...
    def remove_namespace(self, name: str) -> None: ...
    def disable_ipv6(self, name: str, *, disabled: bool = True) -> None: ...
    def skip_duplicate_detection(self, name: str) -> None: ...
    def add_bridge(self, name: str, host_name: str) -> None: ...
    def add_veth(self, name: str, host_name: str, peer_name: str, peer_host_name: str) -> None: ...
    def delete_link(self, name: str, host_name: str) -> None: ...
    def move_link(self, name: str, host_name: str, to: str) -> None: ...
    def add_altname(self, name: str, host_name: str, altname: str) -> None: ...
    def set_checksums(self, name: str, host_name: str, *, rx: bool, tx: bool) -> None: ...
    def send(self, name: str, host_name: str, *, packets: int, size: int = 100) -> None: ...
    def add_address(self, name: str, host_name: str, address: str | Address) -> None: ...
    def delete_address(self, name: str, host_name: str, address: str) -> None: ...
    def set_link(
        self,
        name: str,
        host_name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        group: int | None = None,
        new_host_name: str | None = None,
        alias: str | None = None,
        up: bool | None = None,
    ) -> None: ...


class Rig:
    """A kernel that runs while the context is open, and all that it said."""

    def __init__(self, kernel: Kernel, external: External) -> None:
        self.kernel = kernel
        self.external = external
        self.events: list[Event] = []
        self.names: dict[NamespaceRef, tuple[NsId, str]] = {}
        self.picture: dict[NsId, dict[int, Link]] = {}
        self.behind: set[NsId] = set()
        self._news = anyio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            await group.start(self._run)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def _run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        await self.kernel.run(self._take, task_status=task_status)

    def _take(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case NamespacesListed(paths):
                self.names = dict(paths)
            case LinksListed(namespace, None):
                self.picture.pop(namespace, None)
            case LinksListed(namespace, links) if links is not None:
                self.picture[namespace] = dict(links)
            case LinkSeen(id, None):
                self.picture[id.namespace].pop(id.ifindex, None)
            case LinkSeen(id, link) if link is not None:
                assert link.id == id
                self.picture[id.namespace][id.ifindex] = link
            case NamespaceSeen():
                pass
            case NamespaceBehind(namespace, behind):
                self.behind = self.behind - {namespace} | ({namespace} if behind else set())
            case _:
                raise AssertionError(f"a kernel does not say {event}")
        self._news.set()

    @property
    def is_simulated(self) -> bool:
        """Whether the kernel is the one in memory."""
        return isinstance(self.kernel, SimulatedKernel)

    def id(self, name: str) -> NsId:
        """Return the id of a named namespace as the kernel told it."""
        return self.names[named(name)][0]

    async def add_namespaces(self, *names: str, detect_duplicates: bool = False) -> None:
        """Make namespaces and attach them."""
        for name in names:
            assert await self.do(CreateNamespace(named(name), "mark")) == 0
            if not detect_duplicates:
                self.external.skip_duplicate_detection(name)
            await self.attach(name)

    async def attach(self, name: str) -> None:
        """Attach a named namespace."""
        await self.open(*self.names[named(name)])

    async def open(self, namespace: NsId, path: str) -> None:
        """Attach a namespace; raises why it cannot be."""
        for problem in (await self.kernel.attach({namespace: path})).values():
            raise problem

    async def execute(self, *operations: Operation) -> list[Outcome]:
        """Execute and drain."""
        outcomes = await self.kernel.execute(operations)
        assert [outcome.operation for outcome in outcomes] == list(operations)
        self.kernel.drain()
        return outcomes

    async def do(self, operation: Operation) -> int:
        """Execute one operation; return the errno."""
        (outcome,) = await self.execute(operation)
        return outcome.errno

    async def make_pair(self, near: tuple[str, str], far: tuple[str, str], *, up: bool = False) -> None:
        """Make a pair of links, each in a named namespace under a host name."""
        assert await self.do(self.pair(near, far)) == 0
        if up:
            for place in (near, far):
                assert await self.do(SetLink(target=self.target(*place), up=True)) == 0
            await self.until(lambda: self.link(*near).carrier and self.link(*far).carrier)

    def pair(
        self, near: tuple[str, str], far: tuple[str, str], *, macs: tuple[str, str] = ("", ""), mtu: int = 1500
    ) -> CreateLink:
        """Return the operation that makes a pair."""
        first, second = (
            LinkEnd(self.id(name), HostName(host_name), mac, mtu)
            for (name, host_name), mac in zip((near, far), macs, strict=True)
        )
        return CreateLink("veth", (first, second), GROUP)

    def host_names(self, name: str) -> set[str]:
        """Return the host names in a namespace, without those that the kernel has in every one."""
        return {str(link.host_name) for link in self.picture[self.id(name)].values()} - {"lo", *FALLBACK_LINKS}

    def link(self, name: str, host_name: str) -> Link:
        """Return a link of the picture."""
        (found,) = (link for link in self.picture[self.id(name)].values() if link.host_name == host_name)
        return found

    def target(self, name: str, host_name: str) -> Target:
        """Return how an operation names a link."""
        return Target(self.id(name), HostName(host_name), self.link(name, host_name).id.ifindex)

    def addresses(self, name: str, host_name: str, *, automatic: bool = False) -> list[str]:
        """Return a link's addresses in order; those that the kernel made only if asked."""
        addresses = self.link(name, host_name).addresses
        return [str(a.interface) for a in addresses if automatic or not a.made_by_kernel]

    async def until(self, condition: Callable[[], bool], *, within: float = WITHIN) -> None:
        """Wait for a condition that only news from the kernel can make true."""
        within *= PATIENCE
        deadline = time.monotonic() + within
        while not condition():
            self._news = anyio.Event()
            with anyio.move_on_after(deadline - time.monotonic()) as waiting:
                await self._news.wait()
            if waiting.cancelled_caught:
                assert condition(), f"not so within {within} s; the picture is {self.picture}"
                return


def address(text: str) -> IPInterface:
    """Return an address with its prefix."""
    return ip_interface(text)


def gone(rig: Rig, id: LinkId) -> bool:
    """Tell whether the picture no longer has the link."""
    return id.ifindex not in rig.picture.get(id.namespace, {})


class SimulatedExternal:
    """Somebody else on the simulated kernel."""

    def __init__(self, kernel: SimulatedKernel) -> None:
        self._external = kernel.external
        self.remove_namespace = kernel.external.remove_namespace
        self.disable_ipv6 = kernel.external.disable_ipv6
        self.add_veth = kernel.external.add_veth
        self.delete_link = kernel.external.delete_link
        self.move_link = kernel.external.move_link
        self.set_link = kernel.external.set_link
        self.add_altname = kernel.external.add_altname
        self.set_checksums = kernel.external.set_checksums
        self.send = kernel.external.send

    def add_namespace(self, name: str) -> None:
        self._external.add_namespace(name)

    def skip_duplicate_detection(self, name: str) -> None:
        """There is none here: addresses are told at once."""

    def add_bridge(self, name: str, host_name: str) -> None:
        self._external.add_link(name, host_name, kind="bridge")

    def add_address(self, name: str, host_name: str, address: str | Address) -> None:
        given = address if isinstance(address, Address) else ip_interface(address)
        self._external.add_address(name, host_name, given)

    def delete_address(self, name: str, host_name: str, address: str) -> None:
        self._external.delete_address(name, host_name, ip_interface(address))


class LinuxExternal:
    """Somebody else on Linux: the ``ip`` command, in namespaces that are kept in a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add_namespace(self, name: str) -> None:
        if not self._mounts():  # what "ip netns add" does first
            _run("mount", "--bind", str(self._directory), str(self._directory))
            _run("mount", "--make-shared", str(self._directory))
        path = self._directory / name
        path.touch(exist_ok=False)
        _run("unshare", f"--net={path}", "true")

    def remove_namespace(self, name: str) -> None:
        path = self._directory / name
        _run("umount", "--lazy", str(path))
        path.unlink()

    def disable_ipv6(self, name: str, *, disabled: bool = True) -> None:
        set_sysctl(self._directory / name, f"net.ipv6.conf.all.disable_ipv6={int(disabled)}")

    def skip_duplicate_detection(self, name: str) -> None:
        """Have new links use IPv6 addresses at once; Linux tells of automatic ones only then, 1 to 2 s later else."""
        set_sysctl(self._directory / name, "net.ipv6.conf.default.accept_dad=0")

    def add_bridge(self, name: str, host_name: str) -> None:
        self._inside(name, "ip", "link", "add", "name", host_name, "type", "bridge")

    def add_veth(self, name: str, host_name: str, peer_name: str, peer_host_name: str) -> None:
        peer = ["peer", "name", peer_host_name, "netns", str(self._directory / peer_name)]
        self._inside(name, "ip", "link", "add", "name", host_name, "type", "veth", *peer)

    def delete_link(self, name: str, host_name: str) -> None:
        self._inside(name, "ip", "link", "delete", "dev", host_name)

    def move_link(self, name: str, host_name: str, to: str) -> None:
        self._inside(name, "ip", "link", "set", "dev", host_name, "netns", str(self._directory / to))

    def add_address(self, name: str, host_name: str, address: str | Address) -> None:
        words = _words(address) if isinstance(address, Address) else [address]
        self._inside(name, "ip", "address", "add", *words, "dev", host_name)

    def delete_address(self, name: str, host_name: str, address: str) -> None:
        self._inside(name, "ip", "address", "delete", address, "dev", host_name)

    def set_link(
        self,
        name: str,
        host_name: str,
        *,
        mac: str | None = None,
        mtu: int | None = None,
        group: int | None = None,
        new_host_name: str | None = None,
        alias: str | None = None,
        up: bool | None = None,
    ) -> None:
        words = [
            (word, str(value))
            for word, value in (
                ("address", mac),
                ("mtu", mtu),
                ("group", group),
                ("name", new_host_name),
                ("alias", alias),
            )
            if value is not None
        ]
        state = [] if up is None else ["up" if up else "down"]
        self._inside(name, "ip", "link", "set", "dev", host_name, *(part for word in words for part in word), *state)

    def add_altname(self, name: str, host_name: str, altname: str) -> None:
        self._inside(name, "ip", "link", "property", "add", "dev", host_name, "altname", altname)

    def set_checksums(self, name: str, host_name: str, *, rx: bool, tx: bool) -> None:
        words = ["rx", "on" if rx else "off", "tx", "on" if tx else "off"]
        self._inside(name, "ethtool", "--offload", host_name, *words)

    def send(self, name: str, host_name: str, *, packets: int, size: int = 100) -> None:
        self._inside(name, sys.executable, "-Sc", _SEND, host_name, str(packets), str(size))

    def clean_up(self) -> None:
        """Take away every namespace that is left in the directory, and the mounts that made it shared."""
        for path in reversed(self._mounts()):
            _run("umount", "--lazy", path)
        for file in self._directory.iterdir():
            file.unlink()

    def _mounts(self) -> list[str]:
        """Return what is mounted at or under the directory, oldest first; ``os.path.ismount`` misses binds."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [point for point in points if Path(point).is_relative_to(self._directory)]

    def _inside(self, name: str, *command: str) -> None:
        _run("nsenter", f"--net={self._directory / name}", *command)


def _words(address: Address) -> list[str]:
    """Return what ``ip address add`` is to be told."""
    interface = address.interface
    words = [str(interface)]
    if address.peer is not None:
        words = [str(interface.ip), "peer", f"{address.peer}/{interface.network.prefixlen}"]
    words += [] if address.scope is None else ["scope", str(address.scope)]
    words += [] if address.broadcast is None else ["broadcast", str(address.broadcast)]
    words += [] if address.lasts else ["valid_lft", "3600", "preferred_lft", "1800"]
    words += ["metric", str(address.metric)] if address.metric else []
    return [*words, *(word for flag, word in ODD_FLAGS.items() if address.flags & flag)]


@asynccontextmanager
async def linux_rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Run the real kernel with namespaces under ``tmp_path``, and take them away afterwards."""
    directory = tmp_path / "netns"
    directory.mkdir()
    external = LinuxExternal(directory)
    try:
        async with Rig(LinuxKernel(netns_dir=str(directory)), external) as running:
            yield running
    finally:
        external.clean_up()


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30 * PATIENCE)
    assert not finished.returncode, f"{command}: {finished.stderr}"
