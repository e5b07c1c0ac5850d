"""Fixtures with a real etcd.

A test module says ``pytest_plugins = ["etcd_fixtures"]`` and asks for ``etcd`` (one server for the module, with a
fresh ``label`` for every test) or ``own_etcd`` (a server that the test may stop, pause or break).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_server import EtcdServer, running


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with running(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def label() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"
