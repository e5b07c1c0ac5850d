"""What every test has: the asyncio backend, and nothing global."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every asynchronous test on asyncio, the one backend that the agent supports."""
    return "asyncio"
