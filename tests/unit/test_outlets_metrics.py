"""Metrics of an agent that is run from a source tree, which no package tells the version of."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from agent_view import FakeAgent

from ifagent import statistics
from ifagent.outlets.metrics import Metrics


def test_an_agent_that_was_never_installed_has_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", unknown)
    _, pieces = Metrics(FakeAgent().statistics).write()
    assert b'ifagent_build_info{version=""} 1.0' in b"".join(pieces)
    assert statistics.build_version() == ""
