"""What there is only while the kernel is listened to, and what worker threads do of one execution."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import anyio
import anyio.to_thread

from ifagent.core.interface import NamespaceRef
from ifagent.core.link import LinkId, NsId
from ifagent.core.operations import (
    CreateNamespace,
    DeleteLink,
    MoveLink,
    Operation,
    Outcome,
    RemoveNamespace,
    SetChecksums,
    SetLink,
)
from ifagent.kernel.contract import Emit
from ifagent.kernel.ifindexes import Ifindexes
from ifagent.kernel.jobs import Step, namespaces_of
from ifagent.kernel.lane import Lane
from ifagent.kernel.messages import Ack
from ifagent.kernel.monitor import Monitor
from ifagent.kernel.namespaces import create_namespace, remove_namespace
from ifagent.kernel.reasons import name_taken, names_asked_for, reason
from ifagent.kernel.renames import needs_link_down

THREADS: Final = 16
"""Most worker threads at a time: of 96 veth deletions 16 at once took 172 ms, 8 took 295 ms, one 1593 ms."""

PAUSE: Final = 0.02
"""Seconds between two unrequested listings, so that a storm of mounts or notifications costs little."""

GATHER: Final = 0.005
"""Seconds in which notifications gather: a loop that wakes for each takes turns with the thread that causes them."""


class Session:
    """One run of the kernel."""

    def __init__(self, emit: Emit, own: NsId, home: int, monitor: Monitor, *, has_ifa_proto: bool) -> None:
        self.emit: Emit = emit
        self.own: NsId = own
        self.home: int = home
        self.monitor: Monitor = monitor
        self.has_ifa_proto: bool = has_ifa_proto
        self.ifindexes: Ifindexes = Ifindexes()
        self.threads: anyio.CapacityLimiter = anyio.CapacityLimiter(THREADS)
        self.naming: anyio.Lock = anyio.Lock()
        self.named: dict[NamespaceRef, tuple[NsId, str]] = {}
        self.names_changed = False
        self.renamed: anyio.Event = anyio.Event()
        self.offloads_to_read: set[LinkId] = set()
        self.speeds_to_read: set[LinkId] = set()
        self.requery: anyio.Event = anyio.Event()


def find_sweeps(monitor: Monitor, requests: Iterable[tuple[int, Operation]]) -> set[NsId]:
    """Return the namespaces in which several links may be deleted at once: no other link is in their group."""
    doomed: dict[NsId, dict[int, int]] = {}
    for _, operation in requests:
        if isinstance(operation, DeleteLink):
            here = doomed.setdefault(namespaces_of(operation)[0], {})
            here[operation.target.ifindex or 0] = operation.group
    return {
        namespace
        for namespace, links in doomed.items()
        if len(links) > 1
        and len(groups := set(links.values())) == 1
        and 0 not in groups
        and monitor.links.in_group(namespace, *groups) <= links.keys()
    }


async def do(
    job: Callable[[], dict[int, Outcome]], threads: anyio.CapacityLimiter, outcomes: dict[int, Outcome]
) -> None:
    """Have a worker thread do a job, and take in its outcomes."""
    outcomes.update(await anyio.to_thread.run_sync(job, limiter=threads))


def send(
    operations: Sequence[Operation],
    encoded: Mapping[int, Sequence[bytes]],
    steps: Sequence[Step],
    lanes: Mapping[NsId, Lane],
) -> dict[int, Outcome]:
    """Have the requests of one job carried out, in a worker thread; what is no message comes after the messages.

    ``lanes`` are those of all namespaces that the operations name.
    """
    outcomes: dict[int, Outcome] = {}
    for step in steps:
        lane = lanes[step.namespace]
        deletions = [op for op in map(operations.__getitem__, step.places) if isinstance(op, DeleteLink)]
        if len(deletions) == len(step.places) > 1:
            acks = lane.sweep([op.target.ifindex or 0 for op in deletions], deletions[0].group)
            outcomes |= {p: Outcome(operations[p], *ack) for p, ack in zip(step.places, acks, strict=True)}
            continue
        messages = [(place, message) for place in step.places for message in encoded.get(place, ())]
        moves = [op for op in map(operations.__getitem__, step.places) if isinstance(op, MoveLink) and not op.altnames]
        for move in moves:
            lane.remove_altnames(move.target.ifindex or 0)
        acks = lane.request([message for _, message in messages])
        for (place, message), ack in zip(messages, acks, strict=True):
            if place not in outcomes or not outcomes[place].errno:
                outcomes[place] = _outcome(operations[place], message, ack, lanes)
        for move in moves:  # whoever is root where it came from may have added some, and now cannot any more
            if isinstance(move.to, int) and move.to in lanes:
                lanes[move.to].remove_altnames(move.host_name)
        for place in step.places:
            operation = operations[place]
            if isinstance(operation, SetChecksums):
                ack = lane.set_checksums(operation.target.ifindex or 0, operation.checksums)
                outcomes[place] = Outcome(operation, ack.errno, ack.text)
    return outcomes


def _outcome(operation: Operation, request: bytes, ack: Ack, lanes: Mapping[NsId, Lane]) -> Outcome:
    """Return what became of an operation, after what an older kernel needs in addition."""
    if isinstance(operation, SetLink | MoveLink) and needs_link_down(operation, ack):
        up = operation.up if isinstance(operation, SetLink) else None
        lane = lanes[namespaces_of(operation)[0]]
        ack = lane.rename_while_down(operation.target.ifindex or 0, request, up=up)
    text = ack.text or reason(operation, ack.errno)
    if ack.errno == errno.EEXIST and not text:
        holders = ((name, lanes[place].link_called(name)) for place, name in names_asked_for(operation))
        text = "; ".join(name_taken(name, link) for name, link in holders if link is not None)
    return Outcome(operation, ack.errno, text)


def change_netns(directory: str, home: int, place: int, operation: Operation) -> dict[int, Outcome]:
    """Make or remove a named namespace, in a worker thread."""
    try:
        match operation:
            case CreateNamespace(namespace=ref, mark=mark):
                create_namespace(directory, ref.reference, mark=mark, home=home)
            case RemoveNamespace(namespace=ref, id=id):
                remove_namespace(directory, ref.reference, id)
    except OSError as error:
        return {place: Outcome(operation, error.errno or errno.EIO, error.strerror or str(error))}
    return {place: Outcome(operation)}
