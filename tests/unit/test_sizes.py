"""No module, class or function outgrows what a reader takes in: one that does lacks a concept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ifagent

ROOT = Path(ifagent.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "pb" not in path.parts)  # pb is generated

MODULE, CLASS, FUNCTION = 400, 250, 60
"""Most lines."""


def too_long(text: str) -> Iterator[str]:
    """Yield what in a module's text is too long."""
    if len(text.splitlines()) > MODULE:
        yield "module"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > (CLASS if isinstance(node, ast.ClassDef) else FUNCTION):
                yield node.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_too_long(path: Path) -> None:
    assert list(too_long(path.read_text())) == []


def test_what_is_too_long_is_found() -> None:
    body = "    pass\n" * FUNCTION
    assert list(too_long(f"def f():\n{body}")) == ["f"]
    assert list(too_long(f"async def f():\n{body}")) == ["f"]
    assert list(too_long("class C:\n" + "    x = 1\n" * CLASS)) == ["C"]
    assert list(too_long("\n" * (MODULE + 1))) == ["module"]
