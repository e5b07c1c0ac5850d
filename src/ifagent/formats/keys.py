"""Keys in the store: the layouts of ligato v1.4.1 and v3, and ifagent's own keys.

* ``/vnf-agent/<label>/linux/config/v1/interface/<name>``: declaration (ligato v1.4.1)
* ``/vnf-agent/<label>/config/linux/interfaces/v2/interface/<name>``: declaration (ligato v3)
* ``/vnf-agent/<label>/linux/status/v1/interface/<name>``: state (ifagent)
* ``/vnf-agent/<label>/check/status/v1/agent``: the agent's health (ligato)
* ``/vnf-agent/<label>/ifagent/lock``: lock of the label (ifagent)

Keys are bytes in etcd and here. In a name that is not UTF-8, invalid bytes become hexadecimal escapes. A name that is
too long for an interface is truncated and made unique by a checksum, so that messages about it are not too long.
"""

from __future__ import annotations

from hashlib import sha256

from ifagent.core.names import MAX_NAME_BYTES, Name
from ifagent.core.resources import INTERFACE, Key
from ifagent.errors import InvalidSettings

ROOT = "/vnf-agent"
_CONFIG = "linux/config/v1/interface/"
_CONFIG_V3 = "config/linux/interfaces/v2/interface/"
_STATUS = "linux/status/v1/interface/"
_HEALTH = "check/status/v1/agent"
_LOCK = "ifagent/lock"


def config_prefix(label: str) -> bytes:
    """Return the prefix of declarations in the format of ligato v1.4.1 for the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_CONFIG}".encode()


def config_prefix_v3(label: str) -> bytes:
    """Return the prefix of declarations in the format of ligato v3 for the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_CONFIG_V3}".encode()


def status_prefix(label: str) -> bytes:
    """Return the prefix of all published states of the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_STATUS}".encode()


def health_key(label: str) -> bytes:
    """Return the key of the health of the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_HEALTH}".encode()


def lock_key(label: str) -> bytes:
    """Return the key of the lock of ``label``."""
    return f"{ROOT}/{_checked(label)}/{_LOCK}".encode()


def key_of(prefix: bytes, name: str) -> bytes:
    """Return the key of one interface under a prefix of this module."""
    return prefix + name.encode(errors="backslashreplace")


def name_of(prefix: bytes, key: bytes) -> Name:
    """Return the interface's name in a key under ``prefix``; empty if the key is the prefix itself."""
    name, rest = key.removeprefix(prefix), ""
    if len(name) > MAX_NAME_BYTES:
        name, rest = name[:MAX_NAME_BYTES], f"…{sha256(name).hexdigest()[:16]}"
    return Name(name.decode(errors="backslashreplace") + rest)


def resource_at(type: str, prefix: bytes, key: bytes) -> Key | None:  # noqa: A002 as in Key
    """Return which resource of a type a store's key is about, ``None`` if it is not under the type's ``prefix``."""
    name = name_of(prefix, key) if key.startswith(prefix) else ""
    return Key(type, name) if name else None


class StatusKeys:
    """Where the states of resources are published by the agent called ``label``."""

    def __init__(self, label: str) -> None:
        self.prefix: bytes = status_prefix(label)

    def key_of(self, resource: Key) -> bytes:
        """Return the store's key of a resource's state."""
        return key_of(self.prefix, resource.name)

    def resource_at(self, key: bytes) -> Key | None:
        """Return the resource whose state is under a key, ``None`` if none can be."""
        return resource_at(INTERFACE, self.prefix, key)


def _checked(label: str) -> str:
    if not label or "/" in label or not label.isprintable():
        raise InvalidSettings(f"{label!r} is not an agent's label (printable, no slash)")
    return label
