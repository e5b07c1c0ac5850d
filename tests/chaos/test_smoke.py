"""A short chaos with a fixed seed, without containers: that all of it works; ``nox -s chaos`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.harness import Harness
from chaos.script import Mix, Script
from chaos.stage import stage
from etcd_server import need_etcd

pytestmark = [pytest.mark.kernel, pytest.mark.etcd, pytest.mark.timeout(300)]

SEED = 20


def test_a_few_rounds_of_chaos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_etcd()
    with stage(tmp_path, None) as real:
        harness = Harness(real, Script(SEED, Mix()), tmp_path / "actions.log")
        with capsys.disabled():
            harness.run(rounds=6)
        assert harness.account.checks == 6
        harness.act(harness.script.clear())
        seen = harness.check()
    assert not seen.states
    assert not [link for link in seen.links if link.alias]
