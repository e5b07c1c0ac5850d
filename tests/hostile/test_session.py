"""The session ``hostile`` is part of what a change has to pass."""

from __future__ import annotations

from pathlib import Path


def test_the_session_is_run_by_default() -> None:
    noxfile = Path(__file__).parents[2] / "noxfile.py"
    defaults = noxfile.read_text(encoding="utf-8").split("nox.options.sessions", 1)[1].split("]", 1)[0]
    assert '"hostile"' in defaults
