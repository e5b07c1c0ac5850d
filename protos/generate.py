# ruff: noqa: INP001 - a script beside the contracts it reads, not part of a package
"""Generate ``src/ifagent/formats/pb`` from the contracts in this folder.

::

    python protos/generate.py              # write the generated code where it is committed
    python protos/generate.py FOLDER       # write it somewhere else
    python protos/generate.py --check      # say what differs from the committed code; exit 1 if anything does

Needs the dependency group ``protos``. The output depends only on the contracts and on the version of
betterproto2-compiler, which it names; a user's or project's ruff settings do not reach it.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
COMMITTED = PROTOS.parent / "src" / "ifagent" / "formats" / "pb"
OPTIONS = "pydantic_dataclasses,client_generation=none"
RUFF_SETTINGS = 'line-length = 120\ntarget-version = "py311"\n'

CORRECTIONS = {
    # The compiler leaves the one type out that type checkers then have to guess.
    "_pool = ": "_pool: betterproto2.MessagePool = ",
    # pydantic warns of a validator of the whole that is written as a class method.
    "def check_oneof(cls, values):\n        return cls._validate_field_groups(values)": (
        'def check_oneof(self) -> "typing.Self":\n        return self._validate_field_groups(self)'
    ),
}


class GenerationFailed(Exception):
    """The compiler refused; the message is what it said."""


def generate(folder: Path) -> list[Path]:
    """Replace ``folder`` with the generated code; returns its files, relative to it and sorted.

    Raises :class:`GenerationFailed` with the compiler's words.
    """
    bin_folder = Path(sys.executable).parent
    contracts = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as temporary:
        # The compiler formats with the `ruff` on PATH, which takes its settings from the working directory.
        (Path(temporary) / "ruff.toml").write_text(RUFF_SETTINGS)
        out = Path(temporary) / "out"
        out.mkdir()
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PROTOS}",
            f"--plugin=protoc-gen-python_betterproto2={bin_folder / 'protoc-gen-python_betterproto2'}",
            f"--python_betterproto2_out={out}",
            f"--python_betterproto2_opt={OPTIONS}",
            *contracts,
        ]
        done = subprocess.run(  # noqa: S603 the command is made of our own constants
            command, cwd=temporary, env={"PATH": str(bin_folder)}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise GenerationFailed(done.stderr.strip() or f"protoc ended with exit code {done.returncode}")
        for path in out.rglob("*.py"):
            path.write_text(_corrected(path.read_text()))
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(out, folder)
    return generated_files(folder)


def _corrected(code: str) -> str:
    for wrong, right in CORRECTIONS.items():
        code = code.replace(wrong, right)
    return code


def generated_files(folder: Path) -> list[Path]:
    """List the files below ``folder``, relative to it and sorted, without Python's caches."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts)


def differences(one: Path, other: Path) -> list[Path]:
    """List the files, relative to both folders, that are not the same in both."""
    return [
        path
        for path in sorted({*generated_files(one), *generated_files(other)})
        if not (one / path).is_file()
        or not (other / path).is_file()
        or (one / path).read_bytes() != (other / path).read_bytes()
    ]


def main() -> int:
    """Run as a script; returns the exit code."""
    parser = argparse.ArgumentParser(description="Generate the protobuf messages from the contracts.")
    parser.add_argument("folder", nargs="?", type=Path, default=COMMITTED)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the folder is out of date")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    try:
        if not arguments.check:
            generate(folder)
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            fresh = Path(temporary) / "pb"
            generate(fresh)
            stale = differences(fresh, folder)
    except GenerationFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in stale:
        sys.stderr.write(f"{folder / path} is not what the contracts generate; run python protos/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
