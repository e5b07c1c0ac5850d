"""Intermediate functional blocks: links that traffic is redirected to, so that it can be shaped."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from ifagent.core.kinds.contract import ANY_MTU, LinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Ifb(LinkKind):
    """An intermediate functional block."""

    kernel_kinds: ClassVar[tuple[str, ...]] = ("ifb",)
    mtus: ClassVar[range] = ANY_MTU

    type: Literal["ifb"] = "ifb"
