"""Where things are in the store; the layouts of ligato v1.4.1 and v3, and ifagent's own status keys.

``/vnf-agent/<label>/linux/config/v1/interface/<name>`` holds what is declared (ligato v1.4.1), and so does
``/vnf-agent/<label>/config/linux/interfaces/v2/interface/<name>`` (ligato v3);
``/vnf-agent/<label>/linux/status/v1/interface/<name>`` what became of it (ifagent),
``/vnf-agent/<label>/check/status/v1/agent`` how the agent is (ligato), and
``/vnf-agent/<label>/ifagent/lock`` which agent has the label (ifagent). Keys are bytes in etcd and here; a name that
is not UTF-8 keeps its odd bytes as hexadecimal escapes, so that it can be shown. A name that is too long for an
interface is cut, and made distinct by a checksum: what is said of it must not be too long to be written.
"""

from __future__ import annotations

from hashlib import sha256

from ifagent.core.interface import MAX_NAME_BYTES, Name
from ifagent.errors import InvalidSettings

ROOT = "/vnf-agent"
_CONFIG = "linux/config/v1/interface/"
_CONFIG_V3 = "config/linux/interfaces/v2/interface/"
_STATUS = "linux/status/v1/interface/"
_HEALTH = "check/status/v1/agent"
_LOCK = "ifagent/lock"


def config_prefix(label: str) -> bytes:
    """Return the prefix of all interfaces that are declared in ligato v1.4.1's way for the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_CONFIG}".encode()


def config_prefix_v3(label: str) -> bytes:
    """Return the prefix of all interfaces that are declared in ligato v3's way for the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_CONFIG_V3}".encode()


def status_prefix(label: str) -> bytes:
    """Return the prefix of all published states of the agent called ``label``."""
    return f"{ROOT}/{_checked(label)}/{_STATUS}".encode()


def health_key(label: str) -> bytes:
    """Return the key that says how the agent called ``label`` is."""
    return f"{ROOT}/{_checked(label)}/{_HEALTH}".encode()


def lock_key(label: str) -> bytes:
    """Return the key that says which agent has ``label``."""
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


def _checked(label: str) -> str:
    if not label or "/" in label or not label.isprintable():
        raise InvalidSettings(f"{label!r} is not an agent's label (printable, no slash)")
    return label
