"""Divides operations into jobs, each for one worker thread. Pure.

Most requests are short and hold the kernel's RTNL lock throughout, so parallel threads would only queue: one job takes
them all, batched by namespace. Deleting a link mostly waits for readers (some 20 ms) without that lock, and deleting
many at once by their group waits no longer: deletions are batched by namespace where that is possible, and otherwise
spread over the threads. Operations on one link stay in one job, in the order given.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceType
from ifagent.core.operation import NamespaceOperation, Operation, Outcome, Target
from ifagent.core.operations import DeleteLink
from ifagent.errors import AgentBug


class RequestBatch(NamedTuple):
    """Operations to be sent one after the other in one namespace, by their positions."""

    namespace: NsId
    positions: list[int]


def namespaces_of(operation: Operation) -> tuple[NsId, ...]:
    """Return the namespaces that an operation names; it is sent in the first of them.

    Raises :class:`AgentBug` where one is still a reference.
    """
    namespaces = operation.namespaces
    if len(namespaces) != len(operation.places):
        raise AgentBug(f"{operation}: a namespace is not resolved")
    return namespaces


def unattached(operation: Operation, attached: Container[NsId]) -> Outcome | None:
    """Return the refusal of an operation in a namespace that is not attached, ``None`` if all are."""
    here, *others = namespaces_of(operation)
    if here not in attached:
        return Outcome(operation, errno.ENODEV, f"namespace {here} is not attached")
    for other in others:
        if other not in attached:
            return Outcome(operation, errno.ENOENT, f"namespace {other} is not attached")
    return None


def require_named(operation: NamespaceOperation) -> None:
    """Raise :class:`AgentBug` for a namespace that cannot be created or removed."""
    if operation.namespace.type != NamespaceType.NAMED:
        raise AgentBug(f"{operation}: only named namespaces can be created and removed")


def choose_ends(operations: Iterable[Operation], attached: Container[NsId]) -> list[Operation]:
    """Return the operations, with veths deleted by those ends of which most are in one namespace.

    There they are one request, which takes hardly longer than for one of them.
    """
    chosen = list(operations)
    ends: dict[NsId, list[tuple[int, Target]]] = {}
    about = Counter(map(_link, chosen))
    for position, operation in enumerate(chosen):
        if isinstance(operation, DeleteLink) and about[_link(operation)] == 1:
            for end in (operation.target, operation.other):
                if end is not None and isinstance(end.namespace, int) and end.namespace in attached:
                    ends.setdefault(end.namespace, []).append((position, end))
    done: set[int] = set()
    most = [(-len(here), namespace) for namespace, here in ends.items()]
    heapify(most)
    while most:
        count, namespace = heappop(most)
        left = [(position, end) for position, end in ends[namespace] if position not in done]
        if len(left) < -count:  # others have taken some
            if left:
                heappush(most, (-len(left), namespace))
            continue
        for position, end in left:
            operation = chosen[position]
            if isinstance(operation, DeleteLink):
                chosen[position] = DeleteLink(end, operation.group)
                done.add(position)
    return chosen


def find_group_deletions(
    operations: Iterable[tuple[int, Operation]], in_group: Callable[[NsId, int], set[int]]
) -> set[NsId]:
    """Return the namespaces whose deletions can be one request: they are of several links, and all of one group.

    ``in_group`` returns the ifindexes of a group's links in a namespace.
    """
    groups: dict[NsId, dict[int, int]] = {}
    for _, operation in operations:
        if isinstance(operation, DeleteLink):
            here = groups.setdefault(namespaces_of(operation)[0], {})
            here[operation.target.ifindex or 0] = operation.group
    return {
        namespace
        for namespace, links in groups.items()
        if len(links) > 1
        and len(different := set(links.values())) == 1
        and 0 not in different
        and in_group(namespace, *different) <= links.keys()
    }


def plan_jobs(
    operations: Iterable[tuple[int, Operation]], *, width: int, by_group: Collection[NsId] = ()
) -> list[list[RequestBatch]]:
    """Divide operations, each with its position, into jobs that may run in parallel, at most ``width`` of deletions.

    In the namespaces of ``by_group`` all deletions are one batch, unless another operation is about one of the links.
    """
    operations = list(operations)
    group_deletions = [op for _, op in operations if isinstance(op, DeleteLink) and namespaces_of(op)[0] in by_group]
    if group_deletions:
        others = Counter(_link(operation) for _, operation in operations)
        by_group = {namespaces_of(op)[0] for op in group_deletions} - {
            namespaces_of(op)[0] for op in group_deletions if others[_link(op)] > 1
        }
    slow = {_link(operation) for _, operation in operations if isinstance(operation, DeleteLink)}
    short: dict[NsId, RequestBatch] = {}
    long: dict[object, RequestBatch] = {}
    for position, operation in operations:
        namespace, link = namespaces_of(operation)[0], _link(operation)
        batch = (
            long.setdefault(namespace if namespace in by_group else link, RequestBatch(namespace, []))
            if link in slow
            else short.setdefault(namespace, RequestBatch(namespace, []))
        )
        batch.positions.append(position)
    batches = sorted(long.values(), key=lambda batch: batch.namespace)
    jobs: list[Sequence[RequestBatch]] = [list(short.values()), *(batches[start::width] for start in range(width))]
    return [list(job) for job in jobs if job]


def _link(operation: Operation) -> object:
    """Return a key of the link that an operation is about; a new link has a key of its own."""
    return next(((target.namespace, target.ifindex) for target in operation.targets), operation)
