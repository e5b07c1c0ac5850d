"""One agent per label: the lock, who gets it and when, and that nobody else writes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from agent_view import FakeAgent
from anyio import to_thread
from etcd_edge import Attempts, said, state, until_there
from etcd_server import EtcdServer, proxy_to, until
from spawned import SLEEP, Spawned

from ifagent.core.names import Name
from ifagent.core.state import InterfaceState
from ifagent.errors import InvalidSettings, LabelTaken
from ifagent.formats.keys import lock_key
from ifagent.stores.etcd.address import EtcdAddress
from ifagent.stores.etcd.client import EtcdClient, LockLost
from ifagent.stores.etcd.errors import EtcdError
from ifagent.stores.etcd.lock import Holder, LabelLock, Timings
from ifagent.stores.etcd.outlet import EtcdOutlet
from ifagent.stores.etcd.store import EtcdStore

pytest_plugins = ["etcd_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

HERE = Holder.here()
ONE, TWO = (Holder(host=host, pid=7, started=1, boot=host, space=1) for host in ("one", "two"))


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ifagent")


SLOW, LIVELY = Timings(), Timings(heartbeat=1.0, takeover_grace=1.0)
"""Of agents as they are, and of those that show more often that they live."""


class Agent:
    """Something that wants a label, and publishes one state named after itself."""

    def __init__(
        self, address: EtcdAddress, label: str, holder: Holder, *, ttl: float = 2, timings: Timings = SLOW
    ) -> None:
        self.holder = holder
        self.ready = False
        self.ended: BaseException | None = None
        self._view = FakeAgent(state(holder.host))
        self._status = EtcdOutlet(address, label, holder=holder, ttl=ttl, timings=timings)
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            try:
                async with anyio.create_task_group() as tg:
                    await tg.start(self._status.run, self._view)
                    self.ready = True
            except ExceptionGroup as group:
                [self.ended] = group.exceptions

    def stop(self) -> None:
        self._scope.cancel()


@asynccontextmanager
async def agents(*starting: Agent) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tg:
        for agent in starting:
            tg.start_soon(agent.run)
            await anyio.sleep(0)
        yield
        tg.cancel_scope.cancel()


async def published(store: EtcdStore, *names: str) -> None:
    states: dict[Name, InterfaceState] | None = None
    with anyio.move_on_after(15):
        while (states := await store.states()).keys() != set(names):
            await anyio.sleep(0.01)
    assert states is not None
    assert states.keys() == set(names)


# Who it is


def test_a_holder_is_told_in_json_and_read_back() -> None:
    assert Holder.decode(HERE.encode()) == HERE
    told = json.loads(HERE.encode())
    assert (told["host"], told["pid"]) == (os.uname().nodename, os.getpid())
    assert str(ONE) == "process 7 on one"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"7", b'{"pid": {}}', b'{"pid": 1e999}', b"\xff", b"[" * 10**6]
)
def test_what_is_no_holder_is_somebody_unknown(data: bytes) -> None:
    assert str(Holder.decode(data)) == "unknown process"
    assert not Holder.decode(data).is_dead(HERE)


def test_a_process_of_this_machine_can_be_seen_to_be_dead() -> None:
    with Spawned(*SLEEP) as process:
        holder = Holder.of(process.pid)
        assert holder.started > 0
        assert not holder.is_dead(HERE)
        assert replace(holder, started=holder.started - 1).is_dead(HERE), "its id was given to another process"
        process.kill()
        assert holder.is_dead(HERE), "a zombie has ended"
    assert holder.is_dead(HERE)
    for elsewhere in (replace(holder, boot="another"), replace(holder, space=1)):
        assert not elsewhere.is_dead(HERE)
    assert not HERE.is_dead(HERE)


# Who has it


async def test_the_second_waits_says_who_has_it_and_takes_over_at_once(
    etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Agent(etcd.address, label, ONE), Agent(etcd.address, label, TWO)
    async with EtcdStore(etcd.address, label) as store, agents(first):
        await published(store, "one")
        async with agents(second):
            await until(lambda: said(caplog, "another agent holds the label, waiting"))
            assert 'holder="process 7 on one"' in caplog.text
            assert not second.ready
            key = lock_key(label).decode()
            assert json.loads(etcd.ctl("get", key, "--print-value-only"))["host"] == "one"
            first.stop()
            began = time.monotonic()
            await published(store, "two")
            assert time.monotonic() - began < 1, "an agent that ends well gives its label back"
            assert json.loads(etcd.ctl("get", key, "--print-value-only"))["host"] == "two"
            assert said(caplog, "another agent holds the label, waiting") == 1


async def test_it_takes_over_within_the_lease_of_one_that_died(etcd: EtcdServer, label: str) -> None:
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        died = LabelLock(client, label, holder=ONE, ttl=2)
        assert await died.try_acquire() is None
        async with agents(second := Agent(etcd.address, label, TWO)):
            await anyio.wait_all_tasks_blocked()
            assert not second.ready
            await published(store, "two")
            assert second.ready


async def test_one_that_can_be_seen_to_be_dead_is_not_waited_for(etcd: EtcdServer, label: str) -> None:
    with Spawned(*SLEEP) as process:
        dead = Holder.of(process.pid)
    async with EtcdStore(etcd.address, label) as store, EtcdClient(etcd.address) as client:
        assert await LabelLock(client, label, holder=dead, ttl=60).try_acquire() is None
        began = time.monotonic()
        async with agents(Agent(etcd.address, label, replace(HERE, host="mine"))):
            await published(store, "mine")
            assert time.monotonic() - began < 5


async def test_of_many_that_wait_one_gets_it(etcd: EtcdServer, label: str) -> None:
    first = Agent(etcd.address, label, ONE)
    waiting = [Agent(etcd.address, label, replace(TWO, host=f"w{number}", boot=f"w{number}")) for number in range(8)]
    async with EtcdStore(etcd.address, label) as store, agents(first):
        await published(store, "one")
        async with agents(*waiting):
            first.stop()
            for count in range(1, 4):
                with anyio.fail_after(10):
                    while len(await store.states()) != 1 or sum(agent.ready for agent in waiting) != count:
                        await anyio.sleep(0.01)
                [mine] = await store.states()
                next(agent for agent in waiting if agent.holder.host == mine).stop()
        assert not any(agent.ended for agent in waiting)


async def test_labels_do_not_meddle(etcd: EtcdServer, label: str) -> None:
    other = Agent(etcd.address, f"{label}-2", TWO)
    async with EtcdStore(etcd.address, f"{label}-2") as store, agents(Agent(etcd.address, label, ONE), other):
        await published(store, "two")


async def test_one_process_twice_is_told(etcd: EtcdServer, label: str) -> None:
    async with EtcdClient(etcd.address) as client:
        assert await LabelLock(client, label, holder=HERE, ttl=10).acquire()
        with pytest.raises(InvalidSettings, match="one and the same etcd"):
            await LabelLock(client, label, holder=HERE, ttl=10).acquire()


# When the store is away


async def test_an_absent_store_is_not_waited_for(
    own_etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    await to_thread.run_sync(own_etcd.stop)
    async with EtcdStore(own_etcd.address, label) as store, agents(one := Agent(own_etcd.address, label, ONE)):
        await until(lambda: one.ready)
        assert said(caplog, "cannot acquire the label lock, continuing without it") == 1
        await to_thread.run_sync(own_etcd.start)
        await until_published(store, "one")
        assert json.loads(own_etcd.ctl("get", lock_key(label).decode(), "--print-value-only"))["host"] == "one"


async def until_published(store: EtcdStore, *names: str) -> None:
    """Do the same as :func:`published` for a store that is not there yet."""
    await until_there(store)
    await published(store, *names)


async def test_a_holder_that_was_seen_is_waited_for_through_an_outage(
    etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts(monkeypatch, longest=0.2)
    async with (
        EtcdStore(etcd.address, label) as store,
        agents(one := Agent(etcd.address, label, ONE)),
        proxy_to(etcd.port) as proxy,
    ):
        await published(store, "one")
        async with agents(two := Agent(attempts.impatient(proxy.address), label, TWO)):
            await until(lambda: said(caplog, "another agent holds the label, waiting"))
            await proxy.refuse()
            await attempts.until_slow()
            assert not two.ready
            await proxy.accept()
            await until(lambda: proxy._pairs)
            assert not two.ready
            one.stop()
            await published(store, "two")


async def test_a_lock_that_was_lost_is_taken_again(
    etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EtcdStore(etcd.address, label) as store,
        proxy_to(etcd.port) as proxy,
        agents(one := Agent(proxy.address, label, ONE)),
    ):
        await published(store, "one")
        await proxy.refuse()
        await published(store)  # the lease has run out
        await proxy.accept()
        await published(store, "one")
        assert one.ended is None
        await until(lambda: said(caplog, "publishing states again"))
        assert said(caplog, "cannot publish states") == said(caplog, "publishing states again") == 1


async def test_a_lock_that_somebody_else_has_by_then_is_the_end(
    etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EtcdStore(etcd.address, label) as store,
        proxy_to(etcd.port) as proxy,
        agents(one := Agent(proxy.address, label, ONE, timings=LIVELY)),
        AsyncExitStack() as stack,
    ):
        await published(store, "one")
        await stack.enter_async_context(agents(two := Agent(etcd.address, label, TWO, timings=LIVELY)))
        await proxy.refuse()
        await published(store, "two")
        await proxy.accept()
        await until(lambda: one.ended is not None)
        assert isinstance(one.ended, LabelTaken)
        assert str(one.ended) == f"the label '{label}' is taken by process 7 on two"
        assert [record.levelname for record in caplog.records if "another agent holds the label" in record.message][
            -1
        ] == "ERROR"
        # What the new one has written was neither changed nor taken back.
        await published(store, "two")
        assert json.loads(etcd.ctl("get", lock_key(label).decode(), "--print-value-only"))["host"] == "two"
        assert two.ended is None


async def test_one_that_never_had_it_gives_its_predecessor_the_time_to_be_gone(
    own_etcd: EtcdServer, label: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with EtcdClient(own_etcd.address) as client:
        assert await LabelLock(client, label, holder=ONE, ttl=3).try_acquire() is None
    await to_thread.run_sync(own_etcd.stop)
    async with EtcdStore(own_etcd.address, label) as store, agents(two := Agent(own_etcd.address, label, TWO)):
        await until(lambda: two.ready)
        await to_thread.run_sync(own_etcd.start)
        await until_published(store, "two")
        assert two.ended is None
        assert said(caplog, "another agent holds the label, waiting to see whether it is still alive") == 1


async def test_one_that_never_had_it_ends_if_somebody_alive_has_it(own_etcd: EtcdServer, label: str) -> None:
    async with proxy_to(own_etcd.port) as proxy:
        await proxy.refuse()
        async with (
            EtcdStore(own_etcd.address, label) as store,
            agents(
                one := Agent(own_etcd.address, label, ONE, timings=LIVELY),
                two := Agent(proxy.address, label, TWO, timings=LIVELY),
            ),
        ):
            await published(store, "one")
            await until(lambda: two.ready)
            await proxy.accept()
            await until(lambda: two.ended is not None)
            assert isinstance(two.ended, LabelTaken)
            assert list(await store.states()) == ["one"]
            assert one.ended is None


# What it protects


async def test_nobody_but_the_holder_writes(etcd: EtcdServer, label: str) -> None:
    async with EtcdClient(etcd.address) as client:
        mine, other = (LabelLock(client, label, holder=holder, ttl=10) for holder in (ONE, TWO))
        assert await mine.try_acquire() is None
        assert await other.try_acquire() == ONE
        await mine.write(puts={b"/k": b"1"})
        with pytest.raises(LockLost, match=r"lost the lock .*/ifagent/lock"):
            await other.write(puts={b"/k": b"2"})
        with pytest.raises(LockLost):
            await other.write(deletes=frozenset([b"/k"]))
        value = await client.get(b"/k")
        assert value
        assert (value.data, value.lease) == (b"1", mine.lease)
        await client.delete(lock_key(label))
        with pytest.raises(LockLost):
            await mine.write(puts={b"/k": b"3"})
        assert await other.try_acquire() is None
        await other.release()
        await mine.release()
        assert await client.get(b"/k") is None


async def test_a_lock_deleted_by_hand_is_taken_again(etcd: EtcdServer, label: str) -> None:
    async with (
        EtcdStore(etcd.address, label) as store,
        EtcdClient(etcd.address) as client,
        agents(one := Agent(etcd.address, label, ONE)),
    ):
        await published(store, "one")
        await client.delete(lock_key(label))
        with anyio.fail_after(10):
            while not await client.get(lock_key(label)):
                await anyio.sleep(0.01)
        assert one.ended is None


async def test_a_lock_that_was_taken_but_nobody_heard_is_ours(
    etcd: EtcdServer, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    putting = EtcdClient.put_if

    async def lost(self: EtcdClient, *words: Any, **more: Any) -> None:
        await putting(self, *words, **more)
        raise EtcdError("the connection was closed")

    async with EtcdClient(etcd.address) as client:
        one = LabelLock(client, label, holder=HERE, ttl=10)
        with monkeypatch.context() as patched:
            patched.setattr(EtcdClient, "put_if", lost)
            assert not await one.acquire()
        await one.reacquire()
        value = await client.get(lock_key(label))
        assert value
        assert value.lease == one.lease
