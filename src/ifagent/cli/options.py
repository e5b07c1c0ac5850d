"""Options that several commands share. Flags take precedence over the environment, and that over the TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click

from ifagent.agent_socket import SOCKET_DIRECTORY
from ifagent.cli.store_options import STORE_SETTINGS, store_options
from ifagent.errors import InvalidSettings
from ifagent.stores.registry import BACKENDS, split_urls

DEFAULT_STORE = "etcd://127.0.0.1:2379"
DEFAULT_LABEL = "vpp1"

SETTINGS = (
    "store",
    "label",
    "socket",
    "log_level",
    "log_format",
    "netns_dir",
    "resync_interval",
    "counters",
    "proc_root",
    "container_socket",
    "microservice_variable",
    "drift",
    "allow_namespace",
    "allow_existing",
    "allow_tap",
    "allow_host_network",
    "runtime_dir",
    "max_interfaces",
    "max_namespaces",
    "http",
    "http_public",
    "private_mounts",
    "state_dir",
    "socket_group",
    *STORE_SETTINGS,
)
"""Settings that a TOML file may have; ``-`` and ``_`` are equivalent there."""

SEVERAL = {
    "store": "stores",
    "container_socket": "container_sockets",
    "allow_namespace": "allow_namespaces",
    "allow_existing": "allow_existing",
    "allow_tap": "allow_taps",
    "allow_host_network": "allow_host_networks",
}
"""Settings that may be a list there, and the parameter that takes it."""

FLAGS = ("http_public", "private_mounts")
"""Settings that are true or false there."""

F = TypeVar("F", bound=Callable[..., Any])


class StoreType(click.types.StringParamType):
    """A store's URL; the environment may hold several, separated by white space."""

    name = "store"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split where a new URL begins: a path may have white space in it."""
        return split_urls(rv)


def _first_store(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Use the first of several stores of an agent, which takes precedence over the others."""
    return split_urls(value)[0] if value else value


def _read_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror or error}") from None
    defaults: dict[str, Any] = {}
    for key, value in found.items():
        setting = key.replace("-", "_")
        if setting not in SETTINGS:
            close = get_close_matches(setting, SETTINGS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else f"; known settings are {', '.join(SETTINGS)}"
            raise InvalidSettings(f"{path}: unknown setting {key!r}{hint}")
        values = value if isinstance(value, list) and setting in SEVERAL else [value]
        refused = dict | list if setting in FLAGS else bool | dict | list
        if not values or any(isinstance(one, refused) for one in values):
            raise InvalidSettings(f"{path}: invalid value for {key!r}: {value!r}")
        defaults[setting] = values[0]
        if setting in SEVERAL:
            defaults[SEVERAL[setting]] = values
    ctx.default_map = defaults


def _config(command: F) -> F:
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="IFAGENT_CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="A TOML file with values for these options.",
    )(command)


def _store(*, several: bool) -> Callable[[F], F]:
    return click.option(
        "--store",
        "stores" if several else "store",
        type=StoreType(),
        multiple=several,
        callback=None if several else _first_store,
        default=[DEFAULT_STORE] if several else DEFAULT_STORE,
        envvar="IFAGENT_STORE",
        show_envvar=True,
        show_default=True,
        metavar="STORE",
        help=f"Where interfaces are declared: {', or '.join(backend.help for backend in BACKENDS)}."
        + (" May be repeated; earlier stores take precedence." if several else ""),
    )


_label = click.option(
    "--label",
    default=DEFAULT_LABEL,
    envvar=["IFAGENT_LABEL", "MICROSERVICE_LABEL"],
    show_envvar=True,
    show_default=True,
    help="The agent's name in the store and in the kernel.",
)

_socket = click.option(
    "--socket",
    type=click.Path(path_type=Path, readable=False),  # connecting to it fails with a better message
    envvar="IFAGENT_SOCKET",
    show_envvar=True,
    help=f"The agent's unix socket.  [default: {SOCKET_DIRECTORY}/LABEL.sock]",
)

_log_level = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="IFAGENT_LOG_LEVEL",
    show_envvar=True,
    show_default=True,
    help="The lowest level to log to stderr.",
)

_log_format = click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    default="console",
    envvar="IFAGENT_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="Log format: human-readable, or one JSON object per line.",
)


def place_options(*, several: bool = False) -> Callable[[F], F]:
    """Add --store, --label, --socket, the options of :mod:`ifagent.cli.store_options`, --config and those for logging.

    With ``several`` the command gets a tuple ``stores``, else ``store``, the first one.
    """

    def decorate(command: F) -> F:
        for option in (_log_format, _log_level, _config, store_options, _socket, _label, _store(several=several)):
            command = option(command)
        return command

    return decorate


def foreign_option(command: F) -> F:
    """Add ``--foreign``."""
    return click.option(
        "--foreign",
        is_flag=True,
        help="Also show links that are not declared, as seen by the agent on this host.",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
