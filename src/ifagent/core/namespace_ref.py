"""How a user refers to a network namespace. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass


class NamespaceType(StrEnum):
    """The ways to refer to a network namespace."""

    OWN = "own"
    NAMED = "named"
    PID = "pid"
    FILE = "file"
    MICROSERVICE = "microservice"


@dataclass(frozen=True, slots=True)
class NamespaceRef:
    """How a user refers to a network namespace; equal references are the same request.

    ``reference`` is empty for the agent's own namespace, a name under ``/run/netns``, a decimal process
    id, an absolute path, or a microservice's label.
    """

    type: NamespaceType = NamespaceType.OWN
    reference: Annotated[str, Field(max_length=4096)] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        value, problem = self.reference, ""
        match self.type:
            case NamespaceType.OWN:
                problem = "the agent's own namespace takes no reference" if value else ""
            case NamespaceType.NAMED:
                if value in {"", ".", ".."} or "/" in value or not value.isprintable() or len(value.encode()) > 255:
                    problem = f"{value!r} is not a namespace name (one path component, at most 255 bytes)"
            case NamespaceType.PID:
                if not (value.isascii() and value.isdecimal() and 0 < int(value) < 2**31):
                    problem = f"{value!r} is not a process id"
            case NamespaceType.FILE:
                if not value.startswith("/") or not value.isprintable() or ".." in value.split("/"):
                    problem = f"{value!r} is not an absolute path without '..'"
            case NamespaceType.MICROSERVICE:
                if not value or not value.isprintable():
                    problem = f"{value!r} is not a microservice label"
        if problem:
            raise ValueError(problem)
        return self

    def __str__(self) -> str:
        """``own``, or type and reference as in ``named:ns1``."""
        return f"{self.type}:{self.reference}" if self.reference else str(self.type)


OWN_NAMESPACE = NamespaceRef()
"""The namespace that the agent itself lives in."""


def named(name: str) -> NamespaceRef:
    """Refer to the namespace called ``name`` under ``/run/netns``; made when an interface needs it."""
    return NamespaceRef(NamespaceType.NAMED, name)
