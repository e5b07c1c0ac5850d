from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from world import veth

from ifagent.core.interface import Interface
from ifagent.core.policy import Policy
from ifagent.core.quota import Quota

NAMES = [f"n{number}" for number in range(8)]
CHANGES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "ns1", "ns2", "ns3", None]), st.booleans()), max_size=40
)


def declared(admission: Quota, name: str, space: str | None = "") -> set[str]:
    return set(admission.redeclare(name, None if space is None else veth(name, "peer", space)))


def nothing(name: str) -> bool:
    del name
    return False


def test_who_was_there_first_stays() -> None:
    admission = Quota(Policy(max_interfaces=2))
    for name in ("victim", "b", "0", "1"):
        declared(admission, name)
    assert admission.refused.keys() == {"0", "1"}
    assert "interface limit of 2 (--max-interfaces) exceeded" in admission.refused["0"].reason
    assert declared(admission, "b", None) == {"b", "0"}, "who has waited longest comes next"
    assert declared(admission, "victim", "ns1") == {"victim"}
    assert admission.refused.keys() == {"1"}


def test_a_flood_of_namespaces_refuses_itself() -> None:
    admission = Quota(Policy(max_namespaces=2))
    declared(admission, "z", "zzz")
    for number in range(10):
        declared(admission, f"a{number}", f"a{number}")
    assert "z" not in admission.refused
    assert admission.refused.keys() == {f"a{number}" for number in range(1, 10)}
    assert admission.refused["a1"].field == "namespace"
    assert declared(admission, "z2", "zzz") == {"z2"}
    assert "z2" not in admission.refused, "it asks for no further namespace"
    assert declared(admission, "a0", None) == {"a0", "a1"}


def test_one_that_has_its_link_is_let_in_for_the_last() -> None:
    admission = Quota(Policy(max_interfaces=2))
    for name in ("a", "b", "victim"):
        declared(admission, name)
    assert admission.prefer("victim", lambda name: name != "a").keys() == {"victim", "a"}
    assert admission.refused.keys() == {"a"}
    assert not admission.prefer("victim", nothing)
    assert not admission.prefer("nobody", nothing)
    assert not admission.prefer("a", lambda _: True)


@given(CHANGES, st.integers(1, 4), st.integers(1, 3))
def test_the_limits_hold_and_no_room_is_left_unused(
    changes: list[tuple[str, str | None, bool]], interfaces: int, namespaces: int
) -> None:
    admission = Quota(Policy(max_interfaces=interfaces, max_namespaces=namespaces))
    there: dict[str, Interface] = {}
    for name, space, prefers in changes:
        before = dict(admission.refused)
        if prefers:
            changed = set(admission.prefer(name, nothing))
        else:
            changed = declared(admission, name, space)
            there.pop(name, None)
            if space is not None:
                there[name] = veth(name, "peer", space)
        check(admission, there, interfaces, namespaces)
        others = {n for n in there if (n in before) != (n in admission.refused)} - {name}
        assert others <= changed


def check(admission: Quota, there: Mapping[str, Interface], interfaces: int, namespaces: int) -> None:
    admitted = {name: interface.namespace for name, interface in there.items() if name not in admission.refused}
    references = set(admitted.values())
    assert admission.refused.keys() <= there.keys()
    assert len(admitted) <= interfaces
    assert len(references) <= namespaces
    for name in admission.refused:
        full = len(admitted) == interfaces
        no_reference = there[name].namespace not in references and len(references) == namespaces
        assert full or no_reference
