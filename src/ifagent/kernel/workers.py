"""What worker threads do to execute operations."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import anyio
import anyio.to_thread

from ifagent.core.link import LinkId, NsId
from ifagent.core.operation import Operation, Outcome
from ifagent.core.operations import (
    ChangeLink,
    CreateLink,
    CreateNamespace,
    DeleteLink,
    MoveLink,
    RemoveNamespace,
    SetChecksums,
    SetLink,
)
from ifagent.errors import AgentBug
from ifagent.kernel.jobs import RequestBatch, namespaces_of
from ifagent.kernel.kinds import driver_of
from ifagent.kernel.lane import Lane
from ifagent.kernel.netlink import Ack
from ifagent.kernel.netns import create_namespace, remove_namespace
from ifagent.kernel.reasons import name_taken, names_asked_for, reason
from ifagent.kernel.renames import needs_link_down

THREADS: Final = 16
"""Most worker threads at a time: of 96 veth deletions 16 at once took 172 ms, 8 took 295 ms, one 1593 ms."""


async def run_job(
    job: Callable[[], dict[int, Outcome]], threads: anyio.CapacityLimiter, outcomes: dict[int, Outcome]
) -> None:
    """Run a job in a worker thread and add its outcomes, by position, to ``outcomes``."""
    outcomes.update(await anyio.to_thread.run_sync(job, limiter=threads))


def send_requests(
    operations: Sequence[Operation],
    encoded: Mapping[int, Sequence[bytes]],
    batches: Sequence[RequestBatch],
    lanes: Mapping[NsId, Lane],
) -> dict[int, Outcome]:
    """Execute the operations of one job, in a worker thread; in each batch ioctls follow the netlink messages.

    ``encoded`` has the messages of each operation by position, ``lanes`` those of all namespaces that are named.
    """
    outcomes: dict[int, Outcome] = {}
    for batch in batches:
        lane = lanes[batch.namespace]
        deletions = [op for op in map(operations.__getitem__, batch.positions) if isinstance(op, DeleteLink)]
        if len(deletions) == len(batch.positions) > 1:
            acks = lane.delete_by_group([op.target.ifindex or 0 for op in deletions], deletions[0].group)
            outcomes |= {p: Outcome(operations[p], *ack) for p, ack in zip(batch.positions, acks, strict=True)}
            continue
        messages = [(position, message) for position in batch.positions for message in encoded.get(position, ())]
        moves = [
            op for op in map(operations.__getitem__, batch.positions) if isinstance(op, MoveLink) and not op.altnames
        ]
        for move in moves:
            lane.remove_altnames(move.target.ifindex or 0)
        acks = lane.request([message for _, message in messages])
        for (position, message), ack in zip(messages, acks, strict=True):
            if position not in outcomes or not outcomes[position].errno:
                outcomes[position] = _outcome(operations[position], message, ack, lanes)
        for move in moves:  # root in its old namespace may have added some; from here on it cannot
            if isinstance(move.to, int) and move.to in lanes:
                lanes[move.to].remove_altnames(move.host_name)
        for position in batch.positions:
            if position not in encoded:
                outcomes[position] = _execute(operations[position], lane, lanes)
    return outcomes


def is_by_file(operation: Operation) -> bool:
    """Tell whether an operation is not a request of rtnetlink, but of a file of the kind's driver."""
    return isinstance(operation, CreateLink | ChangeLink) and driver_of(operation.kind).by_file


def _execute(operation: Operation, lane: Lane, lanes: Mapping[NsId, Lane]) -> Outcome:
    """Execute an operation that is no message, or needs several of which each depends on the one before."""
    match operation:
        case SetChecksums():
            ack = lane.set_checksums(operation.target.ifindex or 0, operation.checksums)
        case CreateLink() | ChangeLink() if is_by_file(operation):
            ack = lane.use_tun_device(operation)
        case CreateLink(lower=LinkId() as lower):
            ack = lane.create_above(operation, lanes[lower.namespace].fd)
        case _:
            raise AgentBug(f"nothing is known that executes {operation}")
    return _outcome(operation, b"", ack, lanes)


def _outcome(operation: Operation, request: bytes, ack: Ack, lanes: Mapping[NsId, Lane]) -> Outcome:
    """Return the outcome of an operation, after retrying it as an older kernel needs it."""
    if isinstance(operation, SetLink | MoveLink) and needs_link_down(operation, ack):
        up = operation.up if isinstance(operation, SetLink) else None
        lane = lanes[namespaces_of(operation)[0]]
        ack = lane.rename_while_down(operation.target.ifindex or 0, request, up=up)
    if isinstance(operation, CreateLink) and not ack.errno and (sysctls := driver_of(operation.kind).sysctls):
        return Outcome(operation, 0, lanes[namespaces_of(operation)[0]].set_sysctls(sysctls))
    text = reason(operation, ack.errno, ack.text)
    if ack.errno == errno.EEXIST and not text:
        holders = ((name, lanes[place].link_called(name)) for place, name in names_asked_for(operation))
        text = "; ".join(name_taken(name, link) for name, link in holders if link is not None)
    return Outcome(operation, ack.errno, text)


def change_netns(directory: str, home: int, position: int, operation: Operation) -> dict[int, Outcome]:
    """Create or remove a named namespace, in a worker thread."""
    try:
        match operation:
            case CreateNamespace(namespace=ref, mark=mark):
                create_namespace(directory, ref.reference, mark=mark, home=home)
            case RemoveNamespace(namespace=ref, id=id):
                remove_namespace(directory, ref.reference, id)
    except OSError as error:
        return {position: Outcome(operation, error.errno or errno.EIO, error.strerror or str(error))}
    return {position: Outcome(operation)}
