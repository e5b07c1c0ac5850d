"""docs/architecture.md and CONTRIBUTING.md name files and sessions that are there; every folder is told."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/ifagent"


def paths(document: str) -> set[str]:
    """Return the paths that a document names in full; NAME stands for one that is to be made."""
    named = re.findall(r"`((?:src|tests|docs|protos|examples)/[^` ]*|[a-z.]+\.toml)`", (ROOT / document).read_text())
    return {path for path in named if "NAME" not in path}


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_is_there(document: str) -> None:
    named = paths(document)
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md", "README.md"])
def test_every_link_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text())
    assert links
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def test_every_folder_is_told() -> None:
    folders = {folder for folder in SOURCE.iterdir() if (folder / "__init__.py").exists()}
    assert folders <= {ROOT / path for path in paths("docs/architecture.md")}


def test_every_folder_of_tests_is_told() -> None:
    folders = {folder.name for folder in (ROOT / "tests").iterdir() if any(folder.glob("*.py"))}
    assert folders <= {path.split("/")[1] for path in paths("CONTRIBUTING.md") if path.startswith("tests/")}


def test_the_sessions_are_those_of_nox() -> None:
    made = set(re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    before, _ = (ROOT / "CONTRIBUTING.md").read_text().split("### Which tests")
    rows = re.findall(r"^\| (`[^|]*) \|", before, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == made


def test_every_module_has_tests_that_cover_it() -> None:
    rows = re.findall(r"^\| (`.+`) \| (`tests/.+`) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    covered = [pattern for files, _ in rows for pattern in re.findall(r"`([^`]+)`", files)]
    modules = {str(path.relative_to(SOURCE).with_suffix("")): path for path in SOURCE.rglob("*.py")}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("*/test_*.py")}
    uncovered = [
        module
        for module, path in sorted(modules.items())
        if not path.stem.startswith("__")
        and "formats/pb/" not in module
        and not {path.stem, module.replace("/", "_")} & tested
        and not any(fnmatch(module, pattern) for pattern in covered)
    ]
    assert uncovered == []
    assert [pattern for pattern in covered if not any(fnmatch(module, pattern) for module in modules)] == []
