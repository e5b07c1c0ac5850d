"""Where an etcd cluster is, and how long to wait for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Self

from ifagent.errors import InvalidSettings
from ifagent.stores.etcd.access import EtcdAccess
from ifagent.stores.etcd.limits import Limits

DEFAULT_PORT = 2379
"""The port that etcd serves its clients on."""

SCHEME = "etcd://"
TLS_SCHEME = "etcds://"

_ENDPOINT = re.compile(
    r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_.])?))(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member of the cluster: a host name or an IP address (IPv6 without brackets), and a TCP port."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """The endpoint as grpc's name resolvers want it."""
        try:
            scheme = "ipv6" if isinstance(ip_address(self.host), IPv6Address) else "ipv4"
        except ValueError:
            return f"dns:///{self}"
        return f"{scheme}:{self}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdAddress:
    """Everything it takes to reach one cluster; equal addresses reach it in the same way.

    ``endpoints`` are its members in the order they are tried, at least one; ``tls`` says whether to use TLS.
    ``access`` has the credentials. ``timeout`` is how many seconds one request may take, and ``limits`` has what else
    is bounded.
    """

    endpoints: tuple[Endpoint, ...]
    tls: bool = False
    access: EtcdAccess = field(default_factory=EtcdAccess)
    timeout: float = 5.0
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def parse(cls, text: str, *, access: EtcdAccess | None = None) -> Self:
        """Read ``etcd://host:port[,host:port]``, or ``etcds://...`` for TLS.

        The port may be left out, IPv6 needs brackets. Raises :class:`InvalidSettings`; its message never repeats
        user names or passwords.
        """
        access = access or EtcdAccess()
        tls = text.startswith(TLS_SCHEME)
        if not tls and not text.startswith(SCHEME):
            raise InvalidSettings(f"an etcd address starts with {SCHEME}, as in {SCHEME}127.0.0.1:{DEFAULT_PORT}")
        if "@" in text:
            raise InvalidSettings("an etcd address must not contain a user or password, use the options for them")
        if access.has_certificates and not tls:
            raise InvalidSettings(
                f"certificates for etcd are given, but {text} does not use TLS: write {TLS_SCHEME}..."
            )
        members = text.removeprefix(TLS_SCHEME if tls else SCHEME).removesuffix("/").split(",")
        return cls(endpoints=tuple(dict.fromkeys(map(_parse_endpoint, members))), tls=tls, access=access)

    def __str__(self) -> str:
        """Write the form that :meth:`parse` reads."""
        return (TLS_SCHEME if self.tls else SCHEME) + ",".join(map(str, self.endpoints))


def _parse_endpoint(text: str) -> Endpoint:
    found = _ENDPOINT.fullmatch(text.strip())
    if not found:
        raise InvalidSettings(f"{text!r} is not an endpoint such as 127.0.0.1:{DEFAULT_PORT} or [::1]:{DEFAULT_PORT}")
    host, port = found["host"] or found["ipv6"], int(found["port"] or DEFAULT_PORT)
    if found["ipv6"] and not _is_plain_ipv6(host):
        raise InvalidSettings(f"{host!r} in {text!r} is not an IPv6 address (without a scope)")
    if port not in range(1, 2**16):
        raise InvalidSettings(f"the port of {text!r} is not a number from 1 to 65535")
    return Endpoint(host.lower(), port)


def _is_plain_ipv6(host: str) -> bool:
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False
