from __future__ import annotations

from keyed import keyed, keys_of
from world import OWNER, veth

from ifagent.core.events import Declaration, NamespaceBehind, SourceHealth, SourceSnapshot
from ifagent.core.index import Index
from ifagent.core.link import NsId


def say(source: str, *, mtu: int, names: tuple[str, str] = ("a", "b")) -> SourceSnapshot:
    first, second = names
    interfaces = [veth(first, second, mtu=mtu), veth(second, first, mtu=mtu)]
    return SourceSnapshot(source, keyed({i.name: Declaration.of(i) for i in interfaces}))


def mtus(index: Index) -> dict[str, int]:
    return {name: interface.mtu for name, interface in index.desired().interfaces.items()}


def test_a_later_source_does_not_count_before_an_earlier_one_has_been_heard() -> None:
    index = Index(NsId(1), ["first", "second"], OWNER)
    index.fold(say("second", mtu=1400))
    assert mtus(index) == {}
    assert not index.desired().complete
    index.fold(say("first", mtu=1300, names=("b", "c")))
    assert mtus(index) == {"a": 1400, "b": 1300, "c": 1300}
    assert index.desired().complete


def test_nobody_waits_for_a_source_in_trouble() -> None:
    index = Index(NsId(1), ["first", "second"], OWNER)
    index.fold(say("second", mtu=1400))
    index.fold(SourceHealth("first", "connection refused"))
    assert mtus(index) == {"a": 1400, "b": 1400}
    assert not index.desired().complete
    index.take_changed()
    index.fold(SourceHealth("first"))
    assert mtus(index) == {"a": 1400, "b": 1400}
    assert not index.take_changed()
    index.fold(say("first", mtu=1300))
    assert mtus(index) == {"a": 1300, "b": 1300}
    assert index.take_changed() == keys_of({"a", "b"})


def test_a_source_that_was_heard_once_keeps_its_last_say() -> None:
    index = Index(NsId(1), ["first", "second"], OWNER)
    index.fold(say("first", mtu=1300))
    index.fold(say("second", mtu=1400, names=("c", "d")))
    index.fold(SourceHealth("first", "connection refused"))
    assert mtus(index) == {"a": 1300, "b": 1300, "c": 1400, "d": 1400}


def test_which_namespaces_are_behind_is_what_was_said_last() -> None:
    index = Index(NsId(1), [], OWNER)
    index.fold(NamespaceBehind(NsId(2), behind=True))
    index.fold(NamespaceBehind(NsId(3), behind=True))
    index.fold(NamespaceBehind(NsId(2), behind=False))
    assert index.behind == {NsId(3)}
