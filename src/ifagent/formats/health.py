"""How an agent is, as clients of ligato v1.4.1 read it: its ``AgentStatus``, in JSON with snake_case keys.

Numbers stand for states, zero values are left out. ``problems`` is ifagent's own; other readers ignore it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from ifagent.visible import json_bytes


class OperationalState(IntEnum):
    """How an agent, or a part of it, is."""

    INIT = 0
    OK = 1
    ERROR = 2


def encode_health(
    *,
    state: OperationalState,
    start_time: float,
    last_change: float,
    last_update: float,
    problems: Sequence[str] = (),
    build_version: str = "",
) -> bytes:
    """Return what is published. Times are Unix seconds, told as whole ones; ``problems`` are sentences."""
    fields = {
        "build_version": build_version,
        "state": int(state),
        "start_time": int(start_time),
        "last_change": int(last_change),
        "last_update": int(last_update),
        "problems": list(problems),
    }
    return json_bytes({key: value for key, value in fields.items() if value})
