"""Options for the policy: what declarations may do to the host and to namespaces, and how many there may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ifagent.core.policy import DEFAULT_MAX_INTERFACES, DEFAULT_MAX_NAMESPACES

F = TypeVar("F", bound=Callable[..., Any])

_drift = click.option(
    "--drift",
    type=click.Choice(["repair", "report"]),
    default="repair",
    envvar="IFAGENT_DRIFT",
    show_envvar=True,
    show_default=True,
    help="What to do about external changes: repair them, or only report them.",
)

_allow_namespace = click.option(
    "--allow-namespace",
    "allow_namespaces",
    multiple=True,
    default=("*",),
    envvar="IFAGENT_ALLOW_NAMESPACE",
    show_envvar=True,
    show_default=True,
    metavar="PATTERN",
    help="Namespaces that interfaces may be in, such as 'named:lab-*', 'own' or 'microservice:*'; may be repeated.",
)

_allow_existing = click.option(
    "--allow-existing",
    multiple=True,
    envvar="IFAGENT_ALLOW_EXISTING",
    show_envvar=True,
    metavar="PATTERN",
    help="Links of the host, such as eth1, that interfaces of kind existing and loopback may change.  [default: none]",
)

_allow_tap = click.option(
    "--allow-tap",
    "allow_taps",
    multiple=True,
    default=("*",),
    envvar="IFAGENT_ALLOW_TAP",
    show_envvar=True,
    show_default=True,
    metavar="PATTERN",
    help="TAPs of the host that may be adopted; one that is in use must be named in full.",
)

_allow_host_network = click.option(
    "--allow-host-network",
    "allow_host_networks",
    multiple=True,
    envvar="IFAGENT_ALLOW_HOST_NETWORK",
    show_envvar=True,
    metavar="NETWORK",
    help="A network whose addresses may be given to links of the host, even if that diverts traffic.  [default: none]",
)

_max_interfaces = click.option(
    "--max-interfaces",
    type=int,
    default=DEFAULT_MAX_INTERFACES,
    envvar="IFAGENT_MAX_INTERFACES",
    show_envvar=True,
    show_default=True,
    help="Maximum number of interfaces; any beyond it are INVALID.",
)

_max_namespaces = click.option(
    "--max-namespaces",
    type=int,
    default=DEFAULT_MAX_NAMESPACES,
    envvar="IFAGENT_MAX_NAMESPACES",
    show_envvar=True,
    show_default=True,
    help="Maximum number of namespaces that interfaces may be in.",
)


def policy_options(command: F) -> F:
    """Add all options of the policy."""
    limits = (_max_namespaces, _max_interfaces)
    leave = (_allow_host_network, _allow_tap, _allow_existing, _allow_namespace)
    for option in (*limits, *leave, _drift):
        command = option(command)
    return command
