"""The fixture ``lab``; a module says ``pytest_plugins = ["etcd_fixtures", "lab_fixtures"]``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from lab import Lab, lab_in


@pytest.fixture
def lab(etcd: EtcdServer, label: str, tmp_path: Path) -> Iterator[Lab]:
    with lab_in(etcd, label, tmp_path) as one:
        yield one
