"""What every test has: the asyncio backend, a private network, and nothing global."""

from __future__ import annotations

import os

import private
import pytest
from patience import PATIENCE

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_NO_KERNEL = private.enter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a kernel where there is none to be had, which in CI is a failure; have patience."""
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0] if marker else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(seconds * PATIENCE), append=False)
    if _NO_KERNEL and not os.environ.get("CI"):
        for item in items:
            if item.get_closest_marker("kernel"):
                item.add_marker(pytest.mark.skip(reason=_NO_KERNEL))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every asynchronous test on asyncio, the one backend that the agent supports."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _all_log_lines() -> None:
    """Have every test begin as if nothing had been logged: what others said often is not left out of its log."""
    from ifagent.log import limiter

    limiter.forget()
