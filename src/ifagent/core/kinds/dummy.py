"""Dummy links, which take every packet and send none: for addresses that belong to no other link."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, LinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Dummy(LinkKind):
    """A dummy link."""

    kernel_kinds: ClassVar[tuple[str, ...]] = ("dummy",)
    mtus: ClassVar[range] = ANY_MTU

    type: Literal["dummy"] = "dummy"
