"""Options that kinds of store need, such as a user name. Secrets have none: every user could see it in ``ps``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ifagent.stores.contract import Access, StoreBackend
from ifagent.stores.registry import BACKENDS, backend_of

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = tuple(option for backend in BACKENDS for option in backend.options)

STORE_SETTINGS = tuple(option.name for option in _OPTIONS)
"""The names of these options, as a TOML file may set them."""


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Keep an option's value for :func:`store_accesses`, with where it came from."""
    name = str(param.name)
    ctx.meta[name] = value
    ctx.meta[f"{name} source"] = ctx.get_parameter_source(name)


def store_options(command: F) -> F:
    """Add the options; their values are not among the command's parameters but in :func:`store_accesses`."""
    for option in reversed(_OPTIONS):
        command = click.option(
            "--" + option.name.replace("_", "-"),
            type=click.Path(path_type=Path) if option.is_file else str,
            metavar="FILE" if option.is_file else "NAME",
            envvar=f"IFAGENT_{option.name.upper()}",
            show_envvar=True,
            expose_value=False,
            callback=_keep,
            help=option.help,
        )(command)
    return command


def store_accesses(urls: Iterable[str]) -> dict[str, Access]:
    """Return credentials for these stores from the options of the current command, by the names of their kinds.

    A secret in the environment takes precedence over a file that the TOML file names. Raises
    :class:`ifagent.errors.InvalidSettings`, without repeating a secret.
    """
    backends = {backend.name: backend for backend in map(backend_of, urls)}
    accesses = ((name, backend.access(_given(backend))) for name, backend in backends.items())
    return {name: access for name, access in accesses if access is not None}


def _given(backend: StoreBackend) -> dict[str, str | Path | None]:
    meta = click.get_current_context().meta
    given: dict[str, str | Path | None] = {option.name: meta[option.name] for option in backend.options}
    for secret in backend.secrets:
        given[secret.name] = os.environ.get(secret.variable)
        if given[secret.name] and meta[f"{secret.file_option} source"] is ParameterSource.DEFAULT_MAP:
            given[secret.file_option] = None
    return given
