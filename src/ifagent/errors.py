"""Every error that ifagent raises on purpose.

::

    IfagentError
    ├── InvalidInterface      their fault: a value that says what cannot be
    ├── BrokenFile            their fault: a file of interfaces that cannot be read
    ├── InvalidState          their fault: a published state that cannot be read
    ├── InvalidSettings       their fault: an option that cannot be used
    ├── UnknownInterface      their fault: a name that was never declared
    ├── AgentEnded            their fault: a call to an agent that does not run
    ├── NotApplied            the world: a wait ended before the interface was applied
    ├── RevisionNotApplied    the world: a wait ended before all of a store's revision was applied
    ├── KernelRefused         the world: the kernel answered a request with an errno
    ├── NamespaceUnavailable  the world: a namespace went away, or may not be entered
    ├── SourceLost            the world: a source of intent cannot be heard
    ├── MissingRights         the world: the process may not do what it is for
    ├── LabelTaken            the world: another agent has this agent's label
    └── AgentBug              ours
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

MAX_ERRORS = 10
"""Maximum number of errors reported for one value."""


class IfagentError(Exception):
    """The root: whoever catches it catches everything that ifagent raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field, and what would be right.

    ``field`` is the field's path in the words of the wire format, such as ``ip_addresses[1]`` or
    ``veth.peer_if_name``; empty when the whole value is meant.
    """

    field: str
    message: str

    def __str__(self) -> str:
        """``field: message``, or the message alone."""
        return f"{self.field}: {self.message}" if self.field else self.message


class InvalidInterface(IfagentError):
    """A value does not describe an interface.

    ``name`` is the interface's name as far as it is known (the key's suffix, else empty);
    ``errors`` has at least one entry, and ``more`` is how many others there may be, where not everything was checked.
    """

    def __init__(self, name: str, errors: Iterable[FieldError], *, more: int = 0) -> None:
        """Keep the name and the field errors."""
        self.name = name
        self.errors: tuple[FieldError, ...] = tuple(errors)
        self.more = more
        super().__init__(name, self.errors)

    def __str__(self) -> str:
        """Join the errors, only when somebody asks: there may be very many values with very many of them."""
        return f"interface {self.name!r}: " + "; ".join(map(str, self.errors))


class BrokenFile(IfagentError):
    """A file of interfaces cannot be read, or is not YAML or JSON of the expected shape.

    ``path`` is the file, ``line`` the line that is wrong, from 1, 0 where that is not known.
    """

    def __init__(self, path: object, text: str, *, line: int = 0) -> None:
        """Keep the place; the message begins with it."""
        self.path: str = str(path)
        self.line = line
        super().__init__(f"{path}: line {line}: {text}" if line else f"{path}: {text}")


class InvalidState(IfagentError):
    """A published state, or an event of a state stream, cannot be read; the message says why."""


class InvalidSettings(IfagentError):
    """An option, environment variable or settings file cannot be used; the message names it."""


class UnknownInterface(IfagentError):
    """No interface of this name is declared where it was asked for."""

    def __init__(self, name: str) -> None:
        """Keep the name."""
        self.name = name
        super().__init__(f"no interface {name!r} is declared here")


class AgentEnded(IfagentError):
    """The agent does not run, or no longer: nobody would ever act on the call."""


class NotAppliedState(Protocol):
    """What errors tell of a state, which is an :class:`ifagent.InterfaceState`."""

    @property
    def config_state(self) -> str:
        """What has become of the declaration."""

    @property
    def reason(self) -> str:
        """Why it is not applied."""


class NotApplied(IfagentError):
    """A wait ended before the interface was applied; ``state`` says why, ``None`` if it is unknown."""

    def __init__(self, name: str, state: NotAppliedState | None) -> None:
        """Keep the last state seen; the message carries its reason."""
        self.name = name
        self.state = state
        why = f"{state.config_state}: {state.reason}" if state else "the agent has no state for it"
        super().__init__(f"interface {name!r} is not applied: {why}")


class RevisionNotApplied(IfagentError):
    """A wait ended before everything up to a store's revision was applied.

    ``states`` has the newest state of each interface that is not, ``None`` where there is none yet. ``seen`` is the
    newest revision that the agent has heard of; where it is lower than ``revision``, the store has not told yet.
    """

    def __init__(self, revision: int, *, seen: int, states: Mapping[str, NotAppliedState | None]) -> None:
        """Keep what is missing; the message names it with reasons."""
        self.revision = revision
        self.seen = seen
        self.states: dict[str, NotAppliedState | None] = dict(states)
        missing = [f"the agent has only seen revision {seen}"] if seen < revision else []
        for name, state in self.states.items():
            why = f"{state.config_state}: {state.reason}".removesuffix(": ") if state else "not processed yet"
            missing.append(f"{name!r} {why}")
        super().__init__(f"revision {revision} is not applied: {'; '.join(missing)}")


class KernelRefused(IfagentError):
    """The kernel answered a request with an error; ``text`` is its extended acknowledgement."""

    def __init__(self, operation: str, errno: int, text: str = "") -> None:
        """Keep what was asked and what came back."""
        self.operation = operation
        self.errno = errno
        self.text = text
        said = f"{os.strerror(errno)} ({text})" if text else os.strerror(errno)
        super().__init__(f"{operation}: {said}")


class NamespaceUnavailable(IfagentError):
    """A network namespace went away while it was opened, or may not be entered."""


class SourceLost(IfagentError):
    """A source of intent, or the store behind it, cannot be heard; ``source`` names it."""

    def __init__(self, source: str, text: str) -> None:
        """Keep the source's name and what went wrong, never a secret."""
        self.source = source
        super().__init__(f"{source}: {text}")


class MissingRights(IfagentError):
    """The process lacks capabilities without which it is of no use; the message has a line for each."""


class LabelTaken(IfagentError):
    """Another agent has taken this agent's label while this one could not hold it; ``holder`` says which."""

    def __init__(self, label: str, holder: str) -> None:
        """Keep both."""
        self.label = label
        self.holder = holder
        super().__init__(f"the label {label!r} is taken by {holder}")


class AgentBug(IfagentError):
    """Something that cannot happen did. The agent ends rather than guess."""
