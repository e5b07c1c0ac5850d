"""The fixture ``rig``: every test that asks for it runs on the simulated kernel and on Linux.

A test module says ``pytest_plugins = ["kernel_fixtures"]``. Namespaces of the Linux kernel are kept in a directory
of the test's own, and taken away after it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kernel_rig import Rig, SimulatedExternal, linux_rig

from ifagent.kernel.simulated import SimulatedKernel


@pytest.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.kernel)])
def kernel_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def rig(kernel_kind: str, tmp_path: Path) -> AsyncIterator[Rig]:
    if kernel_kind == "simulated":
        kernel = SimulatedKernel()
        async with Rig(kernel, SimulatedExternal(kernel)) as running:
            yield running
    else:
        async with linux_rig(tmp_path) as running:
            yield running
