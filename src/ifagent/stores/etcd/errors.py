"""Errors of etcd and grpc in plain words."""

from __future__ import annotations

from ifagent.errors import SourceLost

SOURCE = "etcd"
"""The name of the store in errors."""

_BAD_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")
"""Errors that a new token cures: the old one has expired, is unknown or missing, or predates a change of rights."""

_SIGNS = (
    ("certificate has expired", "the server's certificate has expired"),
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not signed by a trusted authority"),
    ("Hostname Verification", "the server's certificate is for another host"),
    ("security handshaker", "the certificates or the key cannot be used"),
    ("Unwrap failed", "the server rejects the client's certificate, or requires one"),
    ("Handshake read failed", "the server does not speak TLS, or closed the connection"),
    ("onnection refused", "connection refused"),
    ("onnection reset", "connection reset"),
    ("ocket closed", "the connection was closed"),
    ("ame not found", "the host name cannot be resolved"),
    ("ddress lookup failed", "the host name cannot be resolved"),
    ("nternal error from Core", "the connection was closed"),
    ("eceived message larger than max", "the answer is too large"),
    ("ping timeout", "no sign of life"),
    ("imeout occurred", "timed out connecting"),
)


class EtcdError(SourceLost):
    """A request failed; ``code`` is the name of grpc's status, such as ``OUT_OF_RANGE``."""

    def __init__(self, text: str, code: str = "") -> None:
        """Keep the status."""
        self.code = code
        super().__init__(SOURCE, text)

    @property
    def bad_token(self) -> bool:
        """True if the request was refused for its token, so that authenticating again may help."""
        return str(self).endswith(_BAD_TOKEN)


def explain(details: str) -> str:
    """Shorten the chain of reasons that grpc or etcd gives to the useful part."""
    for sign, words in _SIGNS:
        if sign in details:
            return words
    return details.rpartition(" desc = ")[2].partition("\n")[0][:200]
