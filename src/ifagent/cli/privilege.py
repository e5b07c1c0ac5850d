"""Checks at the start that the process has the capabilities that its settings need, and drops all others."""

from __future__ import annotations

import grp
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ifagent import capabilities
from ifagent.capabilities import Capability
from ifagent.core.namespace_ref import NamespaceType
from ifagent.errors import InvalidSettings, MissingRights
from ifagent.log import log
from ifagent.nsfs import identify, own_namespace, owns_netns
from ifagent.settings import Settings

_FIRST_FREE_PORT: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True)
class Need:
    """A capability that the settings need, and what is impossible without it (``loss``).

    Without an ``essential`` one the service cannot start. One without ``loss`` is kept, but not reported if missing.
    """

    capability: Capability
    loss: str = ""
    essential: bool = False

    def __str__(self) -> str:
        """Return a sentence with what the capability is for and how to grant it."""
        name = self.capability.name
        return (
            f"{self.capability} is missing, without it {self.loss}: give it by AmbientCapabilities={self.capability} "
            f"in a systemd unit, by --cap-add {name} in docker, or by setcap cap_{name.lower()}+p on a copy of the "
            f"Python interpreter"
        )


def reduce_to_needs(settings: Settings, *, ports: Collection[int] = ()) -> None:
    """Permanently drop the capabilities that the settings, and the TCP ``ports`` to listen on, do not need.

    Call it before there are other threads. Raises :class:`MissingRights`, with a line for each missing essential
    capability; other missing ones are logged.
    """
    needs, there = list(_needs(settings, ports)), capabilities.permitted()
    missing = [need for need in needs if need.loss and need.capability not in there]
    if essential := [str(need) for need in missing if need.essential]:
        raise MissingRights("\n".join(essential))
    if not owns_netns():
        raise MissingRights(
            "the network namespace belongs to another user namespace, where the capabilities of this one do not count: "
            "start the agent in a network and a mount namespace of its own as well, as unshare -Urnm does"
        )
    for need in missing:
        log.warning("missing capability", capability=str(need.capability), problem=str(need))
    capabilities.drop_all_except(need.capability for need in needs)
    kept = sorted(capabilities.permitted())
    log.info("dropped all other capabilities", capabilities=" ".join(map(str, kept)))


def _needs(settings: Settings, ports: Collection[int]) -> Iterator[Need]:
    yield Need(Capability.NET_ADMIN, "links and addresses cannot be changed", essential=True)
    yield Need(Capability.SYS_ADMIN, "network namespaces can be neither entered nor made", essential=True)
    may_allow = settings.policy.may_allow
    if any(map(may_allow, (NamespaceType.PID, NamespaceType.MICROSERVICE, NamespaceType.FILE))):
        yield Need(Capability.SYS_PTRACE, "the namespaces of other users' processes and containers cannot be opened")
    elif identify(str(settings.proc_root / "1/ns/net")) != own_namespace():
        yield Need(Capability.SYS_PTRACE, "the host's network namespace cannot be distinguished from other named ones")
    first_free = int(_FIRST_FREE_PORT.read_text())
    if privileged := [str(port) for port in ports if 0 < port < first_free]:
        loss = f"it cannot listen on port {' and '.join(privileged)}"
        yield Need(Capability.NET_BIND_SERVICE, loss, essential=True)
    # Root has it, and needs it to reach stores, sockets and namespaces in directories of other users.
    yield Need(Capability.DAC_OVERRIDE)


def join_group(group: str) -> int:
    """Make the process a member of a group, given by name or number, and return the group's id.

    Raises :class:`InvalidSettings` if there is no such group, or if the process may not join it.
    """
    try:
        id = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidSettings(f"--socket-group: no such group: {group!r}") from None
    groups = os.getgroups()
    if id not in {os.getegid(), *groups}:
        try:
            os.setgroups([*groups, id])
        except OSError as error:
            raise InvalidSettings(
                f"--socket-group: the agent is not a member of the group {group!r} and cannot become one "
                f"({error.strerror}): start it as a member, as SupplementaryGroups= in a systemd unit and --group-add "
                f"in docker do"
            ) from None
    return id
