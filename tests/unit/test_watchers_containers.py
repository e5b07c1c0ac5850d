"""What the watcher of containers makes of an engine that answers oddly."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_engine
import pytest
from aiohttp import web
from fake_engine import FakeEngine, answering, described, never, until_own
from watched import Watched, until_true

from ifagent.errors import SourceLost
from ifagent.watchers.container_engine import Limits, default_sockets
from ifagent.watchers.container_events import MAX_EVENT, ContainerEvent, EventStream
from ifagent.watchers.container_follower import Timings

pytestmark = pytest.mark.anyio

NOT_RUNNING = "no container with this label runs"
OWN = f"/proc/{os.getpid()}/ns/net"

PATIENT = Timings(patience=600, quiet=600, sign_of_life=600)
"""No patience ends, however slow the machine is."""

HASTY = replace(PATIENT, patience=0.05, quiet=0.05)
"""A container is waited for shortly only, and the engine is often asked for a sign of life."""


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with fake_engine.running() as engine:
        yield engine


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def following(*engines: FakeEngine, timings: Timings = PATIENT, **options: Any) -> AsyncIterator[Watched]:
    async with fake_engine.following(*(engine.socket for engine in engines), timings=timings, **options) as watched:
        yield watched


# Answers


BAD = [b"", b"nonsense", b"\xff\xfe", b'{"a": 1}', b"7", b"[" * 100_000, b'[{"Id": 7}]', b'[{"Id": "../../version"}]']


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
async def test_a_list_that_cannot_be_read_is_a_problem_until_it_can(engine: FakeEngine, body: bytes) -> None:
    engine.containers["a"] = described()
    engine.list = answering(body)
    async with following(engine) as watched:
        watched.want("web")
        await watched.until(lambda: "the list of containers" in watched.problem("web"))
        assert watched.problem("web").startswith(f"cannot reach the container engine ({engine.socket}: ")
        engine.list = None
        await until_own(watched)
        assert len(watched.said) == 2


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"State": {"Pid": 1}},
        {"State": {"Pid": "1"}, "Config": {}},
        {"State": {"Pid": True}, "Config": {}},
        {"State": [], "Config": {}},
    ],
)
async def test_a_container_that_cannot_be_read_is_in_nobodys_way(engine: FakeEngine, value: Any) -> None:
    engine.containers |= {"a": value, "b": described()}
    async with following(engine) as watched:
        watched.want("web", "db")
        await until_own(watched)
        await watched.until_said("db", NOT_RUNNING)
        assert engine.asked.count("events") == 1


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**30])
async def test_what_is_no_process_id_does_not_run(engine: FakeEngine, pid: int) -> None:
    engine.containers["a"] = described(pid=pid)
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)


@pytest.mark.parametrize(
    "config",
    [
        {"Env": None, "Labels": {"ifagent.microservice": "web"}},
        {"Env": "MICROSERVICE_LABEL=db", "Labels": {"ifagent.microservice": "web"}},
        {"Env": ["MICROSERVICE_LABEL="], "Labels": {"ifagent.microservice": "web"}},
        {"Env": [7, None, "MICROSERVICE_LABEL", "MICROSERVICE_LABEL=db", "MICROSERVICE_LABEL=web"]},
        {"Env": [f"A{number}={'x' * 1000}" for number in range(4000)] + ["MICROSERVICE_LABEL=web"]},
        {"Env": ["BIG=" + "x" * 4_000_000, "MICROSERVICE_LABEL=web"]},
    ],
    ids=["no Env", "Env is text", "empty", "odd entries", "many variables", "a huge variable"],
)
async def test_where_the_label_is_found(engine: FakeEngine, config: dict[str, Any]) -> None:
    engine.containers["a"] = described() | {"Config": config}
    async with following(engine) as watched:
        watched.want("web")
        await until_own(watched)


async def test_an_answer_without_end_is_cut_off(engine: FakeEngine) -> None:
    engine.containers |= {"a": described() | {"Padding": "x" * 200_000}, "b": described(label="db")}
    async with following(engine, limits=Limits(container_bytes=100_000)) as watched:
        watched.want("web", "db")
        await until_own(watched, "db")
        await watched.until_said("web", NOT_RUNNING)


async def test_the_one_that_started_last_counts_whatever_its_time_looks_like(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    engine.containers |= {
        "a": described(started="2026-11-23T19:38:10.11+01:00"),
        "b": described(pid=child.pid, started="2026-11-23T18:38:10.1Z"),
        "c": described(pid=child.pid, started="yesterday"),
        "d": described(pid=child.pid, started="2026-11-23T18:38:10"),
    }
    engine.containers["e"] = {**described(pid=child.pid), "State": {"Pid": child.pid}}
    async with following(engine) as watched:
        watched.want("web")
        await watched.until(lambda: watched.said)
        last = watched.last("web")
        assert last
        assert last.path == OWN


# Processes


async def test_a_process_counts_only_when_it_is_named_again_after_it_is_held(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    pids = [child.pid]

    async def inspect(_: web.Request) -> web.StreamResponse:
        return web.json_response(described(pid=pids.pop() if pids else os.getpid()))

    engine.containers["a"] = None
    engine.inspect["a"] = inspect
    async with following(engine) as watched:
        watched.want("web")
        await until_own(watched)
        assert [event.path for event in watched.said] == [OWN]


async def test_a_process_that_ends_while_it_is_looked_at_does_not_count(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    asked = 0

    async def inspect(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 2:
            child.kill()
            child.wait()
        return web.json_response(described(pid=child.pid))

    engine.containers["a"] = None
    engine.inspect["a"] = inspect
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        assert len(watched.said) == 1


async def test_a_container_whose_process_is_not_here_is_said_to_be_so(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    child.kill()
    child.wait()
    engine.containers["a"] = described(pid=child.pid)
    async with following(engine, timings=HASTY) as watched:
        watched.want("web")
        path = f"/proc/{child.pid}/ns/net"
        await watched.until_said(
            "web", f"its container runs, but its namespace cannot be read ({path}: No such file or directory)"
        )
        engine.containers["a"] = described()
        await engine.happen("start", "a")
        await until_own(watched)


async def test_a_process_is_looked_for_where_the_settings_say(engine: FakeEngine) -> None:
    engine.containers["a"] = described()
    async with following(engine, proc_root=Path("/proc/self/root/proc")) as watched:
        watched.want("web")
        await until_own(watched)
        assert watched.said[0].path == f"/proc/self/root{OWN}"


async def test_a_process_that_ended_before_the_engine_knows_is_not_made_a_problem(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    child.kill()
    child.wait()
    engine.containers["a"] = described(pid=child.pid)
    async with following(engine) as watched:
        watched.want("web")
        await until_true(lambda: "a" in engine.asked)
        engine.containers["a"] = described(pid=0)
        await engine.happen("die", "a")
        await watched.until_said("web", NOT_RUNNING)
        assert len(watched.said) == 1


# Events


@pytest.mark.parametrize("action", ["start", "restart", "unheard-of"])
async def test_whatever_happens_to_a_container_is_a_reason_to_look(engine: FakeEngine, action: str) -> None:
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        engine.containers["a"] = described()
        await engine.happen(action, "a")
        await until_own(watched)


@pytest.mark.parametrize("action", ["die", "died", "stop", "kill", "oom", "remove", "destroy", "cleanup"])
@pytest.mark.parametrize("removed", [True, False])
async def test_an_end_is_heard_of_by_any_name(engine: FakeEngine, action: str, *, removed: bool) -> None:
    engine.containers["a"] = described()
    async with following(engine, proc_root=Path("/proc/self/root/proc")) as watched:
        watched.want("web")
        await until_own(watched)
        if removed:
            del engine.containers["a"]
        else:
            engine.containers["a"] = described(pid=0)
        await engine.happen(action, "a")
        await watched.until_said("web", NOT_RUNNING)
        assert len(watched.said) == 2


async def test_commands_and_health_checks_are_no_reason_to_look(engine: FakeEngine) -> None:
    engine.containers["a"] = described()
    async with following(engine) as watched:
        watched.want("web")
        await until_own(watched)
        looks = engine.asked.count("a")
        for action in ("exec_create: sh -c start", "exec_start: sh", "exec_die", "health_status: healthy"):
            await engine.happen(action, "a")
        await engine.happen("start", "a", Type="network")
        engine.containers["b"] = described(label="db")
        watched.want("web", "db")
        await engine.happen("start", "b")
        await until_own(watched, "db")
        assert engine.asked.count("a") == looks


UNREADABLE = [b"nonsense", b"{}", b"[]", b'{"Action": "start"}', b'{"Actor": {"ID": "../.."}}', b"\xff", b"[" * 99_999]


@pytest.mark.parametrize("line", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_an_event_that_cannot_be_read_is_a_reason_to_look_at_all(engine: FakeEngine, line: bytes) -> None:
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        engine.containers["a"] = described()
        await engine.say(line + b"\n")
        await until_own(watched)
        assert engine.asked.count("events") == 1


async def test_events_of_one_read_come_in_pieces_where_they_take_too_long() -> None:
    whole = b"".join(b'{"Actor": {"ID": "%d"}}\n' % number for number in range(3))
    reads = iter((whole + b'{"Actor": ', b'{"ID": "3"}}\n', b""))

    async def read() -> bytes:
        return next(reads)

    events = EventStream(read, "engine.sock", read_time=0)
    assert [await events.next() for _ in range(4)] == [[ContainerEvent(str(number))] for number in range(4)]
    with pytest.raises(SourceLost, match="the engine ended the events"):
        await events.next()


@pytest.mark.parametrize("size", [200_000, MAX_EVENT + 200_000])
async def test_an_event_may_be_long(engine: FakeEngine, size: int) -> None:
    async with following(engine) as watched:
        watched.want("web", "db")
        await watched.until_said("web", NOT_RUNNING)
        engine.containers["a"] = described()
        await engine.happen("start", "a", Attributes={"label": "x" * size})
        await until_own(watched)
        engine.containers["b"] = described(label="db")
        await engine.happen("start", "b")
        await until_own(watched, "db")
        assert engine.asked.count("events") == 1


async def test_an_event_may_come_in_pieces(engine: FakeEngine) -> None:
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        engine.containers["ab"] = described()
        event = {"Action": "start", "Actor": {"ID": "ab", "Attributes": {"name": "größer"}}}
        text = b"\n" + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
        for index in range(len(text)):
            await engine.say(text[index : index + 1])
            await asyncio.sleep(0)
        await until_own(watched)
        assert engine.asked.count("list") == 1


# Connections


async def test_events_are_asked_for_from_before_the_list_and_the_last_one(engine: FakeEngine) -> None:
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        assert time.time() - 10 < engine.since[0] < time.time() - 1
        assert engine.asked[:2] == ["events", "list"]
        engine.containers["a"] = described()
        await engine.happen("start", "a", timeNano=1_700_000_000_000_000_007)
        await until_own(watched)
        await engine.streams[-1].write_eof()
        await until_true(lambda: len(engine.since) == 2)
        assert engine.since[1] == pytest.approx(1_699_999_999, abs=0.001)


async def test_a_time_in_the_future_is_not_believed(engine: FakeEngine) -> None:
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        engine.containers["a"] = described()
        await engine.happen("start", "a", timeNano=time.time_ns() + 10**12)
        await until_own(watched)
        await engine.streams[-1].write_eof()
        await until_true(lambda: len(engine.since) == 2)
        assert engine.since[1] < time.time()


@pytest.mark.parametrize("how", ["end", "abort", "half", "restart"])
async def test_a_connection_that_ends_is_made_again_and_not_talked_about(engine: FakeEngine, how: str) -> None:
    engine.containers["a"] = described()
    async with following(engine) as watched:
        watched.want("web", "db")
        await watched.until(lambda: len(watched.said) == 2)
        transport = engine.requests[-1].transport
        assert transport
        match how:
            case "end":
                await engine.streams[-1].write_eof()
            case "abort":
                await engine.say(b'{"Action": "sta')
                transport.abort()
            case "half":
                transport.write_eof()
            case _:
                await engine.stop()
                await engine.start()
        engine.containers["b"] = described(label="db")
        await until_own(watched, "db")
        assert [event.problem for event in watched.said] in (["", NOT_RUNNING, ""], [NOT_RUNNING, "", ""])


async def test_what_is_not_there_after_the_connection_was_lost_has_ended(engine: FakeEngine) -> None:
    engine.containers["a"] = described()
    async with following(engine) as watched:
        watched.want("web")
        await until_own(watched)
        del engine.containers["a"]
        await engine.streams[-1].write_eof()
        await watched.until_said("web", NOT_RUNNING)
        assert len(watched.said) == 2


async def test_what_is_said_of_a_list_does_not_depend_on_the_order_of_answers(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    async def late(_: web.Request) -> web.StreamResponse:
        await until_true(lambda: engine.asked.count("old") == 2)
        await asyncio.sleep(0.02)
        return web.json_response(described())

    engine.containers |= {"new": None, "old": described(pid=child.pid, started="2026-11-23T18:38:09Z")}
    engine.inspect["new"] = late
    await engine.stop()
    async with following(engine) as watched:
        watched.want("web")
        await watched.until(lambda: "Connection refused" in watched.problem("web"))
        await engine.start()
        await watched.until(lambda: watched.where("web"))
        assert [event.path for event in watched.said] == ["", OWN]


async def test_what_starts_while_containers_are_listed_is_kept(engine: FakeEngine) -> None:
    listed = asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        await listed.wait()
        return web.json_response([])

    engine.containers["a"] = described(pid=0)
    async with following(engine) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        engine.list = slow
        await engine.say(b"nonsense\n")
        await until_true(lambda: engine.asked.count("list") == 2)
        engine.containers["a"] = described()
        await engine.happen("start", "a")
        await until_true(lambda: engine.asked.count("a") >= 3)
        listed.set()
        await until_own(watched)
        assert len(watched.said) == 2


@pytest.mark.parametrize("status", [204, 301, 400, 500])
async def test_an_engine_that_refuses_events_is_a_problem(engine: FakeEngine, status: int) -> None:
    engine.events = answering(b"", status)
    async with following(engine) as watched:
        watched.want("web")
        await watched.until(lambda: f"{engine.socket}: the events: {status} " in watched.problem("web"))


@pytest.mark.parametrize("what", ["events", "list"])
async def test_an_engine_that_never_answers_is_a_problem(engine: FakeEngine, what: str) -> None:
    engine.containers["a"] = described()
    engine.ping = never
    setattr(engine, what, never)
    async with following(engine, timings=replace(HASTY, sign_of_life=0.2)) as watched:
        watched.want("web")
        await watched.until(lambda: f"{engine.socket}: no sign of life for 0.2 s" in watched.problem("web"))
        engine.ping = None
        setattr(engine, what, None)
        await until_own(watched)
        assert len(watched.said) == 2


async def test_silence_is_no_problem(engine: FakeEngine) -> None:
    async with following(engine, timings=HASTY) as watched:
        watched.want("web")
        await until_true(lambda: engine.asked.count("ping") >= 3)
        assert engine.asked.count("events") == 1
        assert [event.problem for event in watched.said] == [NOT_RUNNING]


async def test_a_container_that_is_answered_for_late_holds_nothing_up(engine: FakeEngine) -> None:
    answered = asyncio.Event()

    async def late(_: web.Request) -> web.StreamResponse:
        await answered.wait()
        return web.json_response(described(label="db"))

    engine.containers |= {"a": None, "b": described()}
    engine.inspect["a"] = late
    async with following(engine, timings=HASTY) as watched:
        watched.want("web", "db")
        await until_own(watched)
        await watched.until_said("db", NOT_RUNNING)
        engine.containers["c"] = described(label="cache")
        watched.want("web", "db", "cache")
        await engine.happen("start", "c")
        await until_own(watched, "cache")
        answered.set()
        await until_own(watched, "db")


async def test_what_does_not_speak_http_is_a_problem(tmp_path: Path) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 hello\r\n\r\n")
        writer.close()

    socket = tmp_path / "engine.sock"
    async with await asyncio.start_unix_server(serve, socket), fake_engine.following(socket) as watched:
        watched.want("web")
        await watched.until(lambda: f"cannot reach the container engine ({socket}: " in watched.problem("web"))


@pytest.mark.parametrize(
    ("name", "why"), [("none", "No such file or directory"), ("", "Connection refused"), ("x" * 200, "too long")]
)
async def test_what_is_no_socket_is_a_problem(tmp_path: Path, name: str, why: str) -> None:
    async with fake_engine.following(tmp_path / name) as watched:
        watched.want("web")
        await watched.until(lambda: why in watched.problem("web"))
        assert f"({tmp_path / name}: " in watched.problem("web")


async def test_an_engine_that_is_not_installed_matters_only_where_there_is_no_other(
    engine: FakeEngine, tmp_path: Path
) -> None:
    none = tmp_path / "none"
    async with fake_engine.following(none, engine.socket, timings=PATIENT) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        await engine.stop()
        start = "cannot reach the container engine"
        await watched.until_said("web", f"{start} ({engine.socket}: Connection refused)")
        engine.socket.unlink()
        await watched.until_said("web", f"{start} ({none}: No such file or directory)")


# Wanting


async def test_nobody_is_asked_before_something_is_wanted(engine: FakeEngine) -> None:
    engine.containers["a"] = described()
    async with following(engine) as watched:
        for _ in range(2):
            watched.want()
            await asyncio.sleep(0)
        assert not engine.asked
        watched.want("web")
        await until_own(watched)
        watched.want()
        watched.want("web")
        await watched.until(lambda: len(watched.said) == 2)


async def test_wanting_and_not_wanting_may_come_at_any_moment(engine: FakeEngine) -> None:
    engine.containers |= {"a": described(), "b": described(label="db")}
    async with following(engine) as watched:
        # The follower has begun to ask several times, so that the moments differ, however slow the machine is.
        turns = 0
        while turns < 60 or engine.asked.count("events") <= 5:
            turns += 1
            watched.want("web")
            for _ in range(turns):
                await asyncio.sleep(0)
            watched.want()
            for _ in range(turns % 7):
                await asyncio.sleep(0)
            watched.want("db")
            watched.want("web", "db")
            for _ in range(turns % 5):
                await asyncio.sleep(0)
            watched.want()
        said = len(watched.said)
        watched.want("web", "db")
        await watched.until(lambda: {e.ref.reference for e in watched.said[said:] if e.id} == {"web", "db"})


async def test_what_is_wanted_in_one_go_is_not_listed_for_again(engine: FakeEngine) -> None:
    engine.containers |= {f"c{number}": described(label=f"s{number}") for number in range(200)}
    async with following(engine) as watched:
        watched.want("s0")
        await until_own(watched, "s0")
        for number in range(200):
            watched.want(*(f"s{n}" for n in range(number + 1)))
        await watched.until(lambda: len({event.ref for event in watched.said if event.id}) == 200)
        assert len(watched.said) == 200
        assert engine.asked.count("list") == 1
        assert len(engine.asked) < 200 * 4


# Settings


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (None, ["/var/run/docker.sock", "/run/podman/podman.sock"]),
        ("", ["/var/run/docker.sock", "/run/podman/podman.sock"]),
        ("tcp://127.0.0.1:2375", ["/var/run/docker.sock", "/run/podman/podman.sock"]),
        ("unix://", ["/var/run/docker.sock", "/run/podman/podman.sock"]),
        ("unix:///run/user/1000/docker.sock", ["/run/user/1000/docker.sock"]),
    ],
)
def test_where_engines_are_looked_for(monkeypatch: pytest.MonkeyPatch, host: str | None, expected: list[str]) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if host is not None:
        monkeypatch.setenv("DOCKER_HOST", host)
    assert [str(path) for path in default_sockets()] == expected
