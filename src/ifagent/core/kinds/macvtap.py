"""Macvtaps: macvlans whose packets a program reads and writes, such as a virtual machine."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ifagent.core.kinds.macvlan import MacvlanKind, MacvlanMode
from ifagent.core.names import check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Macvtap(MacvlanKind):
    """A macvtap on the link of ``lower_if_name``; programs open ``/dev/tapN``, where N is its ifindex.

    The fields are those of a macvlan.
    """

    kernel_kinds: ClassVar[tuple[str, ...]] = ("macvtap",)

    lower_if_name: Annotated[str, AfterValidator(check_name)]
    mode: MacvlanMode = "bridge"
    nopromisc: bool = False
    bc_queue_len: Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] = 1000
    type: Literal["macvtap"] = "macvtap"
