"""Everything that chaos may do, as values that can be written down."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from chaos.values import Family, Form, Space, Wish


class What(StrEnum):
    """The kinds of actions without much to say; each is about one ``target``, or none.

    A process that joins has the target ``p0 s1``: its own name and that of the namespace that it joins.
    """

    NAMESPACE_ADD = "namespace add"
    NAMESPACE_DELETE = "namespace delete"
    IPV6_OFF = "ipv6 off"
    IPV6_ON = "ipv6 on"
    PROCESS_START = "process start"
    PROCESS_JOIN = "process join"
    PROCESS_KILL = "process kill"
    FILE_MOUNT = "file mount"
    FILE_UNMOUNT = "file unmount"
    FILE_ORDINARY = "file ordinary"
    CONTAINER_START = "container start"
    CONTAINER_STOP = "container stop"
    CONTAINER_KILL = "container kill"
    CONTAINER_RESTART = "container restart"
    DOCKER_KILL = "docker kill"
    DOCKER_START = "docker start"
    TAP_MAKE = "tap make"
    TAP_DELETE = "tap delete"
    ETCD_STOP = "etcd stop"
    ETCD_KILL = "etcd kill"
    ETCD_START = "etcd start"
    ETCD_FREEZE = "etcd freeze"
    ETCD_THAW = "etcd thaw"
    HOLE_BEGIN = "black hole begin"
    HOLE_END = "black hole end"
    ETCD_COMPACT = "etcd compact"
    ETCD_RESET = "etcd reset"
    AGENT_KILL = "agent kill"
    AGENT_TERM = "agent term"
    AGENT_FREEZE = "agent freeze"
    AGENT_THAW = "agent thaw"
    AGENT_START = "agent start"


@dataclass(frozen=True, slots=True)
class Simple:
    """One action of a kind that its name explains."""

    what: What
    target: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let the agent have some time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Value:
    """One key to be put; an invalid value has no ``wish`` and says ``which`` one it is."""

    name: str
    form: Form
    wish: Wish | None
    which: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    """One transaction; a key is deleted by its name and family."""

    puts: tuple[Value, ...] = ()
    deletes: tuple[tuple[str, Family], ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """Somebody changes a link that is to be at a place: the words are those of ``ip``, ``DEV`` being the link.

    ``name`` is the interface that is to have that place.
    """

    name: str
    space: Space
    host_name: str
    words: tuple[str, ...]
    to: Space | None = None
    """Where the link is moved, if it is."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Somebody makes a link of theirs, or takes it away."""

    space: Space
    host_name: str
    add: bool


Action = Simple | Pause | Store | Drift | Foreign


def kind_of(action: Action) -> str:
    """Return what an action is counted as."""
    match action:
        case Simple(what=what):
            return str(what)
        case Store(puts=()):
            return "delete"
        case Store(puts=puts):
            bad = any(value.wish is None for value in puts)
            return "put invalid" if bad else "put" if len(puts) == 1 else "transaction"
        case Drift(words=words, to=to):
            said = " ".join(word for word in words if word.isalpha() and word.islower())
            return f"drift {said}" if to is None else "drift move"
        case Foreign(add=add):
            return "foreign add" if add else "foreign delete"
        case _:
            return "pause"


def line_of(action: Action) -> str:
    """Write an action as one line; equal actions, equal lines."""
    return f"{kind_of(action)}: {action}"
