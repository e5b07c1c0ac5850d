"""Stores in etcd, by URL: ``etcd://HOST:PORT[,HOST:PORT]``, or ``etcds://`` for TLS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ifagent.errors import InvalidSettings
from ifagent.outlets.contract import Outlet
from ifagent.stores.contract import Access, Source, Store, StoreOption, StoreSecret
from ifagent.stores.etcd.access import EtcdAccess
from ifagent.stores.etcd.address import EtcdAddress

PASSWORD_VARIABLE: Final = "IFAGENT_ETCD_PASSWORD"  # noqa: S105 the name of a variable, not a password


class EtcdBackend:
    """An etcd cluster, shared by agents and their clients."""

    name: str = "etcd"
    schemes: tuple[str, ...] = ("etcd", "etcds")
    example: str = "etcd://HOST:PORT"
    help: str = "etcd://HOST:PORT[,HOST:PORT], etcds:// for TLS"
    options: tuple[StoreOption, ...] = (
        StoreOption("etcd_user", f"The user in etcd; the password is in a file or in {PASSWORD_VARIABLE}."),
        StoreOption("etcd_password_file", "A file with the password of the user in etcd.", is_file=True),
        StoreOption(
            "etcd_ca", "The authorities that may sign the certificate of an etcds:// store, PEM.", is_file=True
        ),
        StoreOption("etcd_cert", "The client certificate for an etcds:// store, PEM.", is_file=True),
        StoreOption("etcd_key", "The client certificate's key, PEM.", is_file=True),
    )
    secrets: tuple[StoreSecret, ...] = (StoreSecret("etcd_password", PASSWORD_VARIABLE, "etcd_password_file"),)

    def access(self, given: Mapping[str, str | Path | None]) -> Access | None:
        """Return the credentials from the options."""
        access = EtcdAccess(
            user=str(given["etcd_user"] or ""),
            password=str(given["etcd_password"] or ""),
            password_file=_path(given["etcd_password_file"]),
            ca=_path(given["etcd_ca"]),
            cert=_path(given["etcd_cert"]),
            key=_path(given["etcd_key"]),
        )
        access.check()
        return access

    def source(self, url: str, *, label: str, access: Access | None) -> Source:
        """Return the source of declarations for an agent."""
        from ifagent.stores.etcd.source import EtcdSource

        return EtcdSource(_address(url, access), label, name=url)

    def store(self, url: str, *, label: str, socket: Path, access: Access | None) -> Store:
        """Return the client for an agent's declarations and published states."""
        del socket
        from ifagent.stores.etcd.store import EtcdStore

        return EtcdStore(_address(url, access), label)

    def outlet(self, url: str, *, label: str, access: Access | None) -> Outlet | None:
        """Return the outlet that publishes an agent's states in etcd."""
        from ifagent.stores.etcd.outlet import EtcdOutlet

        return EtcdOutlet(_address(url, access), label)


def _address(url: str, access: Access | None) -> EtcdAddress:
    if not (access is None or isinstance(access, EtcdAccess)):
        raise InvalidSettings(f"etcd takes an EtcdAccess, not {type(access).__name__}")
    return EtcdAddress.parse(url, access=access)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
