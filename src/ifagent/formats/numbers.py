"""The enum numbers of the ligato v1.4.1 messages, in one place.

Source: ``protos/ligato/v1/interfaces.proto``. New members get numbers that v1.4.1 does not know: kinds from 2 up.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from ifagent.core.interface import NamespaceType


class InterfaceType(IntEnum):
    """``LinuxInterfaces.InterfaceType``."""

    VETH = 0
    AUTO_TAP = 1


class NamespaceNumber(IntEnum):
    """``LinuxInterfaces.Interface.Namespace.NamespaceType``."""

    PID_REF_NS = 0
    MICROSERVICE_REF_NS = 1
    NAMED_NS = 2
    FILE_REF_NS = 3


NAMESPACE_FIELDS: Mapping[NamespaceNumber, tuple[NamespaceType, str]] = {
    NamespaceNumber.PID_REF_NS: (NamespaceType.PID, "pid"),
    NamespaceNumber.MICROSERVICE_REF_NS: (NamespaceType.MICROSERVICE, "microservice"),
    NamespaceNumber.NAMED_NS: (NamespaceType.NAMED, "name"),
    NamespaceNumber.FILE_REF_NS: (NamespaceType.FILE, "filepath"),
}
"""What each number means, and the field of the message ``Namespace`` that holds the reference."""

NAMESPACE_NUMBERS: Mapping[NamespaceType, tuple[NamespaceNumber, str]] = {
    meaning: (number, field) for number, (meaning, field) in NAMESPACE_FIELDS.items()
}
"""The other way round; the agent's own namespace has no number, it is said by saying nothing."""
