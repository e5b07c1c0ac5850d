"""From declaration, verdict, link and refusals to the state that everybody sees. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Self

from ifagent.core.addresses import managed
from ifagent.core.drift import DriftHistory
from ifagent.core.events import Declaration
from ifagent.core.interface import Interface
from ifagent.core.link import Link, LinkId, NsId, OperState
from ifagent.core.names import IPInterface
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.observed import Observed
from ifagent.core.plan import Verdict
from ifagent.core.resources import Key
from ifagent.core.retry import Refusal
from ifagent.core.state import ConfigState, InterfaceState, Status
from ifagent.errors import AgentBug, FieldError

IN_REASON: Final = 5
"""Most errors of a value that its reason repeats."""


class Beside(NamedTuple):
    """The links that one has to do with, as far as they are known."""

    peer: Link | None = None
    lower: Link | None = None
    master: Link | None = None

    @classmethod
    def of(cls, link: Link | None, observed: Observed) -> Self:
        """Find them."""
        if link is None:
            return cls()
        master = LinkId(link.id.namespace, link.master) if link.master else None
        return cls(observed.peer(link), observed.link(link.lower), observed.link(master))


class Findings(NamedTuple):
    """Everything that is known of one interface at the end of a round; no ``verdict`` if nothing was found about it.

    ``interface`` is the valid value in force, if any. ``remark`` is what there is to say of it if all is as declared.
    """

    key: Key
    declaration: Declaration | None
    interface: Interface | None
    verdict: Verdict | None
    link: Link | None
    beside: Beside
    namespace_id: NsId | None
    refusals: Sequence[Refusal]
    drift: DriftHistory
    remark: str = ""

    @property
    def is_time_independent(self) -> bool:
        """True if what they mean does not change as time passes."""
        return not self.refusals and not self.drift.until


def build_state(findings: Findings, before: InterfaceState | None, *, now: float, clock: float) -> InterfaceState:
    """Return the interface's state; ``before`` if nothing about it changed.

    ``now`` is the monotonic time that refusals and drift are told in, ``clock`` the same moment in Unix seconds.
    """
    f = findings
    declared = f.interface.ip_addresses if f.interface else ()
    observed_revision = f.declaration.revision if f.declaration else 0
    config = _config_state(f, now, clock)
    applied = config["config_state"] is ConfigState.APPLIED
    state = InterfaceState(
        name=f.key.name,
        type=f.interface.kind.type if f.interface else "veth",
        warnings=f.declaration.warnings if f.declaration else (),
        namespace=f.interface.namespace if f.interface else NamespaceRef(),
        observed_revision=observed_revision,
        applied_revision=observed_revision if applied else before.applied_revision if before else 0,
        repairs=f.drift.repairs,
        last_drift=f.drift.different,
        last_change=clock,
        **(link_fields(f.link, f.beside, declared) if f.link else {"namespace_id": f.namespace_id}),
        **config,
    )
    return before if before is not None and state == replace(before, last_change=clock) else state


def deleted(state: InterfaceState, clock: float) -> InterfaceState:
    """Return the last state of an interface that is gone."""
    return replace(
        state, admin_status=Status.DELETED, oper_status=Status.DELETED, if_index=0, last_change=clock, reason="deleted"
    )


def link_fields(link: Link, beside: Beside, declared: Sequence[IPInterface] = ()) -> dict[str, Any]:
    """Return the fields of a state that say what its link is like; ``declared`` are the addresses it is to have."""
    peer, lower, master = beside
    up = link.operstate is OperState.UP or (link.operstate is OperState.UNKNOWN and link.up and link.carrier)
    return {
        "internal_name": link.host_name,
        "if_index": link.id.ifindex,
        "admin_status": Status.UP if link.up else Status.DOWN,
        "oper_status": Status.UP if up else Status.DOWN,
        "phys_address": link.mac,
        "mtu": link.mtu,
        "speed": link.speed.bits,
        "duplex": link.speed.duplex,
        "peer_if_index": peer.id.ifindex if peer else 0,
        "lower": lower.host_name if lower else "",
        "master": master.host_name if master else "",
        "settings": link.data,
        "ip_addresses": managed(link.addresses, declared),
        "namespace_id": link.id.namespace,
    }


def _config_state(f: Findings, now: float, clock: float) -> dict[str, Any]:
    """Return the fields that say how far the interface is, and why."""
    obstacle = f.verdict.obstacle if f.verdict else None
    if f.declaration is not None and f.declaration.errors:
        errors = f.declaration.errors
        reason = "; ".join([*map(str, errors[:IN_REASON]), *["and more"] * (len(errors) > IN_REASON)])
        return {"config_state": ConfigState.INVALID, "reason": reason, "errors": errors}
    if obstacle is not None:
        invalid = obstacle.config_state is ConfigState.INVALID
        tried = _tries(f.refusals, now, clock) if obstacle.config_state is ConfigState.FAILED else {}
        return {
            **tried,
            "config_state": obstacle.config_state,
            "reason": obstacle.reason,
            "missing": obstacle.missing,
            "errors": (FieldError(obstacle.field, obstacle.reason),) if invalid else (),
        }
    if f.refusals:
        return _refused(f, now, clock)
    if f.verdict is None and f.declaration is not None:
        raise AgentBug(f"{f.key} is declared, and the planner has found nothing about it")
    if f.verdict is not None and f.verdict.fulfilled and f.declaration is not None:
        return {"config_state": ConfigState.APPLIED, "reason": f.remark}
    reason = ("; ".join(f.verdict.differences) if f.verdict else "") or "being removed"
    if f.drift.suspended:
        reason = f"changed externally; drift repair is disabled (--drift report): {reason}"
        return {"config_state": ConfigState.FAILED, "reason": reason}
    if now < f.drift.until:
        reason = f"repeatedly changed externally ({f.drift.streak} times in a row), last: {f.drift.different}"
    return {
        "config_state": ConfigState.RETRYING,
        "reason": reason,
        "attempts": f.drift.streak,
        "next_retry": round(clock + max(f.drift.until - now, 0.0), 3),
    }


def _refused(f: Findings, now: float, clock: float) -> dict[str, Any]:
    reason = "; ".join(dict.fromkeys(refusal.text for refusal in f.refusals))
    for_good = any(refusal.next_try is None for refusal in f.refusals)
    config_state = ConfigState.FAILED if for_good else ConfigState.RETRYING
    return {"config_state": config_state, "reason": reason, **_tries(f.refusals, now, clock)}


def _tries(refusals: Sequence[Refusal], now: float, clock: float) -> dict[str, Any]:
    """Return the fields that say how often something was tried, and when it will be again unless that is never."""
    if not refusals:
        return {}
    attempts = max(refusal.attempts for refusal in refusals)
    times = [refusal.next_try for refusal in refusals if refusal.next_try is not None]
    if len(times) < len(refusals):
        return {"attempts": attempts}
    return {"attempts": attempts, "next_retry": round(clock + max(min(times) - now, 0.0), 3)}
