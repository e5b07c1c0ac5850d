"""Reports errors as one sentence on stderr; only bugs show a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, NoReturn

import click

from ifagent.cli.output import complain
from ifagent.errors import AgentBug, IfagentError, InvalidSettings, MissingRights
from ifagent.visible import visible

EXIT_FAILED = 1
EXIT_USAGE = 2

RIGHTS = "root, or CAP_NET_ADMIN and CAP_SYS_ADMIN"


class Failure(click.ClickException):
    """Ends the command with a message of one or several lines and exit code 1."""

    exit_code = EXIT_FAILED

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, without click's usage lines."""
        for line in self.lines:
            if file is None:
                complain(f"ifagent: {line}")
            else:
                click.echo(f"ifagent: {visible(line)}", file=file)


class UsageFailure(Failure):
    """Ends the command with a message and exit code 2."""

    exit_code = EXIT_USAGE


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn errors that a user can cause into :class:`Failure`; a closed stdout ends the command with 0."""
    try:
        yield
    except (IfagentError, OSError) as error:
        _end(error)
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        if not all(isinstance(leaf, IfagentError | OSError) for leaf in leaves):
            raise
        _end(leaves[0])


def _end(error: BaseException) -> NoReturn:
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        raise click.exceptions.Exit(0)
    if isinstance(error, AgentBug):
        raise error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        hint = "" if where or error.errno != errno.EPERM else f", this needs {RIGHTS}"
        raise Failure(f"{where}{error.strerror or error}{hint}") from error
    # An error may quote a line feed from outside; those in a message of missing rights are our own.
    lines = str(error).split("\n") if isinstance(error, MissingRights) else [str(error)]
    raise (UsageFailure if isinstance(error, InvalidSettings | MissingRights) else Failure)(*lines) from error


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _silence_stdout() -> None:
    """Keep the interpreter from reporting, when it flushes at exit, that the pipe is closed."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
