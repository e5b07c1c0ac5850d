"""What people have reported of other programs of this kind, where no other test is about that.

The rest is in tests of its own: what is changed in place and what is not, lower links that come back, restarts that
write nothing (``test_stacked_kinds``), and links that exclude each other (``test_lower_use``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

import pytest
from kind_battery import Battery, battery_on, interface, needs, pair
from pydantic import ValidationError

from ifagent.core.kinds import Bond, Bridge, Dummy, Macvlan, Vlan
from ifagent.core.namespace_ref import named
from ifagent.core.operations import DeleteLink, SetLink

pytest_plugins = ["kernel_fixtures"]

ADDRESS = ip_interface("10.9.0.1/24")
OTHER = named("t")


@pytest.fixture
async def battery(kernel_kind: str, tmp_path: Path) -> AsyncIterator[Battery]:
    async with battery_on(kernel_kind, tmp_path) as made:
        yield made


@pytest.mark.anyio
async def test_another_vlan_id_brings_back_all_that_is_on_it(battery: Battery, kernel_kind: str) -> None:
    """Of systemd 9627, 34907 and 17562: nothing happens, or what is on it is gone."""
    needs(kernel_kind, "vlan", "macvlan", "bridge")
    battery.declare(*pair("l", "m"), interface("br", Bridge()))
    battery.declare(interface("v", Vlan(lower_if_name="l", id=7), ip_addresses=(ADDRESS,)))
    battery.declare(interface("inner", Vlan(lower_if_name="v", id=8), master_if_name="br"))
    battery.declare(interface("mac", Macvlan(lower_if_name="v"), OTHER, ip_addresses=(ip_interface("10.9.1.1/24"),)))
    async with battery.run():
        await battery.applied("v", "inner", "mac", "br")
        before = battery.link("v").id
        battery.change_kind("v", id=9)
        await battery.until(lambda: battery.link("v").id != before and dict(battery.link("v").data)["id"] == 9)
        await battery.until(lambda: battery.link("inner").lower == battery.link("mac").lower == battery.link("v").id)
        await battery.until(lambda: battery.link("inner").master == battery.link("br").id.ifindex)
        await battery.applied("v", "inner", "mac", "br")
        assert ADDRESS in [address.interface for address in battery.link("v").addresses]
        assert [a.interface for a in battery.link("mac").addresses if a.interface.version == 4] == [
            ip_interface("10.9.1.1/24")
        ]
        assert sum(link.kind == "vlan" for link in battery.kernel.links.values()) == 2


@pytest.mark.anyio
async def test_two_bonds_swap_their_ports_and_one_becomes_a_port_of_a_bridge(
    battery: Battery, kernel_kind: str
) -> None:
    """Of eve 5941: a port is in none, or in both."""
    needs(kernel_kind, "bond", "bridge")
    for name in ("x", "y"):
        battery.declare(interface(name, Bond(mode="active_backup")))
    battery.declare(interface("b", Bridge()))
    for name, master in (("p", "x"), ("q", "y")):
        battery.declare(*pair(name, f"{name}-peer", master_if_name=master))

    def has_ports(*ports: tuple[str, str]) -> bool:
        joined = all(battery.link(port).master == battery.link(master).id.ifindex for port, master in ports)
        return joined and all(battery.is_applied(port) and battery.link(port).up for port, _ in ports)

    async with battery.run():
        await battery.until(partial(has_ports, ("p", "x"), ("q", "y")))
        battery.change("p", master_if_name="y")
        battery.change("q", master_if_name="x")
        await battery.until(partial(has_ports, ("p", "y"), ("q", "x")))
        battery.change("p", master_if_name="b")
        await battery.until(partial(has_ports, ("p", "b"), ("q", "x")))
        await battery.applied("p", "q", "x", "y", "b")


def test_a_bond_that_has_a_ports_mac_is_given_none() -> None:
    """Of nmstate 2793 and 781: it differs for ever."""
    with pytest.raises(ValidationError, match="with fail_over_mac a bond has the MAC of a port"):
        interface("x", Bond(mode="active_backup", fail_over_mac="active"), phys_address="02:00:00:00:00:01")


@pytest.mark.anyio
async def test_a_bridge_keeps_its_mac_whatever_its_ports_are(battery: Battery, kernel_kind: str) -> None:
    """Of lxc 604, cni 285 and plugins 60: the bridge's MAC jumps to that of a new port."""
    needs(kernel_kind, "bridge")
    battery.declare(interface("b", Bridge()))
    async with battery.run():
        await battery.applied("b")
        mac = battery.link("b").mac
        for name, address in (("p", "02:00:00:00:00:01"), ("q", "fe:00:00:00:00:01")):
            battery.declare(*pair(name, f"{name}-peer", master_if_name="b", phys_address=address))
            await battery.applied(name, "b")
            assert battery.link("b").mac == mac
        battery.declared.remove("p")
        battery.declared.remove("p-peer")
        await battery.until(lambda: "p" not in {link.host_name for link in battery.kernel.links.values()})
        await battery.applied("b", "q")
        assert battery.link("b").mac == mac
        state = battery.state("b")
        assert state is not None
        assert state.repairs == 0


@pytest.mark.anyio
async def test_a_bridge_keeps_the_mtu_that_it_is_given(battery: Battery, kernel_kind: str) -> None:
    """Of cni 356, incus 491 and shakenfist 954: it follows a new port's."""
    needs(kernel_kind, "bridge")
    battery.declare(interface("b", Bridge(), mtu=9000), interface("c", Bridge()))
    battery.declare(
        *pair("p", "p-peer", master_if_name="b", mtu=1400), *pair("q", "q-peer", master_if_name="c", mtu=1400)
    )
    async with battery.run():
        await battery.applied("b", "p", "q", "c")
        await battery.until(lambda: battery.link("b").mtu == 9000 and battery.is_applied("b"))
        await battery.until(lambda: battery.link("c").mtu == 1400 and battery.is_applied("c"))
        battery.declare(*pair("r", "r-peer", master_if_name="b", mtu=1300))
        await battery.applied("r", "b")
        await battery.until(lambda: battery.link("b").mtu == 9000 and battery.is_applied("b"))


@pytest.mark.anyio
async def test_a_namespace_that_is_replaced_has_its_macvlan_again(battery: Battery, kernel_kind: str) -> None:
    """Of systemd 680: EADDRINUSE, as the namespace that just ended still has the same MAC."""
    needs(kernel_kind, "macvlan")
    if kernel_kind == "simulated":
        pytest.skip("a namespace that has ended has no MACs left there")
    battery.declare(*pair("l", "m"), interface("x", Macvlan(lower_if_name="l"), OTHER, ip_addresses=(ADDRESS,)))
    async with battery.run():
        await battery.applied("x")
        for _ in range(3):
            before = battery.link("x").id.namespace
            battery.external.remove_namespace("t")
            battery.external.add_namespace("t")
            await battery.until(lambda gone=before: battery.link("x").id.namespace != gone and battery.is_applied("x"))  # type: ignore[misc]
            assert battery.link("x").up


@pytest.mark.anyio
async def test_a_lower_link_is_told_from_one_of_the_same_ifindex_here(battery: Battery, kernel_kind: str) -> None:
    """Of keepalived 1216 and 1237: a link is taken for the one here that has its lower link's ifindex."""
    needs(kernel_kind, "macvlan")
    battery.declare(*pair("l", "m"))
    near, far = pair("here", "here-peer")
    battery.declare(replace(near, namespace=OTHER), replace(far, namespace=OTHER))
    battery.declare(interface("x", Macvlan(lower_if_name="l"), OTHER))
    async with battery.run():
        await battery.applied("l", "here", "x")
        lower, here = battery.link("l").id, battery.link("here").id
        assert {lower.ifindex, battery.link("m").id.ifindex} & {here.ifindex, battery.link("here-peer").id.ifindex}
        assert battery.link("x").lower == lower
        await battery.kernel.interfere(DeleteLink(battery.target("here")))
        await battery.applied("here", "here-peer")
        assert battery.link("x").lower == lower
        await battery.kernel.interfere(SetLink(target=battery.target("l"), mtu=1400))
        await battery.until(lambda: battery.link("l").mtu == 1500 and battery.is_applied("x"))


@pytest.mark.anyio
async def test_a_port_that_is_up_joins_a_bond(battery: Battery, kernel_kind: str) -> None:
    """Of systemd 5838: EPERM, and MACs that cannot be set while ports are up (25627)."""
    needs(kernel_kind, "bond", "dummy")
    battery.declare(interface("p", Dummy()), interface("x", Bond(mode="active_backup")))
    async with battery.run():
        await battery.applied("p", "x")
        assert battery.link("p").up
        battery.change("p", master_if_name="x")
        await battery.until(
            lambda: battery.link("p").master == battery.link("x").id.ifindex and battery.is_applied("p")
        )
        battery.change("x", phys_address="02:00:00:00:00:77")
        await battery.until(lambda: battery.link("p").mac == battery.link("x").mac == "02:00:00:00:00:77")
        await battery.applied("p", "x")
