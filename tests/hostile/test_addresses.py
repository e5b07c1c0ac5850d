"""Addresses that others put on the agent's links, make there, or have as well."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from lab import Lab, addresses, ip, pair, until, veth
from sysctl import sysctl

from ifagent.core.drift import FREE_REPAIRS

pytest_plugins = ["etcd_fixtures", "lab_fixtures"]
pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(120)]

WANTED = ["10.0.0.1/24", "10.0.0.2/24", "2001:db8::1/64", "2001:db8::2/64"]


def address_info(space: str, host_name: str = "a") -> list[dict[str, Any]]:
    """Return what ``ip`` tells of a link's addresses, but for the kernel's own fe80 one."""
    [link] = json.loads(ip("-n", space, "-d", "-j", "addr", "show", "dev", host_name))
    return [a for a in link["addr_info"] if not a["local"].startswith("fe80")]


def inside(space: str, *command: str) -> None:
    subprocess.run(["ip", "netns", "exec", space, *command], check=True, timeout=20)


@pytest.fixture
def space(lab: Lab) -> str:
    """Return a namespace where IPv6 addresses are usable at once."""
    name = lab.space("s")
    ip("netns", "add", name)
    inside(name, *sysctl("net.ipv6.conf.default.accept_dad=0"))
    return name


@pytest.fixture
def applied(lab: Lab, space: str) -> Lab:
    """Return a lab with the end ``a`` of a pair, which has the wanted addresses."""
    lab.start_agent()
    lab.put(veth("a", "b", space, ip_addresses=WANTED), veth("b", "a"))
    lab.until_applied("a", "b")
    return lab


def is_quiet(lab: Lab, space: str) -> bool:
    """Tell whether nothing is said of addresses in a namespace for a while that a busy loop would not let pass."""
    command = ["timeout", "1", "ip", "-n", space, "-oneline", "monitor", "address"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    assert not said, f"{said}\n{lab.logs()}"
    return True


@pytest.mark.parametrize(
    ("wanted", "listed"),
    [
        (["127.0.0.1/8", "::1/128", "2001:db8::99/128"], ["127.0.0.1/8", "2001:db8::99/128", "::1/128"]),
        (
            ["127.0.0.2/8", "127.1.0.1/16", "10.0.0.2/16"],
            ["127.0.0.1/8", "127.1.0.1/16", "10.0.0.2/16", "127.0.0.2/8", "::1/128"],
        ),
        (["127.0.0.2/8", "127.0.0.1/8"], ["127.0.0.2/8", "127.0.0.1/8", "::1/128"]),
        (["fe80::9/64", "::1/128"], ["127.0.0.1/8", "fe80::9/64", "::1/128"]),
        (["::1/64"], ["127.0.0.1/8", "::1/64"]),
    ],
)
def test_the_loopback_has_the_kernels_own_addresses_and_order(
    lab: Lab, space: str, wanted: list[str], listed: list[str]
) -> None:
    lab.start_agent()
    put_v3(lab, "l", "LOOPBACK", space, enabled=True, ip_addresses=wanted)
    lab.until_state("l", "APPLIED")
    [lo] = json.loads(ip("-n", space, "-j", "addr", "show", "dev", "lo"))
    assert [f"{a['local']}/{a['prefixlen']}" for a in lo["addr_info"]] == listed
    assert is_quiet(lab, space)


def put_v3(lab: Lab, name: str, type_: str, space: str, **fields: Any) -> None:
    value = {"name": name, "type": type_, "namespace": {"type": "NSID", "reference": space}, **fields}
    lab.etcd.ctl("put", f"/vnf-agent/{lab.label}/config/linux/interfaces/v2/interface/{name}", json.dumps(value))


@pytest.mark.parametrize(
    "words",
    [
        "10.0.0.1/24 valid_lft 3600 preferred_lft 1800",
        "10.0.0.1/24 preferred_lft 0",
        "10.0.0.2/24 metric 77",
        "2001:db8::1/64 valid_lft 3600 preferred_lft 1800",
        "2001:db8::1/64 preferred_lft 1800",
        "2001:db8::2/64 preferred_lft 0",
        "2001:db8::2/64 nodad home",
        "2001:db8::2/64 noprefixroute",
        "2001:db8::1/64 mngtmpaddr",
    ],
)
def test_what_others_change_of_an_address_is_put_right_in_its_place(applied: Lab, space: str, words: str) -> None:
    before = address_info(space)
    command = ["ip", "-n", space, "-oneline", "monitor", "address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor:
        try:
            ip("-n", space, "addr", "change", *words.split(), "dev", "a")
            until(lambda: applied.state("a").get("repairs") == 1, what=applied.logs)
            until(lambda: address_info(space) == before, what=applied.logs)
            applied.until_state("a", "APPLIED")
        finally:
            monitor.terminate()
        assert monitor.stdout
        assert "Deleted" not in monitor.stdout.read(), "an address that only has to be changed was away for a moment"
    assert words.split(maxsplit=1)[0] in applied.state("a")["last_drift"]


@pytest.mark.parametrize(
    "words",
    [
        "10.0.0.1/24 scope link",
        "10.0.0.1/24 broadcast 10.0.0.77",
        "10.0.0.1/24 noprefixroute",
        "10.0.0.1 peer 10.0.0.2/24",
        "10.0.0.1 peer 0.0.0.0",
        "2001:db8::1 peer 2001:db8::7/64",
        "2001:db8::1/64 metric 77",
        "2001:db8::1/48",
    ],
)
def test_what_cannot_be_changed_in_its_place_is_put_right_too(applied: Lab, space: str, words: str) -> None:
    """Somebody takes a wanted address off and puts it on in another way, at once or so that the agent sees both."""
    before = address_info(space)
    address = words.split(maxsplit=1)[0].partition("/")[0]
    kept = f"{address}/{24 if '.' in address else 64}"
    batch = f"addr del {kept} dev a\naddr add {words} dev a\n"
    subprocess.run(["ip", "-n", space, "-batch", "-"], input=batch, text=True, check=False, timeout=20)
    until(lambda: applied.state("a").get("repairs", 0) >= 1, what=applied.logs)
    until(lambda: address_info(space) == before, what=lambda: f"{address_info(space)}\n{applied.logs()}")
    applied.until_state("a", "APPLIED")


def test_the_usual_broadcast_address_is_nobodys_business(applied: Lab, space: str) -> None:
    """``ifconfig`` and ``ip addr add ... brd +`` give one: an address is not taken off for that."""
    batch = "addr del 10.0.0.2/24 dev a\naddr add 10.0.0.2/24 brd + dev a\n"
    subprocess.run(["ip", "-n", space, "-batch", "-"], input=batch, text=True, check=True, timeout=20)
    applied.until_state("a", "APPLIED")
    assert addresses(applied.link("a", space)) == WANTED


def odd_addresses(seed: int, count: int) -> Iterator[str]:
    """Yield what somebody may tell ``ip address add``: of the wanted subnets and of others, in every way there is."""
    pick = random.Random(seed).choice
    for _ in range(count):
        if pick((True, False)):
            text = f"10.{pick((0, 0, 9))}.{pick((0, 1))}.{pick((1, 2, 3, 255))}"
            text = pick((text, text, text, "127.0.0.5", "169.254.1.1", "0.1.2.3", "255.255.255.255", "240.0.0.1"))
            peer = pick(("", "", "", "0.0.0.0", "10.0.0.1", "10.9.9.9", "10.0.1.3"))
            prefix = pick((0, 8, 16, 24, 24, 25, 31, 32))
            rest = pick(
                ("", "scope link", "scope 77", "scope host", "label a:1", "broadcast 10.0.0.9", "noprefixroute")
            )
        else:
            text = f"{pick(('2001:db8:', '2001:db8:', 'fd00:', 'fec0:', 'fe80:'))}:{pick((1, 2, 3))}"
            text = pick((text, text, text, "::2", "::ffff:10.0.0.1"))
            peer = pick(("", "", "", "2001:db8::9", "fe80::1"))
            prefix = pick((1, 10, 48, 64, 64, 64, 128))
            rest = pick(("", "nodad", "home", "noprefixroute", "metric 99", "preferred_lft 0"))
        more = pick(("", "", "valid_lft 3000 preferred_lft 1000", "metric 5"))
        yield f"{text} peer {peer}/{prefix} {rest} {more}" if peer else f"{text}/{prefix} {rest} {more}"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_address_is_put_on_a_link_is_taken_off(lab: Lab, space: str, seed: int) -> None:
    lab.start_agent()
    names = [f"a{number}" for number in range(20)]
    for number, name in enumerate(names):
        lab.put(veth(name, f"b{number}", space, ip_addresses=WANTED), veth(f"b{number}", name))
    lab.until_applied(*names)
    before = {name: address_info(space, name) for name in names}
    batch = [
        f"addr add {words} dev {name}"
        for name, words in zip(names * (FREE_REPAIRS * 2), odd_addresses(seed, 20 * FREE_REPAIRS * 2), strict=True)
    ]
    done = subprocess.run(
        ["ip", "-n", space, "-force", "-batch", "-"],
        input="\n".join(batch),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.count("Command failed") < len(batch) / 2, done.stderr
    for name in names:
        until(
            lambda name=name: address_info(space, name) == before[name],  # type: ignore[misc]
            what=lambda name=name: f"{name}: {lab.state(name)} {address_info(space, name)}",  # type: ignore[misc]
            within=30,
        )
    lab.until_applied(*names)


def test_a_peer_of_all_zeroes_is_taken_off(applied: Lab, space: str) -> None:
    ip("-n", space, "addr", "add", "10.7.0.1", "peer", "0.0.0.0", "dev", "a")
    ip("-n", space, "addr", "add", "10.7.0.1/24", "peer", "0.0.0.0", "dev", "a", check=False)
    until(lambda: addresses(applied.link("a", space)) == WANTED, what=applied.logs)
    applied.until_state("a", "APPLIED")


# What the kernel makes


def advertise(space: str, host_name: str, prefix: str, *, lifetime: int = 3600) -> None:
    """Send a router advertisement with one prefix for stateless autoconfiguration (RFC 4861, RFC 4862)."""
    option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, lifetime, lifetime // 2, 0) + socket.inet_pton(
        socket.AF_INET6, prefix
    )
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option
    script = (
        "import socket, sys; s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6); "
        "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255); "
        "s.sendto(bytes.fromhex(sys.argv[2]), ('ff02::1', 0, 0, socket.if_nametoindex(sys.argv[1])))"
    )
    inside(space, sys.executable, "-Sc", script, host_name, message.hex())


def test_what_the_kernel_makes_of_a_routers_word_is_left_alone(lab: Lab, space: str) -> None:
    """SLAAC addresses with the temporary ones beside them, which come, are renewed and go by themselves."""
    router = lab.space("r")
    inside(space, *sysctl("net.ipv6.conf.default.use_tempaddr=2"))
    lab.start_agent()
    lab.put(veth("a", "b", space, ip_addresses=WANTED), veth("b", "a", router))
    lab.until_applied("a", "b")
    until(lambda: "tentative" not in ip("-n", router, "addr", "show", "dev", "b") and lab.link("b", router))

    def made() -> list[str]:
        return [a for a in addresses(lab.link("a", space)) if a.startswith("2001:db8:77:")]

    until(lambda: "fe80" in ip("-n", router, "addr", "show", "dev", "b", "scope", "link"))
    advertise(router, "b", "2001:db8:77::")
    both = until(lambda: made() if len(made()) == 2 else None, what=lab.logs)
    lab.put(veth("a", "b", space, mtu=1400, ip_addresses=list(reversed(WANTED))))
    lab.until_state("a", "APPLIED", mtu=1400)
    assert [a for a in addresses(lab.link("a", space)) if a not in both] == [
        *("10.0.0.2/24", "10.0.0.1/24", "2001:db8::2/64", "2001:db8::1/64"),
    ]
    assert sorted(made()) == sorted(both)
    assert lab.state("a").get("repairs", 0) == 0, lab.logs()
    lab.kill_agent()
    lab.start_agent()
    lab.until_applied("a", "b")
    assert sorted(made()) == sorted(both)


# What somebody else has too


def test_an_address_is_used_as_soon_as_nobody_else_has_it(lab: Lab) -> None:
    """The new value of one end comes before the old one of the other is changed, as when an address moves."""
    left, right = lab.space("l"), lab.space("r")
    lab.start_agent()
    moving = ["2001:db8::5/64"]
    healthy = ["10.0.0.1/24", "2001:db8::1/64"]
    lab.put(veth("a", "b", left, ip_addresses=healthy), veth("b", "a", right, ip_addresses=moving))
    lab.until_applied("a", "b")
    until(lambda: "tentative" not in ip("-n", right, "addr", "show", "dev", "b"))
    until(lambda: "tentative" not in ip("-n", left, "addr", "show", "dev", "a"))
    lab.put(veth("a", "b", left, ip_addresses=[*moving, *healthy]))
    reason = "another host on the link of a has 2001:db8::5/64 (duplicate address detection)"
    state = lab.until_state("a", "FAILED", reason=reason)
    until(lambda: lab.state("a").get("attempts", 0) >= 2 and lab.state("a").get("next_retry"), what=lab.logs)
    assert lab.state("a")["config_state"] == "FAILED", "while it is tried nothing else is said"
    command = ["ip", "-n", left, "-oneline", "monitor", "address"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as monitor:
        try:
            lab.put(veth("b", "a", right))
            lab.until_state("a", "APPLIED")
        finally:
            monitor.terminate()
        assert monitor.stdout
        heard = monitor.stdout.read()
    assert "dadfailed" not in ip("-n", left, "addr", "show", "dev", "a"), state
    assert addresses(lab.link("a", left)) == ["10.0.0.1/24", "2001:db8::5/64", "2001:db8::1/64"]
    assert not [line for line in heard.splitlines() if "Deleted" in line and "2001:db8::5" not in line], heard


def test_a_duplicate_that_was_there_before_the_agent_is_tried_again(lab: Lab) -> None:
    left, right = lab.space("l"), lab.space("r")
    agent = lab.start_agent()
    lab.put(*pair("a", "b", left, right))
    lab.until_applied("a", "b")
    until(lambda: "tentative" not in ip("-n", right, "addr", "show", "dev", "b") and "fe80" in ip("-n", right, "addr"))
    agent.kill()  # or it would take the next address off
    agent.wait(10)
    ip("-n", right, "addr", "add", "2001:db8::5/64", "dev", "b", "nodad")
    ip("-n", left, "addr", "add", "2001:db8::5/64", "dev", "a")
    until(lambda: "dadfailed" in ip("-n", left, "addr", "show", "dev", "a"))
    ip("-n", right, "addr", "del", "2001:db8::5/64", "dev", "b")
    lab.put(veth("a", "b", left, ip_addresses=["2001:db8::5/64"]))
    lab.start_agent()
    lab.until_state("a", "APPLIED")
    assert "dadfailed" not in ip("-n", left, "addr", "show", "dev", "a")
