"""The agent's unix socket, from both sides."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from agent_view import FakeAgent
from anyio.streams.buffered import BufferedByteReceiveStream
from watched import until_true

from ifagent.agent_socket import fetch_declarations, fetch_states, watch_states
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.kinds import Veth
from ifagent.core.namespace_ref import named
from ifagent.core.resources import interface_key
from ifagent.core.state import Change, ConfigState, InterfaceState, StateEvent
from ifagent.errors import FieldError, InvalidSettings, SourceLost
from ifagent.formats.socket_protocol import MAX_REQUEST_BYTES
from ifagent.outlets.local_socket import Limits, LocalSocket

pytestmark = pytest.mark.anyio


def state(name: str, config_state: ConfigState = ConfigState.APPLIED, **fields: object) -> InterfaceState:
    return InterfaceState(name=name, config_state=config_state, **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def served(agent: FakeAgent, path: Path, **limits: Any) -> AsyncIterator[Path]:
    async with anyio.create_task_group() as group:
        await group.start(LocalSocket(path, limits=Limits(**limits)).run, agent)
        yield path
        group.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "agent.sock"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def raw(path: Path, request: bytes) -> list[dict[str, object]]:
    lines = b""
    async with await anyio.connect_unix(path) as stream:
        await stream.send(request)
        try:
            while True:
                lines += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    return [json.loads(line) for line in lines.splitlines()]


async def test_states(path: Path) -> None:
    many = [state(f"i{number:04}", reason="ü" * 200) for number in range(1000)]
    async with served(FakeAgent(*many), path):
        assert list((await fetch_states(path)).values()) == many


async def test_no_states(path: Path) -> None:
    async with served(FakeAgent(), path):
        assert await fetch_states(path) == {}


async def test_declarations(path: Path) -> None:
    interface = Interface(name="a", kind=Veth(peer_if_name="b"), namespace=named("ns1"), mtu=1400)
    agent = FakeAgent()
    agent.declared = {
        "a": Declaration.of(interface, warnings=("is odd",), revision=7),
        "z": Declaration(key=interface_key("z"), errors=(FieldError("mtu", "is wrong"),), revision=2**60),
    }
    async with served(agent, path):
        assert await fetch_declarations(path) == agent.declared


async def test_a_watch_has_a_snapshot_then_changes(path: Path) -> None:
    agent = FakeAgent(state("a"), state("b"))
    async with served(agent, path), aclosing(watch_states(path)) as events:
        snapshot = [await anext(events), await anext(events)]
        assert [(one.seq, one.event, one.name) for one in snapshot] == [
            (1, Change.SNAPSHOT, "a"),
            (2, Change.SNAPSHOT, "b"),
        ]
        agent.say(state("a", ConfigState.PENDING), state("c"))
        assert await anext(events) == StateEvent(
            seq=3, event=Change.CHANGED, name="a", state=state("a", ConfigState.PENDING)
        )
        assert (await anext(events)).event is Change.CREATED
        agent.take_back("b")
        gone = await anext(events)
        assert (gone.seq, gone.event, gone.name) == (5, Change.DELETED, "b")


async def test_a_watch_of_one_interface(path: Path) -> None:
    agent = FakeAgent(state("a"), state("b"))
    async with served(agent, path), aclosing(watch_states(path, name="b")) as events:
        assert (await anext(events)).name == "b"
        agent.say(state("a", ConfigState.PENDING))
        agent.say(state("b", ConfigState.PENDING))
        assert (await anext(events)).name == "b"


async def test_a_watch_survives_the_agent_and_tells_the_differences(path: Path) -> None:
    stream = watch_states(path)
    async with aclosing(stream) as events:
        async with served(FakeAgent(state("same"), state("other"), state("gone")), path):
            for _ in range(3):
                await anext(events)
        with anyio.fail_after(5):
            async with served(FakeAgent(state("same"), state("other", ConfigState.PENDING), state("new")), path):
                told = [await anext(events) for _ in range(3)]
    assert [(one.seq, one.event, one.name) for one in told] == [
        (4, Change.CHANGED, "other"),
        (5, Change.CREATED, "new"),
        (6, Change.DELETED, "gone"),
    ]


async def test_no_agent_is_told_in_one_sentence(path: Path) -> None:
    with pytest.raises(SourceLost, match="cannot be reached, is it running"):
        await fetch_states(path)
    with pytest.raises(SourceLost, match="cannot be reached, is it running"):
        await anext(watch_states(path))


@pytest.mark.parametrize(
    ("request_bytes", "problem"),
    [
        (b"hello\n", "is not valid JSON"),
        (b"[1]\n", "is not a JSON object"),
        (b"\xff\n", "is not valid JSON"),
        (b"{}\n", "unknown request None"),
        (b'{"do":"watch","foreign":"yes"}\n', "foreign must be true or false"),
        (b'{"do":"reboot"}\n', "unknown request 'reboot', expected states, watch or declarations"),
        (b'{"do":"watch","name":7}\n', "the name must be a string"),
        (b"[" * (MAX_REQUEST_BYTES - 1) + b"\n", "is not valid JSON"),
        (b"x" * (MAX_REQUEST_BYTES + 1), f"request exceeds {MAX_REQUEST_BYTES} bytes"),
    ],
)
async def test_a_bad_request_is_answered_with_an_error(path: Path, request_bytes: bytes, problem: str) -> None:
    async with served(FakeAgent(state("a")), path):
        [answer] = await raw(path, request_bytes)
        assert problem in str(answer["error"])
        assert list(await fetch_states(path)) == ["a"]


async def test_a_request_that_never_comes(path: Path) -> None:
    async with served(FakeAgent(), path, request_time=0.05):
        [answer] = await raw(path, b'{"do":')
        assert answer == {"error": "no request received within 0.05 s"}


async def test_readers_that_leave_do_not_disturb_and_are_forgotten(path: Path) -> None:
    agent = FakeAgent(state("a"))
    async with served(agent, path):
        before = open_files()
        for _ in range(50):
            stream = await anyio.connect_unix(path)
            await stream.send(b'{"do":"watch"}\n')
            await stream.receive()
            await stream.aclose()
        await until_true(lambda: open_files() <= before)
        agent.say(state("a", ConfigState.PENDING))
        assert (await fetch_states(path))["a"].config_state is ConfigState.PENDING


async def test_a_reader_that_does_not_read_holds_up_nobody(path: Path) -> None:
    agent = FakeAgent()
    async with served(agent, path), await anyio.connect_unix(path) as lazy:
        await lazy.send(b'{"do":"watch"}\n')
        async with aclosing(watch_states(path)) as events:
            for number in range(300):
                agent.say(state("a", reason=str(number) + "x" * 5000))
                assert (await anext(events)).state is not None
        received = b""
        with anyio.move_on_after(5):
            while b'"reason":"299x' not in received:
                received += await lazy.receive()
        assert b'"reason":"299x' in received, "the last state never came"
        assert b'"event":"gap"' in received


async def test_a_watch_that_is_not_read_for_a_while_has_a_gap_and_then_the_newest_state(path: Path) -> None:
    """``ifagent watch --json`` into a pipe that nobody reads: all buffers fill up, then states are left out."""
    agent = FakeAgent()
    place = ["--store", f"file:{path.parent / 'none'}", "--socket", str(path)]
    command = [sys.executable, "-m", "ifagent", "watch", "--json", *place]
    async with served(agent, path), await anyio.open_process(command, stderr=None) as watch:
        assert watch.stdout is not None
        lines = BufferedByteReceiveStream(watch.stdout)

        async def line() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(await lines.receive_until(b"\n", 100_000))
            return found

        with anyio.fail_after(30):
            agent.say(state("a", reason="first"))
            assert (await line())["state"]["reason"] == "first"
            last = 1500
            for number in range(last + 1):  # 15 MB, far more than pipe, socket and both programs hold
                agent.say(state("a", reason=f"{number} " + "x" * 10_000))
                await anyio.sleep(0)
            agent.say(state("b"))
            events = [await line()]
            while events[-1]["name"] != "b":
                events.append(await line())
        watch.terminate()
    gaps = [event for event in events if event["event"] == "gap"]
    others = [event for event in events if event["event"] != "gap"]
    assert gaps
    assert sum(gap["missed"] for gap in gaps) + len(others) == last + 2, "each is told or counted"
    assert others[-2]["state"]["reason"].startswith(f"{last} ")
    assert [event["seq"] for event in events] == list(range(2, len(events) + 2))


async def test_too_many_readers_are_refused(path: Path) -> None:
    async with served(FakeAgent(state("a")), path, connections=1), aclosing(watch_states(path)) as events:
        await anext(events)
        with pytest.raises(SourceLost, match="limit of 1 connections reached"):
            await fetch_states(path)


async def test_the_socket_is_for_owner_and_group_and_goes_with_the_agent(path: Path) -> None:
    async with served(FakeAgent(), path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


async def test_its_directory_is_made_for_owner_and_group_and_one_that_is_there_is_left_alone(tmp_path: Path) -> None:
    async with served(FakeAgent(), tmp_path / "a" / "b" / "agent.sock") as path:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    tmp_path.chmod(0o701)
    async with served(FakeAgent(), tmp_path / "agent.sock"):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o701


ASK = """
import os, socket, sys
path, user, group, *groups = sys.argv[1:]
os.setgroups([int(one) for one in groups])
os.setgid(int(group))
os.setuid(int(user))
with socket.socket(socket.AF_UNIX) as client:
    client.connect(path)
    client.sendall(b'{"do":"states"}\\n')
    while data := client.recv(1 << 16):
        os.write(1, data)
"""
"""Asks as another user: the program begins as root, so that it does not matter whose the interpreter is."""

STRANGER, STRANGERS, MEMBERS = 4711, 4712, 4713


@pytest.fixture
async def shared() -> AsyncIterator[Path]:
    """Serve at a socket of the group ``MEMBERS`` in a directory where everybody may go."""
    if os.getuid() or Path("/proc/self/uid_map").read_text().split()[2] == "1":
        pytest.skip("there are no other users here")
    with TemporaryDirectory(dir="/run") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "agent.sock"
        async with anyio.create_task_group() as group:
            await group.start(LocalSocket(path, group=MEMBERS).run, FakeAgent(state("a")))
            yield path
            group.cancel_scope.cancel()


async def ask_as(path: Path, *ids: int) -> tuple[int, str]:
    """Ask for all states as user, group and further groups; return exit code and what was answered, or said."""
    done = await anyio.run_process([sys.executable, "-c", ASK, str(path), *map(str, ids)], check=False)
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).decode()


@pytest.mark.parametrize("ids", [(STRANGER, MEMBERS), (STRANGER, STRANGERS, 9, MEMBERS), (0, 0)], ids=str)
async def test_root_and_the_members_of_its_group_may_ask(shared: Path, ids: tuple[int, ...]) -> None:
    code, answer = await ask_as(shared, *ids)
    assert (code, json.loads(answer.splitlines()[0])["name"]) == (0, "a")


async def test_another_user_cannot_even_connect(shared: Path) -> None:
    code, said = await ask_as(shared, STRANGER, STRANGERS)
    assert code == 1
    assert "PermissionError" in said


async def test_another_user_is_refused_whatever_the_mode(shared: Path) -> None:
    shared.chmod(0o666)
    code, answer = await ask_as(shared, STRANGER, STRANGERS, 9)
    assert code == 0
    [told] = map(json.loads, answer.splitlines())
    assert told == {
        "error": f"permission denied for user {STRANGER}: only root, user 0 and members of group {MEMBERS} have access"
    }


FETCH = """
import asyncio, os, sys
from pathlib import Path
from ifagent.agent_socket import fetch_states
from ifagent.errors import SourceLost
path, user, group = sys.argv[1:]
def fetch():
    try:
        return asyncio.run(fetch_states(Path(path)))
    except SourceLost as error:
        return error
assert "a" in fetch()  # and all is imported while it can be
os.setgroups([])
os.setgid(int(group))
os.setuid(int(user))
print(fetch())
"""


@pytest.mark.parametrize(
    ("mode", "told"),
    [(0o666, f"permission denied for user {STRANGER}: only root, "), (0o660, "permission denied: only root, ")],
)
async def test_a_user_who_is_refused_hears_why(shared: Path, mode: int, told: str) -> None:
    shared.chmod(mode)
    done = await anyio.run_process([sys.executable, "-c", FETCH, str(shared), str(STRANGER), str(STRANGERS)])
    [line] = done.stdout.decode().splitlines()
    assert line.startswith(f"the agent at {shared}: {told}")


async def test_the_socket_of_a_dead_agent_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with served(FakeAgent(state("a")), path):
        assert list(await fetch_states(path)) == ["a"]


async def start_and_fail(path: Path) -> str:
    with pytest.raises(InvalidSettings) as caught:
        await LocalSocket(path).run(FakeAgent())
    return str(caught.value)


async def test_the_socket_of_a_live_agent_is_left_alone(path: Path) -> None:
    async with served(FakeAgent(state("a")), path):
        assert "another agent answers at" in await start_and_fail(path)
        assert list(await fetch_states(path)) == ["a"]


async def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    assert "exists and is not a socket" in await start_and_fail(path)
    assert path.read_text() == "mine"


async def test_a_socket_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot create the socket" in await start_and_fail(tmp_path / "file" / "x.sock")
    assert "cannot create the socket" in await start_and_fail(tmp_path / ("x" * 120))
