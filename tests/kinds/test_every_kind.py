"""Every kind of link has what it needs in every layer, and formats have nothing of a kind that there is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pkgutil import iter_modules
from typing import Any, get_args

import pytest
from kernel_rig import GROUP, Rig
from linux import can_make

from ifagent.core import kinds
from ifagent.core.interface import Interface
from ifagent.core.kind_modules import find_by_kind
from ifagent.core.kinds import type_of
from ifagent.core.kinds.contract import LinkKind, Need, Origin
from ifagent.core.names import HostName
from ifagent.core.operation import Operation
from ifagent.core.operations import CreateLink, LinkEnd
from ifagent.formats import kinds as formats_kinds
from ifagent.formats import ligato_v1, ligato_v3
from ifagent.formats.enums import KIND_NUMBERS, LINK_NUMBERS
from ifagent.formats.kinds import FORMS, form_of
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.kinds.contract import LinkDriver

pytest_plugins = ["kernel_fixtures"]

KINDS: Sequence[type[Any]] = get_args(kinds.Kind)
MODES = {"bond": "balance_rr", "tunnel": "gre"}
REQUIRED: dict[str, object] = {
    "peer_if_name": "b",
    "lower_if_name": "l",
    "id": 7,
    "routing_table": 7,
    "vni": 5,
    "remote": "192.0.2.1",
}


def example(kind: type[Any]) -> LinkKind:
    """Return one with as little as has to be said."""
    given = {"mode": MODES.get(type_of(kind)), **REQUIRED}
    wanted = [field.name for field in fields(kind) if field.default is MISSING]
    more = {"remote": REQUIRED["remote"]} if kind is kinds.Tunnel else {}
    made: LinkKind = kind(**{name: given[name] for name in wanted}, **more)
    return made


EXAMPLES: Sequence[LinkKind] = [example(kind) for kind in KINDS]

MADE = [kind for kind in EXAMPLES if kind.origin is Origin.CREATED]


def test_every_module_has_a_kind_that_can_be_declared() -> None:
    modules = {name for _, name, _ in iter_modules(kinds.__path__) if name != "contract"}
    assert {kind.__module__ for kind in KINDS} == {f"{kinds.__name__}.{name}" for name in modules}
    assert {kind.__name__ for kind in KINDS} <= set(kinds.__all__)
    assert len({kind.type for kind in EXAMPLES}) == len(KINDS)


def test_every_kind_has_its_number_in_every_family() -> None:
    words = {kind.type for kind in EXAMPLES}
    assert KIND_NUMBERS.keys() == LINK_NUMBERS.keys() == words
    assert FORMS.keys() <= words


@pytest.mark.parametrize("family", [ligato_v1, ligato_v3], ids=["v1", "v3"])
@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.type)
def test_what_only_it_has_is_written_and_read(kind: Any, family: Any) -> None:
    if {field.name for field in fields(kind)} > {"type"}:
        assert form_of(kind.type).v1_field, "it has fields that v1 has no place for"
        assert form_of(kind.type).v3_field, "it has fields that v3 has no place for"
    interface = Interface(name="a", kind=kind)
    assert family.decode(family.encode(interface), name="a").interface == interface


@pytest.mark.anyio
@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.type)
async def test_one_request_makes_it_on_every_kernel(kind: LinkKind, rig: Rig, kernel_kind: str) -> None:
    if kernel_kind == "linux" and not can_make(kind.kernel_kind):
        pytest.skip(f"this kernel makes no {kind.kernel_kind} links")
    await rig.add_namespaces("n")
    names, lower = ["a"], None
    for reference in kind.references():
        if reference.need is Need.PEER:
            names.append(reference.to)
        else:
            await rig.do(*pair("l", "m", rig))
            lower = rig.link("n", "l").id
    smallest = kind.mtus.start
    ends = tuple(LinkEnd(rig.id("n"), HostName(name), "", smallest) for name in names)
    assert await rig.do(CreateLink(kind.kernel_kind, ends, GROUP, kind.data(), lower)) == 0
    links = [rig.link("n", name) for name in names]
    assert {(link.kind, link.mtu, link.group, link.lower) for link in links} == {
        (kind.kernel_kind, smallest, GROUP, lower)
    }
    assert all(link.min_mtu <= smallest for link in links)
    assert all(not link.max_mtu or kind.mtus.start <= link.max_mtu for link in links)
    assert all(set(kind.data(link)) <= set(link.data) for link in links)
    assert all(set(kind.data()) <= set(link.data) for link in links), "what was asked for is told"
    assert all(bool(link.data) == bool(kind.settings) for link in links)
    paired = driver_of(kind.kernel_kind).paired
    assert [link.peer for link in links] == ([link.id for link in reversed(links)] if paired else [None])


def pair(near: str, far: str, rig: Rig) -> list[Operation]:
    """Return what makes a veth pair."""
    ends = tuple(LinkEnd(rig.id("n"), HostName(name), "", 1500) for name in (near, far))
    return [CreateLink("veth", ends, GROUP)]


def test_a_module_without_what_it_is_for_is_refused() -> None:
    with pytest.raises(TypeError, match=r"formats\.kinds\.bond has no DRIVER of type LinkDriver"):
        find_by_kind(formats_kinds.__name__, "DRIVER", LinkDriver)
