"""Kinds that can be declared and not be realised yet."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, LinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported(LinkKind):
    """A kind that ligato v3 has and the agent cannot realise yet; ``type`` says which."""

    mtus: ClassVar[range] = ANY_MTU

    type: Literal["vrf_device"] = "vrf_device"

    @property
    def unsupported(self) -> str:
        """Say that the agent cannot make it."""
        return f"kind not supported yet: interfaces of type {self.type.upper()} are not realised by this version"
