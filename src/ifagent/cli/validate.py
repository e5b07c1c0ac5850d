"""``ifagent validate``: check files of interfaces without applying them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ifagent.cli.failures import Failure
from ifagent.cli.output import complain, say
from ifagent.core.desired import Desired
from ifagent.core.interface import Interface
from ifagent.core.link import NsId
from ifagent.core.names import Name
from ifagent.core.observed import Observed
from ifagent.core.ownership import Owner
from ifagent.core.planner import plan
from ifagent.core.state import ConfigState
from ifagent.errors import BrokenFile, InvalidSettings
from ifagent.formats.interface_files import Entry, list_files, read_interfaces


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in files: valid interfaces by name, errors and warnings, and the number of entries by file."""

    interfaces: dict[Name, Interface]
    errors: list[str]
    warnings: list[str]
    counts: dict[Path, int]


@click.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def command(files: tuple[Path, ...]) -> None:
    """Check files of interfaces, or directories of them, without applying them.

    Every error names file, line, interface and field. The files are checked together: two interfaces with the same
    namespace and host name are an error too.
    """
    checked = check_files(files)
    for warning in checked.warnings:
        complain(f"warning: {warning}")
    for error in checked.errors:
        say(error)
    if checked.errors:
        raise Failure(f"{len(checked.errors)} {'error' if len(checked.errors) == 1 else 'errors'}")
    for path, count in checked.counts.items():
        say(f"{path}: ok, {count} {'interface' if count == 1 else 'interfaces'}")


def check_files(paths: Sequence[Path]) -> Checked:
    """Read and check files and directories together.

    Raises :class:`InvalidSettings` for one that does not exist.
    """
    checked = Checked({}, [], [], {})
    first: dict[Name, str] = {}
    for path in _files(paths):
        try:
            entries = read_interfaces(path).entries
        except BrokenFile as error:
            checked.errors.append(str(error))
            continue
        checked.counts[path] = len(entries)
        for entry in entries:
            where = f"{path}: {entry.place}"
            _check(entry, where, checked)
            name = entry.declaration.key.name
            if name in first:
                checked.errors.append(f"{where}: {name}: name: already used, see {first[name]}")
            first.setdefault(name, where)
    checked.errors.extend(_contradictions(checked.interfaces.values()))
    return checked


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            yield from list_files(path)
        except OSError as error:
            raise InvalidSettings(f"{path}: {error.strerror or error}") from None


def _check(entry: Entry, where: str, checked: Checked) -> None:
    declaration = entry.declaration
    # An interface without a usable name is named after its file, which the message has already.
    name = (
        "" if declaration.errors and declaration.key.name.endswith(f"[{entry.index}]") else f"{declaration.key.name}: "
    )
    checked.errors.extend(f"{where}: {name}{error}" for error in declaration.errors)
    checked.warnings.extend(f"{where}: {name}{warning}" for warning in declaration.warnings)
    if declaration.interface is not None:
        checked.interfaces.setdefault(declaration.key.name, declaration.interface)


def _contradictions(interfaces: Iterable[Interface]) -> Iterator[str]:
    """Yield the conflicts between interfaces that the planner finds on a host without links."""
    nowhere = NsId(1)
    observed = Observed(own=nowhere, namespaces={}, links={nowhere: {}})
    desired = Desired({interface.name: interface for interface in interfaces})
    for key, verdict in sorted(plan(desired, observed, Owner("validate")).verdicts.items()):
        obstacle = verdict.obstacle
        if obstacle is not None and obstacle.config_state is ConfigState.INVALID:
            field = f"{obstacle.field}: " if obstacle.field else ""
            yield f"{key.name}: {field}{obstacle.reason}"
