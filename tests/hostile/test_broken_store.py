"""Answers of any shape are a trouble of the store: told, tried again ever more slowly, and over when it is well."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from aetcd import rpc
from agent_view import FakeAgent
from etcd_edge import state, veth
from etcd_server import EtcdServer, until
from spoiled_store import ManyAnswers, OneAnswer, SpoiledStore, spoiled

from ifagent.core.events import Declared, Event, SourceHealth, SourceSnapshot
from ifagent.core.resources import by_name
from ifagent.formats.keys import config_prefix_v3, lock_key
from ifagent.stores.etcd.limits import Limits
from ifagent.stores.etcd.lock import Holder
from ifagent.stores.etcd.outlet import EtcdOutlet
from ifagent.stores.etcd.source import EtcdSource
from ifagent.stores.etcd.store import EtcdStore

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.timeout(60)]

LABEL = "broken"
KEY = config_prefix_v3(LABEL)
ATTEMPTS = 100
"""Most requests in a second and a half: the waits between attempts grow, and a loop that spins makes thousands."""


GIANT = 5 << 20
"""Bytes of an answer that is too large: what is made in this process had better not be 64 MiB."""

LIMITS = Limits(max_answer_bytes=GIANT // 2, max_keys=200)


@pytest.fixture
async def store(etcd: EtcdServer) -> AsyncIterator[SpoiledStore]:
    async with spoiled(etcd.address) as one:
        one.address = replace(one.address, limits=LIMITS)
        yield one


def header(revision: int = 1000) -> Any:
    return rpc.ResponseHeader(cluster_id=1, member_id=1, revision=revision, raft_term=2)


def pair(key: bytes, value: bytes = b"{", revision: int = 900) -> Any:
    return rpc.KeyValue(key=key, value=value, mod_revision=revision, create_revision=1, version=1)


def listing(*pairs: Any, more: bool = False, revision: int = 1000) -> OneAnswer:
    return lambda _: rpc.RangeResponse(header=header(revision), kvs=pairs, more=more, count=len(pairs))


def change(key: bytes, revision: int, value: bytes = b"{", *, type: int = 0) -> Any:  # noqa: A002 as in etcd
    return rpc.Event(type=type, kv=pair(key, value, revision))


def _endless_pages(request: Any) -> Any:
    """Tell of as many keys as are asked for, and of more."""
    kvs = [pair(request.key + b"%04d" % number) for number in range(request.limit or 1)]
    return rpc.RangeResponse(header=header(), kvs=kvs, more=True)


def watch(*answers: Any, endless: bool = False, accept: bool = True) -> ManyAnswers:
    """Accept a watch and send these answers, again and again if that is asked for."""

    async def play(_: Any) -> AsyncIterator[Any]:
        if accept:
            yield rpc.WatchResponse(header=header(), created=True)
        for answer in answers:
            yield answer
        while endless:
            for answer in answers:
                yield answer
            await asyncio.sleep(0)
        await asyncio.sleep(3600)

    return play


def _rising(make: Callable[[int], Any]) -> ManyAnswers:
    async def play(_: Any) -> AsyncIterator[Any]:
        yield rpc.WatchResponse(header=header(), created=True)
        for number in range(1_000_000_000):
            yield make(number)
            await asyncio.sleep(0)

    return play


async def _never(_: Any) -> Any:
    await asyncio.sleep(3600)


HIGHEST = 2**63 - 1
WELL = listing()

LISTINGS: dict[str, OneAnswer] = {
    "nothing, and more of it": listing(more=True),
    "one key again and again": listing(pair(KEY + b"a"), more=True),
    "keys before the range": listing(pair(b"\0"), more=True),
    "keys after the range": listing(pair(b"\xff\xfe\0")),
    "no key": listing(pair(b"")),
    "keys that go backwards": listing(pair(KEY + b"b"), pair(KEY + b"a")),
    "one key twice": listing(pair(KEY + b"a"), pair(KEY + b"a")),
    "more keys than asked for": listing(*(pair(KEY + b"%05d" % number) for number in range(2000))),
    "no header": lambda _: rpc.RangeResponse(),
    "a negative revision": listing(revision=-5),
    "the highest revision": listing(revision=HIGHEST),
    "no answer that can be decoded": lambda _: b"\xff\xff\xff\xff",
    "an answer of another kind": lambda _: rpc.AuthenticateResponse(header=header(), token="x" * 100),
    "a giant": listing(pair(KEY + b"g", bytes(GIANT))),
    "pages without end": _endless_pages,
    "small pages without end": lambda request: rpc.RangeResponse(
        header=header(), kvs=[pair(request.key + b"0")], more=True
    ),
    "silence": _never,
}

WATCHES: dict[str, ManyAnswers] = {
    "refused, for compacted": watch(
        rpc.WatchResponse(header=header(), canceled=True, compact_revision=5, cancel_reason="x" * 100_000), accept=False
    ),
    "compacted at once": watch(rpc.WatchResponse(header=header(), canceled=True, compact_revision=5)),
    "signs of life without end": watch(rpc.WatchResponse(header=header()), endless=True),
    "accepted without end": watch(rpc.WatchResponse(header=header(), created=True), endless=True),
    "empty fragments without end": watch(rpc.WatchResponse(header=header(), fragment=True), endless=True),
    "events before it is accepted": watch(
        rpc.WatchResponse(header=header(), events=[change(KEY + b"a", 2000)]), accept=False, endless=True
    ),
    "revisions that go backwards": _rising(
        lambda n: rpc.WatchResponse(header=header(), events=[change(KEY + b"b", 100_000 - n)])
    ),
    "one revision again and again": watch(
        rpc.WatchResponse(header=header(), events=[change(KEY + b"a", 2000)]), endless=True
    ),
    "an old revision": watch(rpc.WatchResponse(header=header(), events=[change(KEY + b"a", 7)])),
    "a negative revision": watch(rpc.WatchResponse(header=header(), events=[change(KEY + b"a", -(2**63))])),
    "the highest revision": watch(rpc.WatchResponse(header=header(), events=[change(KEY + b"a", HIGHEST)])),
    "keys that nobody asked for": watch(rpc.WatchResponse(header=header(), events=[change(b"\xff" * 5000, 2000)])),
    "no key": watch(rpc.WatchResponse(header=header(), events=[rpc.Event(type=1), rpc.Event()])),
    "no answer that can be decoded": watch(b"\xff\xff\xff\xff"),
    "a giant": watch(rpc.WatchResponse(header=header(), events=[change(KEY + b"g", 2000, bytes(GIANT))])),
}

TRANSACTIONS: dict[str, dict[str, OneAnswer | ManyAnswers]] = {
    "fails at once": {"Txn": lambda _: rpc.TxnResponse(header=header(), succeeded=False)},
    "succeeds without responses": {"Txn": lambda _: rpc.TxnResponse(header=header(), succeeded=True)},
    "too many responses": {
        "Txn": lambda _: rpc.TxnResponse(header=header(), succeeded=True, responses=[rpc.ResponseOp()] * 1000)
    },
    "no header": {"Txn": lambda _: rpc.TxnResponse(succeeded=True, responses=[rpc.ResponseOp()])},
    "no answer that can be decoded": {"Txn": lambda _: b"\xff\xff\xff"},
    "a lock of somebody else's that is another one each time": {"Txn": lambda _: _somebody_else()},
    "leases without a number": {"LeaseGrant": lambda _: rpc.LeaseGrantResponse(header=header())},
    "leases that are over": {
        "LeaseKeepAlive": watch(rpc.LeaseKeepAliveResponse(header=header(), TTL=-1), accept=False, endless=True)
    },
    "several values of one key": {"Range": listing(pair(lock_key(LABEL)), pair(lock_key(LABEL)))},
}

_numbers = iter(range(10_000, 1_000_000_000))


def _somebody_else() -> Any:
    """Answer that the label is held by a process of this machine that is dead, with a new revision each time."""
    here = Holder.here()
    dead = Holder(host=here.host, pid=2**22 + 1, started=5, boot=here.boot, space=here.space)
    there = rpc.KeyValue(key=lock_key(LABEL), value=dead.encode(), mod_revision=next(_numbers), lease=7)
    found = rpc.ResponseOp(response_range=rpc.RangeResponse(header=header(), kvs=[there]))
    return rpc.TxnResponse(header=header(), succeeded=False, responses=[found])


class Heard:
    """What a source has emitted, put together."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.problem = ""
        self.was_in_trouble = False

    def emit(self, event: Event) -> None:
        match event:
            case SourceSnapshot():
                self.names = set(by_name(event.declarations))
            case Declared():
                (self.names.add if event.declaration else self.names.discard)(event.key.name)
            case SourceHealth():
                self.problem = event.problem
                self.was_in_trouble |= bool(event.problem)


async def bears(store: SpoiledStore) -> None:
    """Check that what is played costs little: few requests, little memory, and the loop goes on."""
    calls, memory = store.calls.total(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worst, end = 0.0, time.monotonic() + 1.5
    while (now := time.monotonic()) < end:
        await anyio.sleep(0.01)
        worst = max(worst, time.monotonic() - now - 0.01)
    assert store.calls.total() - calls < ATTEMPTS
    assert worst < 3, "the loop was held up"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 400 << 10, "KiB"


async def source_bears(
    etcd: EtcdServer, store: SpoiledStore, played: dict[str, OneAnswer | ManyAnswers], *, quiet: bool = False
) -> None:
    heard = Heard()
    store.played = played
    async with EtcdStore(etcd.address, LABEL) as declared, anyio.create_task_group() as tg:
        await declared.delete(await declared.declarations())
        tg.start_soon(EtcdSource(store.address, LABEL).run, heard.emit)
        await bears(store)
        if not quiet:
            await until(lambda: heard.was_in_trouble)
        store.be_well()
        await declared.put([veth("a")])
        await until(lambda: heard.names == {"a"}, within=20)
        await declared.put([veth("b")])
        await until(lambda: heard.names == {"a", "b"})
        await until(lambda: not heard.problem)
        tg.cancel_scope.cancel()


@pytest.mark.parametrize("answer", LISTINGS.values(), ids=LISTINGS)
async def test_listings(etcd: EtcdServer, store: SpoiledStore, answer: OneAnswer) -> None:
    await source_bears(etcd, store, {"Range": answer}, quiet=answer is _never)


@pytest.mark.parametrize("answers", WATCHES.values(), ids=WATCHES)
async def test_watches(etcd: EtcdServer, store: SpoiledStore, answers: ManyAnswers) -> None:
    await source_bears(etcd, store, {"Range": WELL, "Watch": answers})


async def test_changes_without_end_leave_the_loop_to_others(etcd: EtcdServer, store: SpoiledStore) -> None:
    def make(number: int) -> Any:
        events = [change(KEY + b"e%d" % (number % 100), 2000 + number) for _ in range(20)]
        return rpc.WatchResponse(header=header(), events=events)

    await source_bears(etcd, store, {"Range": WELL, "Watch": _rising(make)}, quiet=True)


@pytest.mark.parametrize("played", TRANSACTIONS.values(), ids=TRANSACTIONS)
async def test_transactions(etcd: EtcdServer, store: SpoiledStore, played: dict[str, OneAnswer | ManyAnswers]) -> None:
    status = EtcdOutlet(store.address, LABEL, ttl=2)
    store.played = played
    async with EtcdStore(etcd.address, LABEL) as published, anyio.create_task_group() as tg:
        tg.start_soon(status.run, FakeAgent(state("one")))
        await bears(store)
        store.be_well()
        with anyio.move_on_after(20):
            while set(await published.states()) != {"one"}:
                await anyio.sleep(0.05)
        assert set(await published.states()) == {"one"}
        tg.cancel_scope.cancel()
