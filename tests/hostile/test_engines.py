"""Container engines that are broken or malicious: an ordinary trouble of that one source (T12)."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import anyio
import pytest
from aiohttp import web
from fake_engine import FakeEngine, answering, described, following, running, until_own
from watched import Watched, until_true

from ifagent.watchers.container_engine import MAX_LABEL, BadAnswer, Limits, read_ids
from ifagent.watchers.container_follower import MOST_LOOKS, Follower, Timings
from ifagent.watchers.containers import ContainerWatcher

pytestmark = pytest.mark.anyio

HELD_UP = 1.0
"""Seconds that nothing may hold up the event loop for; generous, for a busy machine."""


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with running() as engine:
        yield engine


class OwnProcess:
    """An engine in a process of its own, so that what it costs the follower can be told; it does as a program says."""

    def __init__(self, folder: Path, program: str) -> None:
        self.socket = folder / "engine.sock"
        self._program = _SERVER + program
        self._folder = folder

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(sys.executable, "-c", self._program, str(self.socket))
        await until_true(self.socket.exists, within=10)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()


_SERVER = """
import json, os, socket, sys, threading, time
own = {"State": {"Pid": os.getpid(), "StartedAt": "2026-01-01T00:00:00Z"},
       "Config": {"Env": ["MICROSERVICE_LABEL=web"]}}
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nConnection: close\\r\\n\\r\\n"
def serve(answer):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    listening.listen(100)
    def one(taken):
        try:
            path = taken.recv(65536).split()[1].decode()
            taken.sendall(HEAD)
            for part in answer(path):
                taken.sendall(part)
        except OSError:
            pass
        taken.close()
    while True:
        threading.Thread(target=one, args=(listening.accept()[0],), daemon=True).start()
def usual(path):
    if path == "/containers/json":
        yield json.dumps([{"Id": "a"}]).encode()
    elif path.startswith("/containers"):
        yield json.dumps(own if "/a/" in path else {}).encode()
    elif path.startswith("/events"):
        while True:
            yield b"\\n"
            time.sleep(1)
    else:
        yield b"OK"
"""

FLOODS = {
    "events": """
def answer(path):
    if not path.startswith("/events"):
        yield from usual(path)
    number = 0
    while path.startswith("/events"):
        number += 1
        yield b"".join(json.dumps({"Type": "container", "Action": "start", "Actor": {"ID": f"x{number}x{i}"}}).encode()
                       + b"\\\\n" for i in range(1000))
serve(answer)
""",
    "events that cannot be read": """
def answer(path):
    if not path.startswith("/events"):
        yield from usual(path)
    while path.startswith("/events"):
        yield b"{]\\\\n" * 10000
serve(answer)
""",
    "an event without end": """
def answer(path):
    if not path.startswith("/events"):
        yield from usual(path)
    while path.startswith("/events"):
        yield b"x" * 100000
serve(answer)
""",
    "connections that end": """
def answer(path):
    if not path.startswith("/events"):
        yield from usual(path)
    else:
        time.sleep(0.2)
serve(answer)
""",
}


TINY_CHUNKS = """
HEAD = b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\nConnection: close\\r\\n\\r\\n"
def answer(path):
    if path.startswith("/containers/x"):
        while True:
            yield b"1\\r\\n \\r\\n" * 50000
    whole = json.dumps([{"Id": f"x{i}"} for i in range(60)]).encode() if path == "/containers/json" else None
    for part in usual(path) if whole is None else [whole]:
        yield b"%x\\r\\n" % len(part) + part + b"\\r\\n"
    yield b"0\\r\\n\\r\\n"
serve(answer)
"""


async def longest_hold_up(seconds: float) -> float:
    """Return for how long nothing else was done on the event loop."""
    longest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - before)
    return longest


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_leaves_room_for_everything_else(flood: str, tmp_path: Path) -> None:
    async with OwnProcess(tmp_path, FLOODS[flood].replace("\\\\", "\\")) as engine, following(engine.socket) as watched:
        watched.want("web")
        await watched.until(lambda: watched.where("web"))
        await until_true(lambda: follower_of(watched)._listed, within=30)
        before, memory = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert await longest_hold_up(3.0) < HELD_UP
        assert time.thread_time() - before < 2.0, "not all the time of the loop"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000, "KiB"
        assert watched.where("web")


async def test_answers_in_tiny_chunks_hold_up_nobody(tmp_path: Path) -> None:
    async with OwnProcess(tmp_path, TINY_CHUNKS) as engine, following(engine.socket) as watched:
        watched.want("web")
        await until_true(lambda: len(follower_of(watched)._looks) >= 30, within=10)
        hold_ups = sorted([await longest_hold_up(0.1) for _ in range(20)])
        assert hold_ups[10] < HELD_UP / 2


def follower_of(watched: Watched) -> Follower:
    watcher = watched.watcher
    assert isinstance(watcher, ContainerWatcher)
    return watcher._followers[0]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'[{"Id": "a"}' * 3,
        b'[{"Id": "a"},]',
        b'[{"Id": "a"} {"Id": "b"}]',
        b'[{"Id": "a"}]]',
        b'[,{"Id": "a"}]',
        b'[{"Id": "' + b"a" * 200 + b'"}]',
        b'[{"Id": "a", "Pad": "' + b"x" * 1_000_000 + b'"}]',
        b'[{"Id": ' + b"9" * 100_000 + b"}]",
        b"[" + b",".join([b'{"Id": "a"}'] * 20_001) + b"]",
        b"\xff",
        b"{}",
        b"[",
        b"]",
        b"",
    ],
)
def test_a_list_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_ids(body)


def test_a_list_is_read_whatever_stands_between() -> None:
    assert read_ids(b"[]") == []
    assert read_ids(b" [ ] \n") == []
    assert read_ids(b'[\n {"Id": "a", "Labels": {"x": "],[{"}} ,\t{"Id":"b"}\n]\n') == ["a", "b"]
    many = [{"Id": f"c{number}", "Labels": {"long": "x" * 20_000}} for number in range(50)]
    assert len(read_ids(json.dumps(many).encode())) == 50


async def test_a_huge_list_holds_up_nobody() -> None:
    padding = {str(number): "y" * 20 for number in range(60)}
    body = json.dumps([{"Id": f"c{number}", "Labels": padding} for number in range(15_000)]).encode()
    assert len(body) > 20 << 20
    reading = asyncio.ensure_future(asyncio.to_thread(read_ids, body))
    assert await longest_hold_up(1.0) < HELD_UP
    assert len(await reading) == 15_000


@pytest.mark.parametrize("shape", ["values", "deep", "huge number", "bomb"])
async def test_a_description_of_any_shape_holds_up_nobody(engine: FakeEngine, shape: str) -> None:
    body = {
        "values": b'{"State": {"Pid": 1}, "Config": {"Env": [' + b",".join([b"0"] * 3_000_000) + b"]}}",
        "deep": b'{"State":' * 500_000,
        "huge number": b'{"State": {"Pid": ' + b"9" * 7_000_000 + b"}}",
        "bomb": gzip.compress(bytes(1 << 28)),
    }[shape]
    engine.containers |= {"a": described(), "b": described(label="db")}
    engine.inspect["b"] = answering(body, encoding="gzip" if shape == "bomb" else None)
    async with following(engine.socket) as watched:
        watched.want("web", "db")
        held_up = await longest_hold_up(1.0)
        await until_own(watched)
        await watched.until(lambda: watched.problem("db"))
        assert held_up < HELD_UP


async def test_an_answer_that_trickles_is_given_up(engine: FakeEngine) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with anyio.move_on_after(20):
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    ids = [f"slow{number}" for number in range(MOST_LOOKS)]
    engine.containers |= dict.fromkeys(ids, None) | {"z": described()}
    engine.inspect |= dict.fromkeys(ids, trickle)
    async with following(engine.socket, limits=Limits(answer_time=0.3)) as watched:
        watched.want("web")
        await until_own(watched)


async def test_a_redirect_is_not_followed(engine: FakeEngine) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/containers/b/json")

    engine.containers |= {"a": described(label="db"), "b": described()}
    engine.inspect["a"] = elsewhere
    async with following(engine.socket) as watched:
        watched.want("web", "db")
        await until_own(watched)
        await watched.until(lambda: watched.problem("db"))
    assert engine.asked.count("b") == 2, "once, and once more after it was held"


async def test_more_containers_than_there_can_be_are_not_kept(engine: FakeEngine) -> None:
    engine.containers |= {f"c{number}": described(label=f"l{number}") for number in range(5)}
    async with following(engine.socket, limits=Limits(containers=10)) as watched:
        watched.want("l1")
        await until_own(watched, "l1")
        engine.containers |= {f"d{number}": described(label=f"m{number}") for number in range(50)}
        for number in range(50):
            await engine.happen("start", f"d{number}")
        await until_true(lambda: engine.asked.count("d49"))
        labels = [*(f"l{number}" for number in range(5)), *(f"m{number}" for number in range(50))]
        watched.want(*labels)
        await watched.until(lambda: all(map(watched.last, labels)))
        assert sum(watched.where(label) is not None for label in labels) == 10


async def test_a_long_label_is_none(engine: FakeEngine) -> None:
    longest = "x" * MAX_LABEL
    engine.containers |= {"a": described(label=f"{longest}x"), "b": described()}
    async with following(engine.socket) as watched:
        watched.want("web", longest)
        await until_own(watched)
        await watched.until(lambda: watched.problem(longest))


async def test_a_reference_that_is_wanted_again_at_once_is_never_said_to_be_nowhere(engine: FakeEngine) -> None:
    engine.containers["a"] = described()
    async with following(engine.socket) as watched:
        watched.want("web")
        await until_own(watched)
        for times in range(2, 6):
            watched.want()
            watched.want("web")
            await watched.until_count(times)
        assert all(seen.id for seen in watched.said)
        assert engine.asked.count("a") == 2


async def test_an_engine_that_ends_each_connection_soon_is_tried_less_often(engine: FakeEngine) -> None:
    engine.containers["a"] = described()
    async with following(engine.socket, timings=Timings(longest_wait=0.05, longest_rest=1.0)) as watched:
        watched.want("web")
        await until_own(watched)
        follower = follower_of(watched)
        began: list[float] = []
        while len(began) < 7:
            await until_true(lambda: len(engine.requests) > len(began))
            began.append(time.monotonic())
            await until_true(lambda: follower._listed)
            transport = engine.requests[-1].transport
            assert transport
            transport.close()
            await until_true(lambda: not follower._looking)
        assert began[-1] - began[-2] > 0.8
        assert watched.where("web"), "what was found stands meanwhile"
