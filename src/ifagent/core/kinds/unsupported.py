"""Kinds that can be declared and are not supported yet."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, LinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported(LinkKind):
    """A kind that ligato v3 has and the agent does not support yet; ``type`` says which."""

    mtus: ClassVar[range] = ANY_MTU

    type: Literal["vrf_device"] = "vrf_device"

    @property
    def unsupported(self) -> str:
        """Say that the agent cannot make it."""
        return f"type {self.type.upper()} is not supported by this version"
