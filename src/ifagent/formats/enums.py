"""The enums of the ligato messages, and their counterparts in the model.

Sources: ``protos/ligato/v1/interfaces.proto``, whose new members have numbers that v1.4.1 does not know (kinds from
2 up), and ``protos/ligato/v3/interface.proto`` and ``namespace.proto``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from ifagent.core.kinds.veth import Offloading
from ifagent.core.namespace_ref import NamespaceType


class InterfaceType(IntEnum):
    """``LinuxInterfaces.InterfaceType`` of v1."""

    VETH = 0
    AUTO_TAP = 1
    LOOPBACK = 2
    EXISTING = 3
    VRF_DEVICE = 4
    DUMMY = 5
    BRIDGE = 6
    VLAN = 7
    BOND = 8
    MACVLAN = 9
    MACVTAP = 10
    IPVLAN = 11
    VXLAN = 12
    GENEVE = 13
    TUNNEL = 14
    TAP_DEVICE = 15
    TUN_DEVICE = 16
    IFB = 17


class NamespaceNumber(IntEnum):
    """``LinuxInterfaces.Interface.Namespace.NamespaceType`` of v1."""

    PID_REF_NS = 0
    MICROSERVICE_REF_NS = 1
    NAMED_NS = 2
    FILE_REF_NS = 3


class LinkType(IntEnum):
    """``Interface.Type`` of v3, without 0 (``UNDEFINED``), which is as if nothing was said."""

    VETH = 1
    TAP_TO_VPP = 2
    LOOPBACK = 3
    EXISTING = 4
    VRF_DEVICE = 5
    DUMMY = 6
    BRIDGE = 106
    VLAN = 107
    BOND = 108
    MACVLAN = 109
    MACVTAP = 110
    IPVLAN = 111
    VXLAN = 112
    GENEVE = 113
    TUNNEL = 114
    TAP_DEVICE = 115
    TUN_DEVICE = 116
    IFB = 117


class ReferenceNumber(IntEnum):
    """``NetNamespace.ReferenceType`` of v3, without 0 (``UNDEFINED``)."""

    NSID = 1
    PID = 2
    FD = 3
    MICROSERVICE = 4


class OffloadingNumber(IntEnum):
    """``VethLink.ChecksumOffloading`` of v3, and of our v1 messages; also read without the prefix."""

    CHKSM_OFFLOAD_DEFAULT = 0
    CHKSM_OFFLOAD_ENABLED = 1
    CHKSM_OFFLOAD_DISABLED = 2
    DEFAULT = CHKSM_OFFLOAD_DEFAULT
    ENABLED = CHKSM_OFFLOAD_ENABLED
    DISABLED = CHKSM_OFFLOAD_DISABLED


KIND_NUMBERS: Mapping[str, InterfaceType] = {
    "tap" if number is InterfaceType.AUTO_TAP else number.name.lower(): number for number in InterfaceType
}
"""The ``type`` of each kind of the model, and of a state, as v1 has it."""

KIND_WORDS: Mapping[InterfaceType, str] = {number: word for word, number in KIND_NUMBERS.items()}
"""The inverse of :data:`KIND_NUMBERS`."""

LINK_WORDS: Mapping[LinkType, str] = {
    number: "tap" if number is LinkType.TAP_TO_VPP else number.name.lower() for number in LinkType
}
"""The kind of the model for each ``type`` of v3."""

LINK_NUMBERS: Mapping[str, LinkType] = {word: number for number, word in LINK_WORDS.items()}
"""The ``type`` of each kind of the model as v3 has it."""

NAMESPACE_FIELDS: Mapping[NamespaceNumber, tuple[NamespaceType, str]] = {
    NamespaceNumber.PID_REF_NS: (NamespaceType.PID, "pid"),
    NamespaceNumber.MICROSERVICE_REF_NS: (NamespaceType.MICROSERVICE, "microservice"),
    NamespaceNumber.NAMED_NS: (NamespaceType.NAMED, "name"),
    NamespaceNumber.FILE_REF_NS: (NamespaceType.FILE, "filepath"),
}
"""The type of reference for each number of v1, and the field of the message ``Namespace`` that holds the reference."""

NAMESPACE_NUMBERS: Mapping[NamespaceType, tuple[NamespaceNumber, str]] = {
    meaning: (number, field) for number, (meaning, field) in NAMESPACE_FIELDS.items()
}
"""The inverse of :data:`NAMESPACE_FIELDS`; the agent's own namespace has no number, it is left out."""

REFERENCES: Mapping[ReferenceNumber, NamespaceType] = {
    ReferenceNumber.NSID: NamespaceType.NAMED,
    ReferenceNumber.PID: NamespaceType.PID,
    ReferenceNumber.FD: NamespaceType.FILE,
    ReferenceNumber.MICROSERVICE: NamespaceType.MICROSERVICE,
}
"""The type of reference for each number of v3."""

REFERENCE_NUMBERS: Mapping[NamespaceType, ReferenceNumber] = {meaning: number for number, meaning in REFERENCES.items()}
"""The inverse of :data:`REFERENCES`; the agent's own namespace is left out."""

OFFLOADINGS: Mapping[OffloadingNumber, Offloading] = {
    OffloadingNumber.DEFAULT: "default",
    OffloadingNumber.ENABLED: "enabled",
    OffloadingNumber.DISABLED: "disabled",
}
"""The model's value for each number."""

OFFLOADING_NUMBERS: Mapping[Offloading, OffloadingNumber] = {word: number for number, word in OFFLOADINGS.items()}
"""The inverse of :data:`OFFLOADINGS`."""
