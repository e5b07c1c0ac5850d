"""Certificates for tests: authorities, and what they issue, as PEM files."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    cert: Path
    key: Path

    def copy_from(self, other: Issued) -> None:
        """Put another certificate and key into these files, as a rotation does."""
        self.cert.write_bytes(other.cert.read_bytes())
        self.key.write_bytes(other.key.read_bytes())


class Certificates:
    """One authority, with its files under ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self._count = itertools.count(1)
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *hosts: str, common_name: str | None = None, expired: bool = False) -> Issued:
        """Issue a certificate; one for a client has a common name, which is the user in etcd."""
        first, last = (datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2))
        made = self._authority.issue_cert(
            *(hosts or (f"{name}@test",)),
            common_name=common_name,
            not_before=first if expired else None,
            not_after=last if expired else None,
        )
        stem = self._folder / f"{name}-{next(self._count)}"
        issued = Issued(stem.with_suffix(".cert"), stem.with_suffix(".key"))
        made.cert_chain_pems[0].write_to_path(issued.cert)
        made.private_key_pem.write_to_path(issued.key)
        return issued
