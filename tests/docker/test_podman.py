"""Microservices in podman, which speaks docker's API in its own way: later, and with other names for events."""

from __future__ import annotations

from collections.abc import Iterator

import anyio.to_thread
import pytest
from docker_engine import DockerEngine, Refused, running_podman
from watched import watching

from ifagent.core.namespace_ref import NamespaceType
from ifagent.watchers.containers import ContainerWatcher

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.kernel]


@pytest.fixture
def podman() -> Iterator[DockerEngine]:
    with running_podman() as engine:
        yield engine


async def test_containers_of_podman_are_followed(podman: DockerEngine) -> None:
    do = anyio.to_thread.run_sync
    try:
        first = await do(podman.run, "web")
    except Refused as error:
        pytest.skip(f"podman starts no container here: {error}")
    async with watching(ContainerWatcher([podman.socket]), NamespaceType.MICROSERVICE) as watched:
        watched.want("web", "db")
        await watched.until_at("web", first.namespace)
        await watched.until_said("db", "no container with this label runs")
        second = await do(podman.run, "db")
        await watched.until_at("db", second.namespace)
        await do(first.stop)
        await watched.until_said("web", "no container with this label runs")
        await do(second.restart)
        path = second.path
        await watched.until(lambda: (last := watched.last("db")) and last.path == path)
        await do(second.remove)
        await watched.until_said("db", "no container with this label runs")
