"""Credentials for an etcd cluster: user and password, certificates.

Secrets never appear in a ``repr`` or an error. Files are read again for every connection, so that rotated credentials
take effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ifagent.errors import InvalidSettings
from ifagent.stores.contract import Access

MAX_FILE_BYTES = 1 << 20
"""Most bytes of a password or certificate file."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates for TLS in PEM; with ``None``, grpc's own authorities, and no client certificate."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdAccess(Access):
    """Credentials for a cluster.

    ``user`` has a ``password``, or a ``password_file`` that contains only the password, which takes precedence.
    ``ca`` has the authorities that may sign the server's certificate; ``cert`` and ``key`` are the client's. These
    files are PEM. Raises :class:`InvalidSettings` for an incomplete combination.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Check that the fields are complete."""
        if bool(self.cert) != bool(self.key):
            raise InvalidSettings("--etcd-cert and --etcd-key go together")
        if self.user and not (self.password or self.password_file):
            raise InvalidSettings("--etcd-user needs a password, from --etcd-password-file or IFAGENT_ETCD_PASSWORD")
        if not self.user and (self.password or self.password_file):
            raise InvalidSettings("a password for etcd needs a user, from --etcd-user or IFAGENT_ETCD_USER")

    @property
    def has_certificates(self) -> bool:
        """True if there are certificates, which only TLS can use."""
        return bool(self.ca or self.cert)

    def read_password(self) -> str:
        """Return the password. Raises :class:`InvalidSettings`, which names the file, if it cannot be read."""
        if self.password_file is None:
            return self.password
        try:
            password = _read(self.password_file).decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise InvalidSettings(f"{self.password_file}: is not text") from None
        if not password:
            raise InvalidSettings(f"{self.password_file}: is empty")
        return password

    def read_certificates(self) -> Certificates:
        """Read the certificate files. Raises :class:`InvalidSettings`, which names the file, if one cannot be used."""
        return Certificates(_read_pem(self.ca), _read_pem(self.cert), _read_pem(self.key))

    def check(self) -> None:
        """Read every file once. Raises :class:`InvalidSettings` if one cannot be used."""
        self.read_password()
        self.read_certificates()


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    data = _read(path)
    if b"-----BEGIN " not in data:
        raise InvalidSettings(f"{path}: is not PEM (no line -----BEGIN ...)")
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidSettings(f"{path}: has more than {MAX_FILE_BYTES} bytes")
    return data
