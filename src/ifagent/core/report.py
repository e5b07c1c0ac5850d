"""From declaration, verdict, link and refusals to the state that everybody sees. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ifagent.core.addresses import managed
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface, Name, NamespaceRef
from ifagent.core.link import Link, NsId, OperState
from ifagent.core.plan import Verdict
from ifagent.core.retry import Refusal, Unrest
from ifagent.core.state import ConfigState, InterfaceState, Status
from ifagent.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that is known of one interface at the end of a round.

    ``interface`` is the valid value in force, if any. ``now`` is the monotonic time that ``refusals`` and
    ``unrest`` use, ``clock`` the same moment in Unix seconds.
    """

    name: Name
    declaration: Declaration | None
    interface: Interface | None
    verdict: Verdict
    link: Link | None
    peer: Link | None
    namespace_id: NsId | None
    refusals: Sequence[Refusal]
    unrest: Unrest
    last_drift: str
    now: float
    clock: float


def report(findings: Findings, before: InterfaceState | None) -> InterfaceState:
    """Return the interface's state; ``before`` if nothing about it changed."""
    f = findings
    state = InterfaceState(
        name=f.name,
        type=f.interface.kind.type if f.interface else "veth",
        warnings=f.declaration.warnings if f.declaration else (),
        namespace=f.interface.namespace if f.interface else NamespaceRef(),
        namespace_id=f.namespace_id,
        observed_revision=f.declaration.revision if f.declaration else 0,
        applied_revision=before.applied_revision if before else 0,
        repairs=f.unrest.repairs,
        last_drift=f.last_drift,
        last_change=before.last_change if before else 0.0,
        config_state=ConfigState.APPLIED,
    )
    if f.link is not None:
        state = _with_link(state, f.link, f.peer, f.interface)
    state = _with_config_state(state, f)
    if state.config_state is ConfigState.APPLIED:
        state = replace(state, applied_revision=state.observed_revision)
    return before if state == before and before is not None else replace(state, last_change=f.clock)


def deleted(state: InterfaceState, clock: float) -> InterfaceState:
    """Return the last state of an interface that is no more."""
    return replace(
        state, admin_status=Status.DELETED, oper_status=Status.DELETED, if_index=0, last_change=clock, reason="deleted"
    )


def _with_link(state: InterfaceState, link: Link, peer: Link | None, interface: Interface | None) -> InterfaceState:
    up = link.operstate is OperState.UP or (link.operstate is OperState.UNKNOWN and link.up and link.carrier)
    return replace(
        state,
        internal_name=link.host_name,
        if_index=link.id.ifindex,
        admin_status=Status.UP if link.up else Status.DOWN,
        oper_status=Status.UP if up else Status.DOWN,
        phys_address=link.mac,
        mtu=link.mtu,
        peer_if_index=peer.id.ifindex if peer else 0,
        ip_addresses=managed(link.addresses, interface.ip_addresses if interface else ()),
        namespace_id=link.id.namespace,
    )


def _with_config_state(state: InterfaceState, f: Findings) -> InterfaceState:
    """Decide how far the interface is, the reason and what belongs to it."""
    obstacle = f.verdict.obstacle
    if f.declaration is not None and f.declaration.errors:
        reason = "; ".join(map(str, f.declaration.errors))
        return replace(state, config_state=ConfigState.INVALID, reason=reason, errors=f.declaration.errors)
    if obstacle is not None:
        errors = (FieldError(obstacle.field, obstacle.reason),) if obstacle.config_state is ConfigState.INVALID else ()
        return replace(
            state,
            config_state=obstacle.config_state,
            reason=obstacle.reason,
            missing=obstacle.missing,
            errors=errors,
        )
    if f.refusals:
        return _with_refusals(state, f)
    if f.verdict.fulfilled and f.declaration is not None:
        return state
    reason = "; ".join(f.verdict.differences) or "it is being removed"
    if f.unrest.left:
        reason = f"somebody else has changed it, and the settings have drift reported, not repaired: {reason}"
        return replace(state, config_state=ConfigState.FAILED, reason=reason)
    if f.now < f.unrest.until:
        reason = f"somebody else keeps changing it ({f.unrest.streak} times in a row), last: {f.last_drift}"
    next_retry = f.clock + max(f.unrest.until - f.now, 0.0)
    return replace(
        state,
        config_state=ConfigState.RETRYING,
        reason=reason,
        attempts=f.unrest.streak,
        next_retry=round(next_retry, 3),
    )


def _with_refusals(state: InterfaceState, f: Findings) -> InterfaceState:
    reason = "; ".join(dict.fromkeys(refusal.text for refusal in f.refusals))
    attempts = max(refusal.attempts for refusal in f.refusals)
    times = [refusal.next_try for refusal in f.refusals if refusal.next_try is not None]
    if len(times) < len(f.refusals):
        return replace(state, config_state=ConfigState.FAILED, reason=reason, attempts=attempts)
    next_retry = round(f.clock + max(min(times) - f.now, 0.0), 3)
    return replace(state, config_state=ConfigState.RETRYING, reason=reason, attempts=attempts, next_retry=next_retry)
