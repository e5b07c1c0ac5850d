"""Which requests go together to one worker thread. Pure.

Most requests are short and hold the kernel's one lock for links all the time, so threads would only queue: they
go together by namespace. The deletion of a link mostly waits, without that lock, for readers to finish (some
20 ms), and that of many at once waits no longer: deletions go together by namespace where that is possible, and are
spread over as many threads as there are. What concerns one link stays in one job, in
the order given.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from typing import NamedTuple

from ifagent.core.interface import NamespaceType
from ifagent.core.link import NsId
from ifagent.core.operations import DeleteLink, NamespaceOperation, Operation, Outcome
from ifagent.errors import AgentBug


class Step(NamedTuple):
    """Requests to be sent one after the other in one namespace, by their places among the operations."""

    namespace: NsId
    places: list[int]


def namespaces_of(operation: Operation) -> tuple[NsId, ...]:
    """Return the namespaces that an operation names; it is to be sent in the first of them.

    Raises :class:`AgentBug` where one is still a reference.
    """
    namespaces = operation.namespaces
    if len(namespaces) != len(operation.places):
        raise AgentBug(f"{operation}: a namespace is not resolved")
    return namespaces


def unattached(operation: Operation, attached: Container[NsId]) -> Outcome | None:
    """Return the answer to an operation in a namespace that is not attached, ``None`` if all are."""
    here, *others = namespaces_of(operation)
    if here not in attached:
        return Outcome(operation, errno.ENODEV, f"the namespace {here} is not open")
    for other in others:
        if other not in attached:
            return Outcome(operation, errno.ENOENT, f"the namespace {other} is not open")
    return None


def require_named(operation: NamespaceOperation) -> None:
    """Raise :class:`AgentBug` for a namespace that cannot be made or removed."""
    if operation.namespace.type != NamespaceType.NAMED:
        raise AgentBug(f"{operation}: only named namespaces are made and removed")


def plan_jobs(
    operations: Iterable[tuple[int, Operation]], *, width: int, sweeps: Collection[NsId] = ()
) -> list[list[Step]]:
    """Divide operations, each with its place, into jobs that may run at once; ``width`` is how many make sense.

    In namespaces of ``sweeps`` the deletions are one step, of links about which there is nothing else.
    """
    operations = list(operations)
    swept = [op for _, op in operations if isinstance(op, DeleteLink) and namespaces_of(op)[0] in sweeps]
    if swept:
        others = Counter(_link(operation) for _, operation in operations)
        sweeps = {namespaces_of(op)[0] for op in swept} - {
            namespaces_of(op)[0] for op in swept if others[_link(op)] > 1
        }
    slow = {_link(operation) for _, operation in operations if isinstance(operation, DeleteLink)}
    short: dict[NsId, Step] = {}
    long: dict[object, Step] = {}
    for place, operation in operations:
        namespace, link = namespaces_of(operation)[0], _link(operation)
        step = (
            long.setdefault(namespace if namespace in sweeps else link, Step(namespace, []))
            if link in slow
            else short.setdefault(namespace, Step(namespace, []))
        )
        step.places.append(place)
    steps = sorted(long.values(), key=lambda step: step.namespace)
    jobs: list[Sequence[Step]] = [list(short.values()), *(steps[start::width] for start in range(width))]
    return [list(job) for job in jobs if job]


def _link(operation: Operation) -> object:
    """Return what tells the link of an operation from others; a new one is like no other."""
    return next(((target.namespace, target.ifindex) for target in operation.targets), operation)
