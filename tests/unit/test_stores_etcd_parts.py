from __future__ import annotations

import json

import pytest
from aetcd import rpc

from ifagent.errors import InvalidInterface, InvalidSettings
from ifagent.formats import ligato_v1
from ifagent.formats.health import OperationalState, encode_health
from ifagent.formats.keys import config_prefix, config_prefix_v3, key_of, name_of, status_prefix
from ifagent.stores.etcd.address import Endpoint, EtcdAddress
from ifagent.stores.etcd.answers import AT_ONCE, Changes, read_changes
from ifagent.stores.etcd.backoff import Backoff
from ifagent.stores.etcd.client import MAX_TXN_BYTES, MAX_TXN_OPS, chunks, prefix_end
from ifagent.stores.etcd.lock import Holder


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("etcd://127.0.0.1:2379", ["ipv4:127.0.0.1:2379"]),
        ("etcd://127.0.0.1", ["ipv4:127.0.0.1:2379"]),
        ("etcd://localhost:1/", ["dns:///localhost:1"]),
        ("etcd://[::1]:2380", ["ipv6:[::1]:2380"]),
        ("etcd://[2001:DB8::1]", ["ipv6:[2001:db8::1]:2379"]),
        ("etcd://a.example:1, b-2.example:2,[::1]:3", ["dns:///a.example:1", "dns:///b-2.example:2", "ipv6:[::1]:3"]),
        ("etcd://a:1,a:1", ["dns:///a:1"]),
    ],
)
def test_addresses_that_can_be_read(text: str, targets: list[str]) -> None:
    address = EtcdAddress.parse(text)
    assert [endpoint.target for endpoint in address.endpoints] == targets
    assert EtcdAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "etcd://", "http://a:1", "a:1", "etcd://a:0", "etcd://a:65536", "etcd://a:x", "etcd://a:", "etcd://a:1,"),
        *("etcd://::1", "etcd://[::1", "etcd://[::1]:", "etcd://[::1]x", "etcd://[fe80::1%eth0]:1", "etcd://[a]:1"),
        *("etcd://a b:1", "etcd://a/b", "etcd://-a:1", "etcd://a:" + "9" * 5000, "etcd://a:\u0661"),
    ],
)
def test_addresses_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidSettings):
        EtcdAddress.parse(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidSettings) as caught:
        EtcdAddress.parse("etcd://root:geheim@127.0.0.1:2379")
    assert "geheim" not in str(caught.value)


def test_an_endpoint_reads_as_people_write_it() -> None:
    assert str(Endpoint("::1", 1)) == "[::1]:1"
    assert str(Endpoint("a")) == "a:2379"


def test_keys_are_laid_out_as_ligato_does() -> None:
    prefix = config_prefix("my-agent")
    assert key_of(prefix, "veth1") == b"/vnf-agent/my-agent/linux/config/v1/interface/veth1"
    assert config_prefix_v3("my-agent") == b"/vnf-agent/my-agent/config/linux/interfaces/v2/interface/"
    assert key_of(status_prefix("a"), "é") == "/vnf-agent/a/linux/status/v1/interface/é".encode()
    assert name_of(prefix, key_of(prefix, "a/b é")) == "a/b é"
    assert name_of(prefix, prefix) == ""
    assert name_of(prefix, prefix + b"x\xff") == "x\\xff"


def test_a_name_that_is_too_long_is_cut_and_stays_distinct() -> None:
    prefix = config_prefix("my-agent")
    names = [
        name_of(prefix, prefix + tail) for tail in (b"x" * 1_000_000 + b"1", b"x" * 1_000_000 + b"2", b"\xff" * 999)
    ]
    assert len(set(names)) == 3
    assert all(len(name.encode()) < 1000 for name in names)
    # It cannot be that of an interface.
    with pytest.raises(InvalidInterface):
        ligato_v1.decode(b'{"name":"%s","type":1}' % names[0].encode(), name=names[0])
    assert name_of(prefix, prefix + b"x" * 128) == "x" * 128


def test_the_key_of_a_name_that_is_no_text_can_be_written() -> None:
    assert key_of(b"/", "x\udcff") == b"/x\\udcff"


def test_health_can_be_written_whatever_a_path_is_called() -> None:
    health = encode_health(
        state=OperationalState.ERROR, start_time=1, last_change=1, last_update=1, problems=["/etc/\udcff: is broken"]
    )
    assert json.loads(health)["problems"] == ["/etc/\udcff: is broken"]


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"7", b"[]", b"null", b"\xff", b'"host"', b"[" * 100_000, b'{"pid":1e400}', b'{"pid":' + b"9" * 5000),
        *(b'{"pid":true}', b'{"pid":-1}', b'{"pid":"7"}', b'{"host":7}', b'{"host":"\\ud800"}', b'{"host":"a\\nb"}'),
        b'{"host":"' + b"x" * 1_000_000 + b'"}',
    ],
)
def test_a_holder_that_is_none_is_unknown_and_not_dead(value: bytes) -> None:
    holder = Holder.decode(value)
    assert str(holder) == "unknown process"
    assert not holder.is_dead(Holder.here())


@pytest.mark.parametrize("label", ["", "a/b", "a\n", "/"])
def test_a_label_that_breaks_the_layout_is_refused(label: str) -> None:
    with pytest.raises(InvalidSettings):
        config_prefix(label)


def test_a_prefix_ends_where_the_next_one_begins() -> None:
    assert prefix_end(b"/a/") == b"/a0"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") == b"\0"


def test_operations_are_cut_at_both_limits() -> None:
    many = [(b"%d" % number, b"") for number in range(2 * MAX_TXN_OPS + 1)]
    assert [len(chunk) for chunk in chunks(iter(many))] == [MAX_TXN_OPS, MAX_TXN_OPS, 1]
    big = [(b"%d" % number, bytes(MAX_TXN_BYTES // 2)) for number in range(3)]
    assert [len(chunk) for chunk in chunks(iter(big))] == [1, 1, 1]
    assert [len(chunk) for chunk in chunks(iter([(b"k", bytes(2 * MAX_TXN_BYTES))]))] == [1]
    assert list(chunks(iter([]))) == []


def test_waits_double_up_to_a_limit_and_start_over() -> None:
    backoff = Backoff(3.0)
    waits = [backoff.next() for _ in range(12)]
    for number, wait in enumerate(waits):
        longest = min(0.05 * 2**number, 3.0)
        assert longest / 2 <= wait <= longest
    backoff.reset()
    assert backoff.next() <= 0.05


def _event(key: bytes, revision: int, *, deleted: bool = False) -> object:
    kind = rpc.Event.DELETE if deleted else rpc.Event.PUT
    return rpc.Event(type=kind, kv=rpc.KeyValue(key=key, value=b"" if deleted else b"v", mod_revision=revision))


def test_events_of_one_revision_are_one_change() -> None:
    events = [_event(b"a", 7), _event(b"b", 7, deleted=True), _event(b"a", 9)]
    seven, nine = read_changes(rpc.WatchResponse(events=events), b"a", b"z", after=6)
    assert isinstance(seven, Changes)
    assert (seven.revision, nine.revision) == (7, 9)
    (key, value), gone = seven.changes
    assert (key, value and value.data, value and value.revision) == (b"a", b"v", 7)
    assert gone == (b"b", None)


@pytest.mark.parametrize(
    ("count", "parts"),
    [(AT_ONCE, [AT_ONCE]), (2 * AT_ONCE, [AT_ONCE, AT_ONCE]), (2 * AT_ONCE + 1, [AT_ONCE, AT_ONCE, 1])],
)
def test_very_many_events_of_one_revision_are_read_in_parts(count: int, parts: list[int]) -> None:
    events = [_event(b"%d" % number, 7, deleted=True) for number in range(count)]
    found = list(read_changes(rpc.WatchResponse(events=events), b"", b"z", after=6))
    assert [len(changes.changes) for changes in found] == parts
    assert [changes.is_part for changes in found] == [len(parts) > 1] * len(parts)
    assert [changes.more for changes in found] == [True] * (len(parts) - 1) + [False]
    assert [key for changes in found for key, _ in changes.changes] == [b"%d" % number for number in range(count)]
