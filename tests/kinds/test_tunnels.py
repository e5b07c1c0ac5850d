"""Tunnels: what goes with which mode, and what is changed without a packet lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kind_battery import Battery, battery_on, interface, needs, pair
from pydantic import ValidationError

from ifagent import ConfigState
from ifagent.core.kinds import Bridge, Tunnel
from ifagent.core.namespace_ref import named
from ifagent.core.operations import DeleteLink

pytest_plugins = ["kernel_fixtures"]

GRE = Tunnel(mode="gre", local="192.0.2.1", remote="192.0.2.2", input_key=5, output_key=6, ttl=9)


@pytest.fixture
async def battery(kernel_kind: str, tmp_path: Path) -> AsyncIterator[Battery]:
    async with battery_on(kernel_kind, tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("fields", "common", "wrong", "rule"),
    [
        ({"mode": "sit", "remote": "192.0.2.1", "input_key": 5}, {}, "tunnel.input_key", "mode sit has no input_key"),
        ({"mode": "ip6tnl", "remote": "2001:db8::1", "ttl": 5}, {}, "tunnel.ttl", "mode ip6tnl has no ttl"),
        ({"mode": "gre", "remote": "192.0.2.1", "protocol": "ipip6"}, {}, "tunnel.protocol", "has no protocol"),
        ({"mode": "gre", "remote": "2001:db8::1"}, {}, "tunnel.remote", "no IPv4 address"),
        ({"mode": "ip6gre", "local": "192.0.2.1"}, {}, "tunnel.local", "no IPv6 address"),
        ({"mode": "gre"}, {}, "tunnel.remote", "is required, or local"),
        ({"mode": "gre", "remote": "192.0.2.1", "ttl": 3, "pmtudisc": False}, {}, "tunnel.pmtudisc", "ttl is 3"),
        ({"mode": "gre", "remote": "192.0.2.1"}, {"phys_address": "02:00:00:00:00:01"}, "phys_address", "no MAC"),
        (
            {"mode": "gre", "remote": "192.0.2.1"},
            {"host_if_name": "gre0"},
            "host_if_name",
            "the kernel makes",
        ),
        ({"mode": "gre", "remote": "192.0.2.1", "lower_if_name": "x"}, {}, "tunnel.lower_if_name", "sit on itself"),
    ],
)
def test_what_does_not_go_together_is_said(fields: Any, common: Any, wrong: str, rule: str) -> None:
    with pytest.raises(ValidationError) as refused:
        interface("x", Tunnel(**fields), **common)
    (error,) = refused.value.errors()
    assert wrong in {*error["loc"], error.get("ctx", {}).get("ifagent_field")}
    assert rule in error["msg"]


@pytest.mark.anyio
async def test_by_which_link_it_sends_is_changed_in_place(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "gre")
    battery.declare(*pair("l", "l-peer"), *pair("m", "m-peer"))
    battery.declare(interface("x", Tunnel(mode="gre", remote="192.0.2.2", output_key=6, lower_if_name="l"), mtu=1300))
    async with battery.run():
        await battery.applied("x", "l", "m")
        before = battery.link("x")
        assert before.lower == battery.link("l").id
        battery.change_kind("x", lower_if_name="m")
        await battery.until(lambda: battery.link("x").lower == battery.link("m").id and battery.is_applied("x"))
        battery.change_kind("x", lower_if_name="")
        await battery.until(lambda: battery.link("x").lower is None and battery.is_applied("x"))
        link = battery.link("x")
        assert (link.id, link.mtu, dict(link.data)["output_key"]) == (before.id, 1300, 6)
        battery.change_kind("x", lower_if_name="m")
        await battery.until(lambda: battery.link("x").lower == battery.link("m").id and battery.is_applied("x"))
        assert battery.link("x").id == before.id
        lower = battery.link("m").id
        await battery.kernel.interfere(DeleteLink(battery.target("m")))
        await battery.until(lambda: battery.link("x").lower == battery.link("m").id != lower)
        await battery.applied("x", "m")
    async with battery.run():
        await battery.applied("x", "l", "m")
        assert battery.kernel.asked == []


@pytest.mark.anyio
async def test_one_that_is_to_be_elsewhere_is_made_anew_there(battery: Battery, kernel_kind: str) -> None:
    """Moved, it would go on sending in the namespace in which it was made."""
    needs(kernel_kind, "gre")
    battery.declare(interface("x", GRE))
    async with battery.run():
        await battery.applied("x")
        before = battery.link("x").id.namespace
        battery.change("x", namespace=named("t"))
        await battery.until(lambda: battery.link("x").id.namespace != before and battery.is_applied("x"))
        assert battery.link("x").lower is None
        assert {"CreateLink"} <= {type(operation).__name__ for operation in battery.kernel.asked}
        assert "MoveLink" not in {type(operation).__name__ for operation in battery.kernel.asked}


@pytest.mark.anyio
async def test_its_lower_link_may_be_in_another_namespace(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "gre")
    battery.declare(*pair("l", "m"))
    battery.declare(interface("x", Tunnel(mode="gre", remote="192.0.2.2", lower_if_name="l"), named("t")))
    async with battery.run():
        await battery.applied("x", "l")
        link = battery.link("x")
        assert link.lower == battery.link("l").id
        assert link.id.namespace != battery.link("l").id.namespace
    async with battery.run():
        await battery.applied("x", "l")
        assert battery.kernel.asked == []


@pytest.mark.anyio
async def test_one_that_carries_no_frames_is_no_port_of_a_bridge(battery: Battery, kernel_kind: str) -> None:
    needs(kernel_kind, "gretap", "bridge")
    battery.declare(interface("b", Bridge()), interface("x", GRE, master_if_name="b"))
    battery.declare(interface("y", Tunnel(mode="gretap", remote="192.0.2.9"), master_if_name="b"))
    async with battery.run():
        await battery.says("x", ConfigState.INVALID, "a gre link carries no Ethernet frames")
        await battery.applied("y")
        assert battery.link("y").master == battery.link("b").id.ifindex
