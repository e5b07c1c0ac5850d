"""What the watcher of containers makes of an engine that answers oddly; a small fake one says what a test wants."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from watched import Watched, until_true, watching

from ifagent.core.namespace_ref import NamespaceType
from ifagent.errors import SourceLost
from ifagent.nsfs import own_namespace
from ifagent.watchers import container_engine, container_follower
from ifagent.watchers.container_engine import default_sockets
from ifagent.watchers.container_events import MAX_EVENT, ContainerEvent, EventStream
from ifagent.watchers.containers import ContainerWatcher

pytestmark = pytest.mark.anyio

NOT_RUNNING = "no container with this label runs"
OWN = f"/proc/{os.getpid()}/ns/net"

Answer = Callable[[], Awaitable[web.StreamResponse]]


def described(pid: Any = None, label: str = "web", started: str = "2026-11-23T18:38:10.115321465Z") -> dict[str, Any]:
    """Return what an engine says of a container; its first process is the test's own."""
    return {
        "State": {"Pid": os.getpid() if pid is None else pid, "StartedAt": started},
        "Config": {"Env": ["PATH=/bin", f"MICROSERVICE_LABEL={label}"], "Labels": None},
    }


class FakeEngine:
    """Answers as its attributes say.

    ``containers`` are the answers to ``inspect`` by id; ``list``, ``events`` and those of ``inspect`` replace the
    usual answer. What was asked is in ``asked``.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.containers: dict[str, Any] = {}
        self.list: Answer | None = None
        self.events: Answer | None = None
        self.inspect: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.since: list[float] = []
        self.streams: list[web.StreamResponse] = []
        self.requests: list[web.Request] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/_ping", self._ping)
        app.router.add_get("/events", self._events)
        app.router.add_get("/containers/json", self._list)
        app.router.add_get("/containers/{id}/json", self._inspect)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        self.socket.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        """Stop answering; the socket's file stays, as that of an engine that was killed."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        if not self.socket.exists():  # from Python 3.13 on a server takes its file away
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.bind(str(self.socket))

    async def say(self, text: bytes) -> None:
        """Write into the last stream of events."""
        await self.streams[-1].write(text)

    async def happen(self, action: str, id: str, **fields: Any) -> None:
        event = {"Type": "container", "Action": action, "Actor": {"ID": id}, "timeNano": time.time_ns(), **fields}
        await self.say(json.dumps(event).encode() + b"\n")

    async def _ping(self, _: web.Request) -> web.StreamResponse:
        self.asked.append("ping")
        return web.Response(text="OK")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("events")
        self.since.append(float(request.query["since"]))
        assert json.loads(request.query["filters"]) == {"type": ["container"]}
        if self.events:
            return await self.events()
        stream = web.StreamResponse()
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        self.streams.append(stream)
        self.requests.append(request)
        await asyncio.Event().wait()
        return stream

    async def _list(self, _: web.Request) -> web.StreamResponse:
        self.asked.append("list")
        return await self.list() if self.list else web.json_response([{"Id": id} for id in self.containers])

    async def _inspect(self, request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        self.asked.append(id)
        if id in self.inspect:
            return await self.inspect[id]()
        if id not in self.containers:
            return web.json_response({"message": "no such container"}, status=404)
        return web.json_response(self.containers[id])


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    with tempfile.TemporaryDirectory() as folder:
        engine = FakeEngine(Path(folder) / "engine.sock")
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no patience end, however slow the machine is."""
    for name in ("PATIENCE", "QUIET", "SIGN_OF_LIFE"):
        monkeypatch.setattr(container_follower, name, 600.0)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a container shortly only, and ask the engine for a sign of life often."""
    monkeypatch.setattr(container_follower, "PATIENCE", 0.05)
    monkeypatch.setattr(container_follower, "QUIET", 0.05)


@asynccontextmanager
async def following(engine: FakeEngine, **options: Any) -> AsyncIterator[Watched]:
    async with watching(ContainerWatcher([engine.socket], **options), NamespaceType.MICROSERVICE) as watched:
        yield watched


async def until_own(watched: Watched, label: str = "web") -> None:
    """Wait until a label leads to the test's own process."""
    await watched.until_at(label, own_namespace())


def answering(body: bytes, status: int = 200) -> Answer:
    async def answer() -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type="application/json")

    return answer


async def never() -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


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


async def test_an_answer_without_end_is_cut_off(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_engine, "MAX_ONE", 100_000)
    engine.containers |= {"a": described() | {"Padding": "x" * 200_000}, "b": described(label="db")}
    async with following(engine) as watched:
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

    async def inspect() -> web.StreamResponse:
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

    async def inspect() -> web.StreamResponse:
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


@pytest.mark.usefixtures("hasty")
async def test_a_container_whose_process_is_not_here_is_said_to_be_so(
    engine: FakeEngine, child: subprocess.Popen[bytes]
) -> None:
    child.kill()
    child.wait()
    engine.containers["a"] = described(pid=child.pid)
    async with following(engine) as watched:
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
    async def late() -> web.StreamResponse:
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

    async def slow() -> web.StreamResponse:
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


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("what", ["events", "list"])
async def test_an_engine_that_never_answers_is_a_problem(
    engine: FakeEngine, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.containers["a"] = described()
    monkeypatch.setattr(engine, what, never)
    monkeypatch.setattr(container_engine.Engine, "ping", lambda _: asyncio.Event().wait())
    monkeypatch.setattr(container_follower, "SIGN_OF_LIFE", 0.05)
    async with following(engine) as watched:
        watched.want("web")
        await watched.until(lambda: f"{engine.socket}: no sign of life for" in watched.problem("web"))
        monkeypatch.undo()
        await until_own(watched)
        assert len(watched.said) == 2


@pytest.mark.usefixtures("hasty")
async def test_silence_is_no_problem(engine: FakeEngine) -> None:
    async with following(engine) as watched:
        watched.want("web")
        await until_true(lambda: engine.asked.count("ping") >= 3)
        assert engine.asked.count("events") == 1
        assert [event.problem for event in watched.said] == [NOT_RUNNING]


@pytest.mark.usefixtures("hasty")
async def test_a_container_that_is_answered_for_late_holds_nothing_up(engine: FakeEngine) -> None:
    answered = asyncio.Event()

    async def late() -> web.StreamResponse:
        await answered.wait()
        return web.json_response(described(label="db"))

    engine.containers |= {"a": None, "b": described()}
    engine.inspect["a"] = late
    async with following(engine) as watched:
        watched.want("web", "db")
        await until_own(watched)
        await watched.until_said("db", NOT_RUNNING)
        engine.containers["c"] = described(label="cache")
        watched.want("web", "db", "cache")
        await engine.happen("start", "c")
        await until_own(watched, "cache")
        answered.set()
        await until_own(watched, "db")


async def test_what_does_not_speak_http_is_a_problem() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 hello\r\n\r\n")
        writer.close()

    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "engine.sock"
        async with (
            await asyncio.start_unix_server(serve, socket),
            watching(ContainerWatcher([socket]), NamespaceType.MICROSERVICE) as watched,
        ):
            watched.want("web")
            await watched.until(lambda: f"cannot reach the container engine ({socket}: " in watched.problem("web"))


@pytest.mark.parametrize(
    ("name", "why"), [("none", "No such file or directory"), ("", "Connection refused"), ("x" * 200, "too long")]
)
async def test_what_is_no_socket_is_a_problem(tmp_path: Path, name: str, why: str) -> None:
    async with watching(ContainerWatcher([tmp_path / name]), NamespaceType.MICROSERVICE) as watched:
        watched.want("web")
        await watched.until(lambda: why in watched.problem("web"))
        assert f"({tmp_path / name}: " in watched.problem("web")


async def test_an_engine_that_is_not_installed_matters_only_where_there_is_no_other(
    engine: FakeEngine, tmp_path: Path
) -> None:
    sockets = [tmp_path / "none", engine.socket]
    async with watching(ContainerWatcher(sockets), NamespaceType.MICROSERVICE) as watched:
        watched.want("web")
        await watched.until_said("web", NOT_RUNNING)
        await engine.stop()
        start = "cannot reach the container engine"
        await watched.until_said("web", f"{start} ({engine.socket}: Connection refused)")
        engine.socket.unlink()
        await watched.until_said("web", f"{start} ({sockets[0]}: No such file or directory)")


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
