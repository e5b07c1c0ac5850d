"""Options for a store in etcd that asks who one is. There is none for a password: every user could see it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ifagent.etcd.access import Access

PASSWORD_VARIABLE = "IFAGENT_ETCD_PASSWORD"  # noqa: S105 the name of a variable, not a password

F = TypeVar("F", bound=Callable[..., Any])

_HELP = {
    "etcd_user": ("NAME", f"The user in etcd; the password is in a file or in {PASSWORD_VARIABLE}."),
    "etcd_password_file": ("FILE", "A file with the password of the user in etcd."),
    "etcd_ca": ("FILE", "The authorities that may sign the certificate of an etcds:// store, PEM."),
    "etcd_cert": ("FILE", "The client certificate for an etcds:// store, PEM."),
    "etcd_key": ("FILE", "The client certificate's key, PEM."),
}

ETCD_SETTINGS = tuple(_HELP)
"""The names of these options, as a TOML file may set them."""


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Put an option aside for :func:`etcd_access`, with where it came from."""
    name = str(param.name)
    ctx.meta[name] = value
    ctx.meta[f"{name} source"] = ctx.get_parameter_source(name)


def etcd_options(command: F) -> F:
    """Add the options; their values are not among the command's parameters but in :func:`etcd_access`."""
    for name, (metavar, text) in reversed(_HELP.items()):
        command = click.option(
            "--" + name.replace("_", "-"),
            type=str if metavar == "NAME" else click.Path(path_type=Path),
            metavar=metavar,
            envvar=f"IFAGENT_{name.upper()}",
            show_envvar=True,
            expose_value=False,
            callback=_keep,
            help=text,
        )(command)
    return command


def etcd_access() -> Access:
    """Return what the options of the command that runs say of access to etcd, with every file read once.

    A password in the environment counts before a file that the TOML file names, as usual. Raises
    :class:`ifagent.errors.InvalidSettings`, without repeating a secret.
    """
    given = click.get_current_context().meta
    password, password_file = os.environ.get(PASSWORD_VARIABLE, ""), given["etcd_password_file"]
    if password and given["etcd_password_file source"] is ParameterSource.DEFAULT_MAP:
        password_file = None
    access = Access(
        user=given["etcd_user"] or "",
        password=password,
        password_file=password_file,
        ca=given["etcd_ca"],
        cert=given["etcd_cert"],
        key=given["etcd_key"],
    )
    access.check()
    return access
