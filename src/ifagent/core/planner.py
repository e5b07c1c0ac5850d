"""The planner: whole desired state and whole observed state in, a plan out. Pure, and the same for all kinds.

The rules, in words:

1. **Match links.** Which link belongs to which interface: :mod:`ifagent.core.matches`.
2. **Admit.** What cannot be applied by itself is blocked, with a reason: :mod:`ifagent.core.admission`.
3. **Units.** Interfaces whose links are made together, such as the two ends of a veth pair, are a unit: both have to
   name each other. One whose partner is missing or names another interface is pending: :mod:`ifagent.core.units`. What
   kinds wait for besides, such as a TAP that its creator has not made, they say themselves
   (:mod:`ifagent.core.kinds.contract`).
4. **Keep or delete.** A unit whose links are as they belong together stays, whatever else is wrong with it. So does
   everything of an interface whose value is invalid or whose namespace cannot be seen for now. Every other link of
   ours is deleted, but only once every source has been heard, and only if no link of somebody else's sits on it that
   would go with it. What the agent has not made is not its to delete: a link that was adopted, or only configured, is
   released as it was: :mod:`ifagent.core.release`.
5. **Create or correct.** A unit without links is created, in one request. One with links is corrected in place: moved,
   renamed, its attributes and addresses set; so is an adopted link, which is marked before it is moved. What somebody
   else has a link on is not moved. An existing link is configured where it is. Nothing is done for what is right.
6. **Conflicts.** A place that somebody else's link has is a conflict, to be resolved by people. A place that a link of
   ours is about to leave is waited for; if several wait for each other in a circle, one unit of them is created anew:
   :mod:`ifagent.core.conflicts`.
7. **Namespaces.** One that the agent made is removed when nobody refers to it and no link is left in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ifagent.core.admission import Admission
from ifagent.core.adoption import adoption_of, found_at
from ifagent.core.configure import Attributes, configure
from ifagent.core.conflicts import Conflicts, kept_for_uppers, mtu_out_of_range
from ifagent.core.desired import Desired
from ifagent.core.draft import Draft
from ifagent.core.interface import Interface
from ifagent.core.kinds.contract import Origin
from ifagent.core.link import Link, LinkId
from ifagent.core.matches import LinkMatches, Unit
from ifagent.core.names import Name
from ifagent.core.namespace_ref import NamespaceRef
from ifagent.core.observed import Observed
from ifagent.core.operation import LinkOperation, Operation, Target
from ifagent.core.operations import (
    CreateNamespace,
    DeleteLink,
    MoveLink,
    RemoveAltname,
    RemoveNamespace,
    SetLink,
)
from ifagent.core.ownership import Owner
from ifagent.core.plan import Obstacle, Plan, Verdict
from ifagent.core.policy import Policy
from ifagent.core.release import plan_releases
from ifagent.core.stacking import Stacking
from ifagent.core.state import ConfigState
from ifagent.core.units import created_link, creation, find_units
from ifagent.core.unused_namespaces import unused_namespaces
from ifagent.errors import AgentBug

Planner = Callable[[Desired, Observed, Owner, Policy], Plan]
"""What decides, such as :func:`plan`."""

_ALLOW_ALL = Policy(existing=("*",))


def plan(desired: Desired, observed: Observed, owner: Owner, policy: Policy = _ALLOW_ALL) -> Plan:
    """Return what is to be asked of the kernel now, and a verdict on every declared interface.

    ``policy`` is what may be done at all. The plan is empty of steps exactly when nothing can be done: everything is as
    declared, or waits.
    """
    return _Planner(desired, observed, owner, policy).plan()


class _Planner:
    """One planning; holds what the rules share."""

    def __init__(self, desired: Desired, observed: Observed, owner: Owner, policy: Policy) -> None:
        self.desired = desired
        self.observed = observed
        self.owner = owner
        self.policy = policy
        self.matches = LinkMatches(desired, observed, owner, policy)
        self.admission = Admission(self.matches, policy)
        self.stacking = Stacking(self.matches, self.admission, policy)
        self.blocked = self.admission.blocked
        self.frozen = self.admission.frozen
        self.draft = Draft()
        self.kept: set[LinkId] = set()
        self.to_delete: dict[LinkId, DeleteLink] = {}
        self.kept_for_uppers: dict[LinkId, Link] = {}
        self.conflicts = Conflicts(
            self.matches,
            blocked=self.blocked,
            kept=self.kept,
            to_delete=self.to_delete,
            kept_for_uppers=self.kept_for_uppers,
        )

    def plan(self) -> Plan:
        by_origin: dict[Origin, list[Interface]] = {origin: [] for origin in Origin}
        for interface in self.admission.admitted.values():
            by_origin[interface.kind.origin].append(interface)
        units = list(self.stacking.admit(find_units(by_origin[Origin.CREATED], self.desired, self.admission)))
        for name, obstacle in self.blocked.items():
            self._set_verdict(name, obstacle)
        intact = [unit for unit in units if self.matches.is_intact(unit)]
        for unit in self.conflicts.find_swap_cycles(intact):
            intact.remove(unit)
        intact = self.stacking.staying(intact)
        self._select_deletions(intact)
        alive = {interface.name for unit in intact for interface in unit}
        for unit in units:
            if unit[0].name in alive:
                for interface in unit:
                    self._correct(interface)
            else:
                self._create(unit)
        for interface in by_origin[Origin.ADOPTED]:
            self._adopt(interface)
        for interface in by_origin[Origin.EXISTING]:
            self._configure_existing(interface)
        plan_releases(self.draft, self.matches, self.blocked)
        self._remove_unused_namespaces()
        for name in self.desired.interfaces:
            if not self.draft.is_judged(name):
                raise AgentBug(f"the planner found nothing about interface {name}")
        return self.draft.plan()

    # Rule 4

    def _select_deletions(self, intact: Iterable[Unit]) -> None:
        self.kept.update(self.matches.link_of[interface.name].id for unit in intact for interface in unit)
        self.kept.update(link.id for name, link in self.matches.link_of.items() if self.matches.adopts(name))
        for name in self.frozen & self.matches.link_of.keys():
            link = self.matches.link_of[name]
            self.kept.update(id for id in (link.id, link.peer) if id)
        if not self.desired.complete:
            return
        ours = [link for link in self.matches.link_at.values() if self.owner.owns(link)]
        for link in ours:
            # Believed or not, to keep it as it is harms nobody.
            if self.owner.name_of(link) in self.frozen:
                self.kept.update(id for id in (link.id, link.peer) if id)
        for link in ours:
            if link.id not in self.kept and link.id not in self.to_delete and link.id not in self.kept_for_uppers:
                ends = [end for end in (link, self.observed.peer(link)) if end]
                self._delete(sorted(ends, key=lambda end: end.id))  # of one pair it is always the same end

    def _delete(self, ends: Sequence[Link]) -> None:
        names = {name for end in ends for name in self.matches.names_of(end)}
        upper = next((upper for end in ends for upper in self.matches.uppers.get(end.id, ())), None)
        if upper is not None:
            self.kept_for_uppers.update((end.id, upper) for end in ends)
            for name in names - self.desired.interfaces.keys():
                obstacle = Obstacle(ConfigState.FAILED, kept_for_uppers(ends[0], upper, "cannot be removed"))
                self.draft.judge(name, Verdict(ends[0].id, obstacle))
            return
        operation = DeleteLink(Target.of(ends[0]), self.owner.last_group, *map(Target.of, ends[1:]))
        self.to_delete.update((end.id, operation) for end in ends)
        own = [upper for end in ends for upper in self.matches.own_uppers.get(end.id, ())]
        for upper in own:  # they would go unasked, and each is told of
            if upper.id not in self.to_delete:
                self._delete([upper])
        self.draft.step(operation, names, [self.to_delete[upper.id] for upper in own])

    # Rule 5

    def _create(self, unit: Unit) -> None:
        obstacles = {i.name: obstacle for i in unit if (obstacle := self.conflicts.why_not_made(i))}
        for interface, other in zip(unit, unit[::-1], strict=True):
            obstacle = obstacles.get(interface.name)
            if obstacle is None and obstacles:
                reason = f"peer {other.name} is blocked: {obstacles[other.name].reason}"
                obstacle = Obstacle(ConfigState.PENDING, reason, (f"interface {other.name}",))
            self.draft.judge(interface.name, Verdict(None, obstacle, () if obstacle else ("the link is missing",)))
        if obstacles:
            return
        wanted = [self.stacking.attributes(interface, None) for interface in unit]
        create = creation(unit, wanted, self.matches)
        names = [interface.name for interface in unit]
        after = [self._prepare(end.target, names) for end in create.ends]
        links = [link for name in names if (link := self.matches.link_of.get(name)) is not None]
        after += [[self.to_delete[link.id]] for link in links if link.id in self.to_delete]
        self.draft.step(create, names, (operation for operations in after for operation in operations))
        for interface, wants, end in zip(unit, wanted, create.ends, strict=True):
            self._configure(interface, wants, end.target, created_link(create, end), [create])

    def _correct(self, interface: Interface) -> bool:
        """Plan what puts the link of an interface right, where it is or by moving it; return whether it is moved."""
        link = self.matches.link_of[interface.name]
        attributes = self.stacking.attributes(interface, link)
        place = self.matches.place(interface)
        target, seen = Target.of(link), link
        after: list[Operation] = []
        differences: tuple[str, ...] = ()
        obstacle = self.conflicts.place_conflict(interface)
        if obstacle is None and place != link.id.namespace and (uppers := self.matches.uppers.get(link.id)):
            obstacle = Obstacle(ConfigState.FAILED, kept_for_uppers(link, uppers[0], f"cannot be moved to {place}"))
        if obstacle:
            # It stays where it is; everything else about it is put right.
            attributes = attributes._replace(host_name=None)
        elif place != link.id.namespace:
            destination = Target(place, interface.host_name)
            # Names that a tenant has given it are not for others: the host may have a use for them.
            move = MoveLink(target, place, interface.host_name, altnames=link.id.namespace == self.observed.own)
            before = self._prepare(destination, [interface.name])
            alias = link.alias
            if self.owner.name_of(link) is None and self.owner.adoption(link) is None:
                # The mark goes first: a kill after the move must not leave a link that nobody knows.
                alias = attributes.alias or ""
                mark = SetLink(target=target, alias=alias)
                self.draft.step(mark, [interface.name])
                before.append(mark)
            self.draft.step(move, [interface.name], [*before, *self._free_name(interface, link)])
            # It arrives down and without addresses.
            target = destination
            seen = replace(link, host_name=interface.host_name, alias=alias, up=False, master=0, addresses=())
            after, differences = [move], (f"the link is not in namespace {interface.namespace}",)
        elif link.host_name != interface.host_name:
            after = self._prepare(Target(place, interface.host_name), [interface.name])
            after += self._free_name(interface, link)
        differences += self._configure(interface, attributes, target, seen, after)
        obstacle = obstacle or self.stacking.shortfall(interface, seen)
        self.draft.judge(interface.name, Verdict(link.id, obstacle, differences))
        return seen is not link

    def _free_name(self, interface: Interface, link: Link) -> list[Operation]:
        """Return what has to go before an interface's link can be renamed to what it is called already besides."""
        if interface.host_name not in link.altnames:
            return []
        operation = RemoveAltname(Target.of(link), interface.host_name)
        self.draft.step(operation, [interface.name])
        return [operation]

    def _adopt(self, interface: Interface) -> None:
        link = self._found(interface)
        if link is None:
            return
        stays = not self._correct(interface)
        if link.id not in self.matches.marked_as_adopted:
            # Nothing elsewhere is taken for a TAP that is not about to be moved.
            place = link.id.namespace if stays else self.matches.place(interface)
            adoption = adoption_of(self.matches, interface, link, self.matches.place(interface))
            self.draft.adoptions[interface.name] = found_at(adoption, link, place)

    def _configure_existing(self, interface: Interface) -> None:
        place = self.matches.place(interface)
        if interface.kind.makes_namespace and isinstance(place, NamespaceRef):
            self._prepare(Target(place, interface.host_name), [interface.name])
            self.draft.judge(interface.name, Verdict(None, None, (f"namespace {place} is missing",)))
            return
        link = self._found(interface)
        if link is None:
            return
        attributes = self.stacking.attributes(interface, link)
        differences = self._configure(interface, attributes, Target.of(link), link, ())
        self.draft.judge(interface.name, Verdict(link.id, self.stacking.shortfall(interface, link), differences))

    def _found(self, interface: Interface) -> Link | None:
        """Return the link that somebody else has made for an interface; set it aside if nothing may be done to it."""
        link = self.matches.link_of.get(interface.name)
        obstacle = interface.kind.obstacle(interface, link, self.matches)
        if link is None:
            obstacle = obstacle or Obstacle(ConfigState.PENDING, "the link does not exist")
        elif obstacle is None:
            obstacle = mtu_out_of_range(interface, link)
        if obstacle is None:
            return link
        self._block(interface.name, obstacle)
        return None

    def _configure(
        self, interface: Interface, attributes: Attributes, target: Target, link: Link, after: Iterable[Operation]
    ) -> tuple[str, ...]:
        """Plan what makes ``link`` at ``target`` what ``interface`` says; return the differences in words."""
        newest_first = self.observed.ipv6_newest_first
        changes = configure(target, link, attributes, newest_first=newest_first)
        # What concerns one link is carried out in this order; only what must not be done after a refusal has to wait.
        for change in changes.attributes:
            self.draft.step(change, [interface.name], after)
        for groups in changes.addresses:
            before = after
            for group in groups:
                for operation in group:
                    self.draft.step(operation, [interface.name], before)
                before = group
        return changes.differences

    def _prepare(self, target: Target, names: Iterable[Name]) -> list[Operation]:
        """Return the operations that have to go before a link can take this place."""
        operations: list[Operation] = []
        if isinstance(target.namespace, NamespaceRef):
            create = CreateNamespace(target.namespace, self.owner.namespace_mark)
            self.draft.add_to_step(create, names)
            operations.append(create)
            self.draft.made[target.namespace.reference] = None
        occupant = self.matches.link_at_target(target)
        if occupant is not None and occupant.id in self.to_delete:
            operations.append(self.to_delete[occupant.id])
        return operations

    def _block(self, name: Name, obstacle: Obstacle) -> None:
        self.admission.block(name, obstacle)
        self._set_verdict(name, obstacle)

    def _set_verdict(self, name: Name, obstacle: Obstacle) -> None:
        link = self.matches.link_of.get(name)
        self.draft.judge(name, Verdict(link.id if link else None, obstacle))

    # Rule 7

    def _remove_unused_namespaces(self) -> None:
        for ref, id, left in unused_namespaces(self.desired, self.observed, self.owner):
            if all(link.id in self.to_delete for link in left):
                in_it = {op for op in self.draft.steps if isinstance(op, LinkOperation) and op.target.namespace == id}
                self.draft.step(RemoveNamespace(ref, id), (), in_it | {self.to_delete[link.id] for link in left})
