"""Fixtures with a real docker daemon.

A test module says ``pytest_plugins = ["docker_fixtures"]`` and asks for ``docker`` (one daemon for the module, without
containers at the start of every test) or ``own_docker`` (a daemon that has not been started yet, and that the test may
stop, kill or pause).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker_engine import DockerEngine, running


@pytest.fixture(scope="module")
def _docker_of_module() -> Iterator[DockerEngine]:
    with running() as engine:
        yield engine


@pytest.fixture
def docker(_docker_of_module: DockerEngine) -> Iterator[DockerEngine]:
    try:
        yield _docker_of_module
    finally:
        _docker_of_module.remove_all()


@pytest.fixture
def own_docker() -> Iterator[DockerEngine]:
    with running(start=False) as engine:
        yield engine
