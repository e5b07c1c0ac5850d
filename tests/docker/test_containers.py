"""Microservices in a real docker daemon: every statement about them, exactly once each."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import pytest
from docker_engine import Box, DockerEngine
from spawned import open_files
from watched import Watched, until_true, watching

from ifagent.core.events import NamespaceSeen
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.nsfs import own_namespace
from ifagent.watchers.containers import ContainerWatcher

pytest_plugins = ["docker_fixtures"]
pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.kernel]

T = TypeVar("T")

OTHER_PROC = Path("/proc/self/root/proc")
"""The same processes under another name: as for an agent that is given the host's."""

NOT_RUNNING = "no container with this label runs"


@asynccontextmanager
async def following(docker: DockerEngine | Path, **options: Any) -> AsyncIterator[Watched]:
    """Run a watcher, which must leave no file open."""
    before = open_files()
    socket = docker.socket if isinstance(docker, DockerEngine) else docker
    async with watching(ContainerWatcher([socket], **options), NamespaceType.MICROSERVICE) as watched:
        yield watched
    await until_true(lambda: open_files() == before)


async def do(what: Callable[..., T], *words: Any, **fields: Any) -> T:
    """Do something that blocks, while the watcher goes on."""
    return await anyio.to_thread.run_sync(partial(what, *words, **fields))


def ref(label: str) -> NamespaceRef:
    return NamespaceRef(NamespaceType.MICROSERVICE, label)


def at(box: Box, label: str = "web", *, proc: str = "/proc") -> NamespaceSeen:
    """Return what is to be said while a container runs."""
    return NamespaceSeen(ref(label), NsId(box.namespace), f"{proc}/{box.pid}/ns/net")


def gone(label: str = "web") -> NamespaceSeen:
    return NamespaceSeen(ref(label), None, problem=NOT_RUNNING)


def away(docker: DockerEngine, why: str, label: str = "web") -> NamespaceSeen:
    problem = f"cannot reach the container engine ({docker.socket}: {why})"
    return NamespaceSeen(ref(label), None, problem=problem)


async def until_last(watched: Watched, event: NamespaceSeen) -> None:
    await watched.until(lambda: watched.last(event.ref.reference) == event)


async def all_said(watched: Watched, docker: DockerEngine, label: str = "web") -> list[NamespaceSeen]:
    """Return all that was said of a label, once everything that happened before has been heard."""
    watched.want(label, "last")
    box = await do(docker.run, "last")
    await watched.until_at("last", box.namespace)
    return watched.of(label)


def places(said: list[NamespaceSeen]) -> list[str]:
    """Return the paths that were said, whatever the reasons in between were."""
    paths = [event.path for event in said]
    return [path for index, path in enumerate(paths) if index == 0 or path != paths[index - 1]]


# Life of a container


async def test_a_container_that_runs_before_it_is_wanted_is_found(docker: DockerEngine) -> None:
    box = await do(docker.run, "web")
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, at(box))
        assert await all_said(watched, docker) == [at(box)]


async def test_a_container_is_found_when_it_starts(docker: DockerEngine) -> None:
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, gone())
        box = await do(docker.create, "web")
        assert await all_said(watched, docker) == [gone()]
        await do(box.start)
        await until_last(watched, at(box))
        assert await all_said(watched, docker) == [gone(), at(box)]


async def test_what_is_wanted_later_is_found_among_what_runs(docker: DockerEngine) -> None:
    boxes = {label: await do(docker.run, label) for label in ("web", "db", "cache")}
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, at(boxes["web"]))
        watched.want("web", "db", "none")
        await until_last(watched, at(boxes["db"], "db"))
        assert watched.of("none") == [gone("none")]
        watched.want("cache")
        await until_last(watched, at(boxes["cache"], "cache"))
        assert [event.ref.reference for event in watched.said].count("web") == 1
        watched.want("web")
        await watched.until(lambda: len(watched.of("web")) == 2)
        assert watched.of("web") == [at(boxes["web"])] * 2


@pytest.mark.parametrize("how", [Box.stop, Box.kill, Box.remove, Box.run_out_of_memory])
@pytest.mark.parametrize("proc", ["/proc", str(OTHER_PROC)])
async def test_the_end_of_a_container_is_said_once(docker: DockerEngine, how: Callable[[Box], None], proc: str) -> None:
    box = await do(docker.run, "web", memory=8 << 20)
    async with following(docker, proc_root=Path(proc)) as watched:
        watched.want("web")
        here = at(box, proc=proc)
        await until_last(watched, here)
        await do(how, box)
        await until_last(watched, gone())
        assert await all_said(watched, docker) == [here, gone()]


@pytest.mark.parametrize("proc", ["/proc", str(OTHER_PROC)])
async def test_a_restart_is_followed_to_the_new_process(docker: DockerEngine, proc: str) -> None:
    box = await do(docker.run, "web")
    async with following(docker, proc_root=Path(proc)) as watched:
        watched.want("web")
        runs = [at(box, proc=proc)]
        await until_last(watched, runs[0])
        for _ in range(3):
            await do(box.restart)
            runs.append(at(box, proc=proc))
            await until_last(watched, runs[-1])
        said = await all_said(watched, docker)
        if proc == "/proc":
            assert said == [runs[0], gone(), runs[1], gone(), runs[2], gone(), runs[3]]
        else:
            # Docker may have started it again before it can be asked about the end.
            assert [event for event in said if event.id] == runs


async def test_a_container_that_docker_starts_again_by_itself(docker: DockerEngine) -> None:
    box = await do(docker.run, "web", restart="always")
    async with following(docker) as watched:
        watched.want("web")
        before = at(box)
        await until_last(watched, before)
        os.kill(box.pid, signal.SIGKILL)
        await watched.until(lambda: watched.where("web") and watched.last("web") != before)
        assert await all_said(watched, docker) == [before, gone(), at(box)]


async def test_a_new_container_of_the_same_label_takes_the_place(docker: DockerEngine) -> None:
    old = await do(docker.run, "web")
    async with following(docker) as watched:
        watched.want("web")
        before = at(old)
        await until_last(watched, before)
        await do(old.remove)
        new = await do(docker.run, "web")
        await until_last(watched, at(new))
        assert await all_said(watched, docker) == [before, gone(), at(new)]


async def test_of_two_with_one_label_the_later_counts_and_the_other_takes_over(docker: DockerEngine) -> None:
    first = await do(docker.run, "web")
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, at(first))
        second = await do(docker.run, "web")
        of_first, of_second = at(first), at(second)
        await until_last(watched, of_second)
        await do(second.kill)
        await until_last(watched, of_first)
        await do(second.start)
        again = at(second)
        await until_last(watched, again)
        await do(first.kill)
        assert await all_said(watched, docker) == [of_first, of_second, of_first, again]


async def test_of_two_that_run_already_the_later_counts(docker: DockerEngine) -> None:
    first, second = await do(docker.run, "web"), await do(docker.run, "web")
    await do(first.restart)
    async with following(docker) as watched:
        watched.want("web")
        await watched.until(lambda: watched.where("web"))
        assert await all_said(watched, docker) == [at(first)]
        assert second.pid


async def test_what_does_not_change_the_namespace_is_not_told(docker: DockerEngine) -> None:
    box = await do(docker.run, "web")
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, at(box))
        await do(box.execute, "/bin/busybox", "true")
        await do(box.pause)
        await do(box.unpause)
        await do(docker.run, "other")
        await do(docker.run)
        assert await all_said(watched, docker) == [at(box)]


# The label


async def test_the_label_may_be_a_container_label(docker: DockerEngine) -> None:
    box = await do(docker.run, labels={"ifagent.microservice": "web"})
    other = await do(docker.run, labels={"my.label": "web"})
    for options, expected in (({}, box), ({"container_label": "my.label"}, other)):
        async with following(docker, **options) as watched:
            watched.want("web")
            await until_last(watched, at(expected))


async def test_the_environment_counts_before_the_container_label(docker: DockerEngine) -> None:
    box = await do(docker.run, "web", labels={"ifagent.microservice": "db"})
    async with following(docker) as watched:
        watched.want("web", "db")
        await until_last(watched, at(box))
        await until_last(watched, gone("db"))


async def test_the_variable_may_have_another_name(docker: DockerEngine) -> None:
    environment = ("MICROSERVICE_LABEL=db", "SERVICE_LABELS=db", "XSERVICE_LABEL=db")
    box = await do(docker.run, "web", variable="SERVICE_LABEL", environment=environment)
    async with following(docker, variable="SERVICE_LABEL") as watched:
        watched.want("web", "db")
        await until_last(watched, at(box))
        await until_last(watched, gone("db"))


@pytest.mark.parametrize("label", ["with space", "a=b", "käse/größe", "x" * 4096])
async def test_a_label_may_be_any_text(docker: DockerEngine, label: str) -> None:
    box = await do(docker.run, label)
    async with following(docker) as watched:
        watched.want(label)
        await until_last(watched, at(box, label))


async def test_a_container_in_the_network_of_the_host_is_where_the_agent_is(docker: DockerEngine) -> None:
    box = await do(docker.run, "web", network="host")
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, at(box))
        assert watched.where("web") == own_namespace()


# The daemon


async def test_containers_that_outlive_a_killed_daemon_stay_where_they_are(own_docker: DockerEngine) -> None:
    own_docker.live_restore = True
    await do(own_docker.start)
    staying, ending = await do(own_docker.run, "web"), await do(own_docker.run, "db")
    async with following(own_docker) as watched:
        watched.want("web", "db", "none")
        said = [at(staying)]
        await until_last(watched, said[0])
        await until_last(watched, at(ending, "db"))
        pid = ending.pid
        await do(own_docker.kill)
        await until_last(watched, away(own_docker, "Connection refused", "none"))
        os.kill(pid, signal.SIGKILL)
        await until_last(watched, away(own_docker, "Connection refused", "db"))
        await do(own_docker.start)
        await until_last(watched, gone("none"))
        await until_last(watched, gone("db"))
        await do(staying.restart)
        said += [gone(), at(staying)]
        assert await all_said(watched, own_docker) == said


async def test_containers_that_end_with_a_killed_daemon_are_found_again(own_docker: DockerEngine) -> None:
    await do(own_docker.start)
    box = await do(own_docker.run, "web")
    async with following(own_docker) as watched:
        watched.want("web")
        before = at(box)
        await until_last(watched, before)
        for _ in range(2):
            await do(own_docker.kill)
            await do(own_docker.start)
            await until_last(watched, gone())
            await do(box.start)
            await until_last(watched, at(box))
        said = await all_said(watched, own_docker)
        assert len(places(said)) == 5
        assert (said[0], said[-1]) == (before, at(box))


async def test_a_daemon_that_is_restarted_brings_its_containers_back(own_docker: DockerEngine) -> None:
    await do(own_docker.start)
    box = await do(own_docker.run, "web", restart="always")
    async with following(own_docker) as watched:
        watched.want("web")
        before = at(box)
        await until_last(watched, before)
        await do(own_docker.stop)
        await until_last(watched, away(own_docker, "No such file or directory"))
        await do(own_docker.start)
        await until_true(lambda: box.pid)
        await until_last(watched, at(box))
        said = await all_said(watched, own_docker)
        assert places(said) == [before.path, "", at(box).path]


async def test_a_daemon_may_come_later(own_docker: DockerEngine) -> None:
    async with following(own_docker) as watched:
        watched.want("web")
        await until_last(watched, away(own_docker, "No such file or directory"))
        own_docker.socket.touch()
        await until_last(watched, away(own_docker, "Connection refused"))
        await do(own_docker.start)
        await until_last(watched, gone())
        box = await do(own_docker.run, "web")
        await until_last(watched, at(box))
        said = await all_said(watched, own_docker)
        assert said[-2:] == [gone(), at(box)]
        # Docker removes the file before it makes its socket.
        assert len(said) <= 5


async def test_the_end_of_a_container_is_noticed_before_its_daemon_says_so(own_docker: DockerEngine) -> None:
    await do(own_docker.start)
    box = await do(own_docker.run, "web")
    async with following(own_docker) as watched:
        watched.want("web")
        before, pid = at(box), box.pid
        await until_last(watched, before)
        own_docker.pause()
        os.kill(pid, signal.SIGKILL)
        await until_last(watched, gone())
        own_docker.resume()
        await until_true(lambda: not box.pid)
        await do(box.start)
        await until_last(watched, at(box))
        assert await all_said(watched, own_docker) == [before, gone(), at(box)]


async def test_without_pidfds_the_end_is_noticed_while_the_daemon_is_away(own_docker: DockerEngine) -> None:
    await do(own_docker.start)
    box = await do(own_docker.run, "web")
    async with following(own_docker, proc_root=OTHER_PROC) as watched:
        watched.want("web")
        before, pid = at(box, proc=str(OTHER_PROC)), box.pid
        await until_last(watched, before)
        await do(own_docker.kill)
        os.kill(pid, signal.SIGKILL)
        await until_last(watched, away(own_docker, "Connection refused"))
        assert watched.said == [before, away(own_docker, "Connection refused")]


async def test_two_daemons_are_followed_at_once(docker: DockerEngine, own_docker: DockerEngine) -> None:
    watcher = ContainerWatcher([docker.socket, own_docker.socket])
    async with watching(watcher, NamespaceType.MICROSERVICE) as watched:
        watched.want("web", "db")
        await until_last(watched, gone())
        first = await do(docker.run, "web")
        await do(own_docker.start)
        second, other = await do(own_docker.run, "web"), await do(own_docker.run, "db")
        await until_last(watched, at(second))
        await until_last(watched, at(other, "db"))
        said = [gone(), at(first), at(second), at(first)]
        await do(own_docker.kill)
        os.kill(int(Path(said[2].path).parts[2]), signal.SIGKILL)
        await until_last(watched, at(first))
        assert await all_said(watched, docker) == said


# What is open


async def test_a_daemon_is_connected_to_only_while_something_is_wanted(docker: DockerEngine) -> None:
    box = await do(docker.run, "web")
    before = open_files()
    async with following(docker) as watched:
        await do(docker.run)
        assert open_files() == before
        expected = []
        for _ in range(5):
            watched.want("web")
            expected.append(at(box))
            await watched.until(lambda: watched.of("web") == expected)
            assert len(open_files()) > len(before)
            watched.want()
            await until_true(lambda: open_files() == before)


async def test_a_container_that_is_not_wanted_any_more_is_let_go_of(docker: DockerEngine) -> None:
    boxes = [await do(docker.run, label) for label in ("web", "db")]
    async with following(docker) as watched:
        watched.want("web")
        await until_last(watched, at(boxes[0]))

        def pidfds() -> int:
            return sum("pidfd" in str(Path(entry).readlink()) for entry in os.scandir("/proc/self/fd"))

        before = pidfds()
        watched.want("web", "db")
        await until_last(watched, at(boxes[1], "db"))
        assert pidfds() == before + 1
        watched.want("web")
        await until_true(lambda: pidfds() == before)


async def test_it_can_be_run_again(docker: DockerEngine) -> None:
    box = await do(docker.run, "web")
    watcher = ContainerWatcher([docker.socket])
    watcher.want(frozenset({ref("web")}))
    for _ in range(2):
        async with watching(watcher, NamespaceType.MICROSERVICE) as watched:
            await until_last(watched, at(box))
            assert watched.said == [at(box)]
