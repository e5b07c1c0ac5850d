"""Every setting of the agent, with its default and unit."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ifagent.core.counters import LEAST_INTERVAL
from ifagent.core.policy import DEFAULT_MAX_INTERFACES, DEFAULT_MAX_NAMESPACES, Policy

MAX_LABEL_BYTES = 64
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]*")


def _check_label(value: str) -> str:
    if len(value) > MAX_LABEL_BYTES or not _LABEL.fullmatch(value):
        raise ValueError(
            f"a label has at most {MAX_LABEL_BYTES} letters, digits or . _ - @ : +, and starts with a letter or digit"
        )
    return value


class Settings(BaseModel):
    """What an agent can be told apart from interfaces. Frozen; a bad value raises ``pydantic.ValidationError``."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    label: Annotated[str, AfterValidator(_check_label)] = "vpp1"
    """Names the agent: its keys in the store, its marks in the kernel. ligato's default."""

    netns_dir: Path = Path("/run/netns")
    """Where named namespaces are."""

    runtime_dir: Path | None = None
    """Where the agent keeps what it remembers between two starts in one boot, see :mod:`ifagent.runtime_file`.

    ``None``: in memory only, so that a TAP that an earlier start has adopted into another namespace stays there, and so
    does a namespace that it has made.
    """

    private_mounts: bool = False
    """Do not warn that named namespaces made by the agent are invisible to the host."""

    proc_root: Path = Path("/proc")
    """Where the host's processes are, for an agent in a pid namespace of its own."""

    container_sockets: tuple[Path, ...] | None = None
    """Unix sockets of container engines; ``None``: ``DOCKER_HOST``, or those of docker and podman."""

    microservice_variable: Annotated[str, Field(min_length=1)] = "MICROSERVICE_LABEL"
    """The environment variable inside a container whose value is its microservice label."""

    drift: Literal["repair", "report"] = "repair"
    """What to do about external changes of what was as declared: repair them, or only report them in the state."""

    allow_namespaces: tuple[str, ...] = ("*",)
    """Patterns of references, such as ``named:lab-*``, ``own`` or ``microservice:*``: where interfaces may be."""

    allow_existing: tuple[str, ...] = ()
    """Patterns of host names: links of the host that interfaces of kind existing and loopback may change."""

    allow_taps: tuple[str, ...] = ("*",)
    """Patterns of host names: TAPs of the host that may be adopted; one that the host uses has to be named in full."""

    allow_host_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks in which values may give addresses to links of the host, whatever traffic of the host's that takes."""

    max_interfaces: Annotated[int, Field(gt=0)] = DEFAULT_MAX_INTERFACES
    """Maximum number of interfaces; any beyond it are invalid."""

    max_namespaces: Annotated[int, Field(gt=0)] = DEFAULT_MAX_NAMESPACES
    """Most different namespaces that interfaces may be in."""

    counters: Annotated[float, Field(ge=LEAST_INTERVAL, allow_inf_nan=False)] | None = None
    """Seconds between two readings of counters, for every stream that does not ask otherwise; ``None``: off."""

    resync_interval: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds between full resyncs, which read everything from the kernel and find what was missed otherwise."""

    @property
    def policy(self) -> Policy:
        """What may be done at all."""
        return Policy(
            namespaces=self.allow_namespaces,
            existing=self.allow_existing,
            taps=self.allow_taps,
            host_networks=self.allow_host_networks,
            max_interfaces=self.max_interfaces,
            max_namespaces=self.max_namespaces,
        )
