from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from world import NS, OWN, OWNER, observed, operations, pair, veth

from ifagent.core.desired import Desired
from ifagent.core.host_routes import HostRoutes, Route, why_taken
from ifagent.core.interface import Interface
from ifagent.core.kinds import AutoTap, Existing
from ifagent.core.link import Address, Link, LinkId
from ifagent.core.names import HostName
from ifagent.core.namespace_ref import named
from ifagent.core.observed import Observed
from ifagent.core.planner import plan
from ifagent.core.policy import Policy
from ifagent.core.resources import interface_key
from ifagent.core.state import ConfigState

ETH0 = LinkId(OWN, 2)
VPN = LinkId(OWN, 3)
OURS = LinkId(OWN, 4)
HOST = HostRoutes(
    hosts=frozenset({ip_address("198.18.0.9"), ip_address("127.0.0.1")}),
    routes=(
        Route(ip_network("0.0.0.0/0"), (ip_address("10.77.0.2"),), (ETH0,)),
        Route(ip_network("10.8.0.0/16"), (), (VPN,)),
        Route(ip_network("169.254.169.254/32"), (ip_address("10.8.0.1"),), (VPN,)),
        Route(ip_network("2001:db8:77::/48"), (), (VPN,)),
        Route(ip_network("10.77.0.0/24"), (), (ETH0,), made_by_kernel=True),
        Route(ip_network("fd55::/64"), (), (ETH0,), made_by_kernel=True),
        Route(ip_network("10.20.0.0/16"), (), (OURS,), made_by_kernel=True),
    ),
).with_links(
    [
        Link(
            id=ETH0,
            host_name=HostName("eth0"),
            addresses=(
                Address(ip_interface("10.77.0.1/24")),
                Address(ip_interface("fe80::1/64"), made_by_kernel=True),
                Address(ip_interface("203.0.113.7/32")),
                Address(ip_interface("fd00:77::f4b2:a8ff:fee3:bd54/64"), made_by_kernel=True),
                Address(ip_interface("10.9.0.2/32"), peer=ip_address("10.9.0.1")),
            ),
        ),
        Link(id=LinkId(OWN, 1), host_name=HostName("lo"), addresses=(Address(ip_interface("127.0.0.1/8")),)),
    ],
    ours={OURS},
)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("10.77.0.2/32", "the gateway 10.77.0.2"),
        ("10.77.0.9/25", "the gateway 10.77.0.2"),
        ("10.77.0.200/25", "10.77.0.1/24 of eth0"),
        ("10.77.0.1/24", "the gateway 10.77.0.2"),
        ("203.0.113.1/28", "203.0.113.7/32 of eth0"),
        ("192.0.2.1/1", "a part of what the default route leads to"),
        ("1.0.0.1/1", "the gateway 10.77.0.2"),
        ("8.8.8.8/32", "a part of what the default route leads to"),
        ("10.8.3.1/24", "the route to 10.8.0.0/16"),
        ("10.0.0.1/8", "the gateway 10.77.0.2"),
        ("198.18.0.8/24", "the route to 198.18.0.9, which the agent needs"),
        ("2001:db8:77:1::1/64", "the route to 2001:db8:77::/48"),
        ("fd00:77::1/120", "fd00:77::f4b2:a8ff:fee3:bd54/64 of eth0"),
        ("10.9.0.1/32", "10.9.0.2/32 of eth0"),
        ("169.254.169.254/32", "the route to the cloud service 169.254.169.254"),
        ("169.254.7.7/16", "the route to the cloud service 169.254.169.254"),
        ("169.254.170.1/30", "the route to the cloud service 169.254.170.2"),
        ("100.100.100.1/24", "the route to the cloud service 100.100.100.200"),
        ("fd00:ec2::254/128", ""),
        ("169.254.7.7/24", ""),
        ("fd55::53/128", "the route to fd55::/64"),
        ("10.20.0.1/24", ""),
        ("10.1.0.1/24", ""),
        ("192.168.7.1/24", ""),
        ("fe80::2/64", ""),
        ("2001:db8::1/64", ""),
        ("2a00::1/64", ""),
    ],
)
def test_what_an_address_takes_from_the_host(address: str, taken: str) -> None:
    assert why_taken(ip_interface(address), None, HOST, OWN) == taken


def test_what_is_its_own_it_does_not_take() -> None:
    assert not why_taken(ip_interface("10.8.3.1/24"), VPN, HOST, OWN)
    assert not why_taken(ip_interface("10.77.0.9/25"), None, HostRoutes(routes=HOST.routes), NS[named("ns1")])
    for address in ("10.77.0.200/25", "203.0.113.7/32"):
        assert not why_taken(ip_interface(address), ETH0, HOST, OWN)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("10.77.0.2/24", "the gateway 10.77.0.2"),
        ("8.8.8.8/32", "a part of what the default route leads to"),
        ("10.30.0.1/24", "the route to 10.30.0.0/16"),
    ],
)
def test_a_link_may_not_take_what_is_behind_its_gateway(address: str, taken: str) -> None:
    behind = Route(ip_network("10.30.0.0/16"), (ip_address("10.77.0.2"),), (ETH0,))
    world = replace(HOST, routes=(*HOST.routes, behind))
    assert why_taken(ip_interface(address), ETH0, world, OWN) == taken


def test_a_host_that_the_agent_needs_on_a_network_that_its_link_leads_to_already() -> None:
    world = replace(HOST, hosts=frozenset({ip_address("10.77.0.50")}))
    assert not why_taken(ip_interface("10.77.0.9/24"), ETH0, world, OWN)
    assert (
        why_taken(ip_interface("10.77.0.50/24"), ETH0, world, OWN) == "the route to 10.77.0.50, which the agent needs"
    )


def host_world(*links: Link) -> Observed:
    return replace(observed(links), host=frozenset({OWN}), host_routes=HOST)


def test_an_address_that_takes_the_hosts_traffic_is_invalid_and_nothing_is_touched() -> None:
    taking = veth("a", "b", ip_addresses=("10.1.0.1/24", "10.77.0.9/25"))
    other = veth("b", "a", "ns1")
    for world in (
        host_world(),
        host_world(*pair(replace(taking, ip_addresses=taking.ip_addresses[:1]), other, first=8)),
    ):
        result = plan(Desired({"a": taking, "b": other}), world, OWNER)
        assert not result.steps
        obstacle = result.verdicts[interface_key("a")].obstacle
        assert obstacle is not None
        assert (obstacle.config_state, obstacle.field) == (ConfigState.INVALID, "ip_addresses[1]")
        assert obstacle.reason == (
            "10.77.0.9/25 would take the gateway 10.77.0.2 from the host; the agent's operator can allow it "
            "with --allow-host-network 10.77.0.0/25"
        )


def test_an_address_with_another_end_is_another_one() -> None:
    ends = veth("a", "b", ip_addresses=("10.77.0.9/25",)), veth("b", "a", "ns1")
    near, far = pair(*ends, first=8)
    near = replace(near, addresses=(Address(ip_interface("10.77.0.9/25"), peer=ip_address("10.20.0.9")),))
    result = plan(Desired({end.name: end for end in ends}), host_world(near, far), OWNER)
    assert not result.steps
    obstacle = result.verdicts[interface_key("a")].obstacle
    assert obstacle is not None
    assert obstacle.config_state is ConfigState.INVALID


def test_what_was_there_first_stays() -> None:
    ends = veth("a", "b", ip_addresses=("10.77.0.9/25",)), veth("b", "a", "ns1")
    result = plan(Desired({end.name: end for end in ends}), host_world(*pair(*ends, first=8)), OWNER)
    assert not result.steps
    assert all(verdict.fulfilled for verdict in result.verdicts.values())


@pytest.mark.parametrize(("allowed", "made"), [("10.77.0.0/24", True), ("10.77.0.0/26", False), ("::/0", False)])
def test_the_settings_may_allow_it(allowed: str, made: bool) -> None:
    ends = veth("a", "b", ip_addresses=("10.77.0.9/25",)), veth("b", "a", "ns1")
    policy = Policy(host_networks=(ip_network(allowed),))
    result = plan(Desired({end.name: end for end in ends}), host_world(), OWNER, policy)
    assert ("CreateLink" in operations(result)) is made


def test_elsewhere_it_does_not_matter() -> None:
    ends = veth("a", "b", "ns2", ip_addresses=("10.77.0.9/25",)), veth("b", "a", "ns1")
    assert "CreateLink" in operations(plan(Desired({end.name: end for end in ends}), host_world(), OWNER))


TAKEN = ip_interface("10.77.0.2/32")
EXISTING = Interface(name="e", kind=Existing(), host_if_name="free0", enabled=True, ip_addresses=(TAKEN,))
FREE = Link(id=LinkId(OWN, 9), host_name=HostName("free0"), kind="dummy", up=True)


def test_an_existing_link_takes_nothing_either() -> None:
    allowed = Policy(existing=("free0",))
    result = plan(Desired({"e": EXISTING}), host_world(FREE), OWNER, allowed)
    assert not result.steps
    obstacle = result.verdicts[interface_key("e")].obstacle
    assert obstacle is not None
    assert (obstacle.config_state, obstacle.field) == (ConfigState.INVALID, "ip_addresses[0]")
    given_by_others = replace(EXISTING, link_only=True)
    waiting = (
        plan(Desired({"e": given_by_others}), host_world(FREE), OWNER, allowed).verdicts[interface_key("e")].obstacle
    )
    assert waiting is not None
    assert waiting.config_state is ConfigState.PENDING


def unknown(*links: Link) -> Observed:
    return replace(host_world(*links), host_routes=HostRoutes(problems={OWN: "its routes cannot be listed: no"}))


def test_nothing_is_given_while_the_routes_are_not_known() -> None:
    one, other = veth("a", "b", ip_addresses=("10.1.0.1/24",)), veth("b", "a", "ns1")
    reason = "cannot tell what 10.1.0.1/24 would take from the host: its routes cannot be listed: no"
    there = pair(replace(one, ip_addresses=()), other, first=8)
    for links in ((), there):
        result = plan(Desired({"a": one, "b": other}), unknown(*links), OWNER)
        assert not result.steps
        obstacle = result.verdicts[interface_key("a")].obstacle
        assert obstacle is not None
        assert (obstacle.config_state, obstacle.reason) == (ConfigState.PENDING, reason)
    assert "CreateLink" in operations(
        plan(Desired({"a": one, "b": other}), unknown(), OWNER, Policy(host_networks=(ip_network("10.1.0.0/16"),)))
    )
    assert "CreateLink" in operations(plan(Desired({"a": replace(one, ip_addresses=()), "b": other}), unknown(), OWNER))


def test_nothing_of_the_hosts_is_taken_over_while_the_routes_are_not_known() -> None:
    tap = Interface(name="t", kind=AutoTap(), host_if_name="vpn0", enabled=True)
    link = Link(id=LinkId(OWN, 9), host_name=HostName("vpn0"), kind="tun", mac="06:00:00:00:00:01", up=True)
    result = plan(Desired({"t": tap}), unknown(link), OWNER)
    assert not result.steps
    obstacle = result.verdicts[interface_key("t")].obstacle
    assert obstacle is not None
    assert "cannot tell whether it is in use: its routes cannot be listed: no" in obstacle.reason
    assert plan(Desired({"t": tap}), unknown(link), OWNER, Policy(taps=("vpn0",))).steps
    link_change = replace(EXISTING, ip_addresses=())
    result = plan(Desired({"e": link_change}), unknown(FREE), OWNER, Policy(existing=("*",)))
    assert not result.steps
    obstacle = result.verdicts[interface_key("e")].obstacle
    assert obstacle is not None
    assert "cannot tell whether free0 keeps the host connected" in obstacle.reason
