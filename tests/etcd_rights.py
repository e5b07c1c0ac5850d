"""Users and rights in a real etcd."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from etcd_server import EtcdServer

from ifagent.stores.etcd.access import EtcdAccess
from ifagent.stores.etcd.address import EtcdAddress

ROOT, USER = "geheim-root-4711", "geheim-user-0815"
"""Passwords, to be found nowhere else."""


def protect(server: EtcdServer, *, prefix: str = "", user: str = "agent", options: Sequence[str] = ()) -> None:
    """Turn authentication on; ``user`` may do everything under ``prefix``."""
    server.ctl("user", "add", "root", "--interactive=false", given=f"{ROOT}\n".encode())
    server.ctl("user", "grant-role", "root", "root")
    server.ctl("role", "add", "all")
    grant(server, prefix=prefix)
    server.ctl("user", "add", user, "--interactive=false", *options, given=f"{USER}\n".encode())
    server.ctl("user", "grant-role", user, "all")
    server.ctl("auth", "enable")
    server.ctl_options += ("--user", f"root:{ROOT}")


def grant(server: EtcdServer, *, prefix: str = "", role: str = "all", kind: str = "readwrite") -> None:
    server.ctl("role", "grant-permission", role, kind, prefix, "--prefix=true")


def revoke(server: EtcdServer, *, prefix: str = "", role: str = "all") -> None:
    server.ctl("role", "revoke-permission", role, prefix, "--prefix=true")


def forget_tokens(server: EtcdServer) -> None:
    """Make every token invalid. A restart does not: etcd finds them in its log."""
    server.ctl("auth", "disable")
    server.ctl("auth", "enable")


def signed_in(address: EtcdAddress, *, user: str = "agent", password: str = USER) -> EtcdAddress:
    """Return the address with a user."""
    return replace(address, access=replace(address.access, user=user, password=password))


def with_access(address: EtcdAddress, access: EtcdAccess) -> EtcdAddress:
    return replace(address, access=access)
