"""The list of actions that follows from a seed, and from nothing else.

A script keeps its own account of what it has done, never looks at what came of it, and takes every choice from one
``random.Random``: the same seed gives the same actions, whatever the agent makes of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from chaos import wishes
from chaos.actions import Action, Drift, Foreign, Pause, Simple, Store, Value, What
from chaos.values import BAD, OWN, Family, Form, Space, Wish

DAMPED_AFTER = 3
"""Changes by others of one interface after which it is declared anew before a check.

The agent spaces out repairs of what somebody keeps changing, up to a minute; a changed value clears that.
"""


@dataclass(frozen=True, slots=True)
class Mix:
    """How often what is done, relative to the rest, and with what. Zero: never."""

    puts: float = 30
    transactions: float = 8
    deletes: float = 9
    invalid: float = 4
    drift: float = 30
    crowds: float = 0.6
    flaps: float = 1.5
    namespaces: float = 7
    ipv6: float = 1
    processes: float = 5
    files: float = 4
    containers: float = 3
    dockers: float = 0.5
    taps: float = 5
    foreign: float = 4
    compactions: float = 2
    resets: float = 2
    holes: float = 0.7
    freezes: float = 1.5
    etcd_ends: float = 1.2
    agent_ends: float = 2
    pairs: int = 8
    tap_count: int = 3


class Script:
    """A list of actions without an end, of which one takes as many as one likes."""

    def __init__(self, seed: int, mix: Mix, *, containers: bool = False) -> None:
        self.mix = mix
        self._random = random.Random(seed)
        self._universe = wishes.Universe(self._random, pairs=mix.pairs, taps=mix.tap_count, containers=containers)
        self._values: dict[str, dict[Family, Wish | None]] = {}
        self._on: set[str] = set()
        self._drifted: Counter[str] = Counter()
        self._refreshes = 0
        self._down: list[tuple[What, int]] = []
        choices: dict[Callable[[], Iterator[Action]], float] = {
            self._put: mix.puts,
            self._transaction: mix.transactions,
            self._delete: mix.deletes,
            self._invalid: mix.invalid,
            self._crowd: mix.crowds,
            self._flap: mix.flaps,
            self._ipv6: mix.ipv6,
            self._drift: mix.drift,
            self._namespace: mix.namespaces,
            self._process: mix.processes,
            self._file: mix.files,
            self._container: mix.containers if containers else 0,
            self._docker: mix.dockers if containers else 0,
            self._tap: mix.taps if mix.tap_count else 0,
            self._foreign: mix.foreign,
            self._compact: mix.compactions,
            self._reset: mix.resets,
            self._hole: mix.holes,
            self._freeze: mix.freezes,
            self._end_etcd: mix.etcd_ends,
            self._end_agent: mix.agent_ends,
        }
        self._choices = [choice for choice, weight in choices.items() if weight]
        self._weights = [weight for weight in choices.values() if weight]

    def actions(self, count: int) -> Iterator[Action]:
        """Return what is done next, so many actions, and those that belong to the last one."""
        while count > 0:
            [choice] = self._random.choices(self._choices, self._weights)
            done = list(choice())
            if done:
                done += [*self._some_time(), *self._bring_up()]
            yield from done
            count -= len(done)

    def calm(self) -> Iterator[Action]:
        """Return what has to be done before things can become quiet: all that is away comes back."""
        self._down = [(what, 0) for what, _ in self._down]
        yield from self._bring_up()
        weary = [name for name, times in self._drifted.items() if times > DAMPED_AFTER]
        yield from self._declare_anew(weary)
        self._drifted.clear()

    def clear(self) -> Iterator[Action]:
        """Return what deletes every value."""
        yield from self.calm()
        deletes = [(name, family) for name, values in sorted(self._values.items()) for family in sorted(values)]
        self._values.clear()
        yield Store((), tuple(deletes))

    # Values

    def _forms(self, name: str) -> Form:
        """Choose a form; mostly of the family that the name is declared in."""
        families = sorted(self._values.get(name, {}))
        if families and self._random.random() < 0.9:
            family = self._random.choice(families)
        else:
            family = Family.V3 if self._random.random() < 0.2 else Family.V1
        return self._random.choice([form for form in Form if form.family is family])

    def _value(self, wish: Wish) -> Value:
        form = self._forms(wish.name)
        self._values.setdefault(wish.name, {})[form.family] = wish
        self._drifted.pop(wish.name, None)
        return Value(wish.name, form, wish)

    def _current(self, name: str) -> Wish | None:
        values = self._values.get(name, {})
        return values[Family.V3] if Family.V3 in values else values.get(Family.V1)

    def _can_store(self) -> bool:
        return What.ETCD_START not in [what for what, _ in self._down]

    def _put(self) -> Iterator[Action]:
        if not self._can_store():
            return
        name = self._random.choice(self._universe.names)
        before = self._current(name)
        if before is None or self._random.random() < 0.3:
            made = self._universe.pair_or_tap(name)
            if self._random.random() < 0.3:
                made = made[:1]
            yield from (Store((self._value(wish),)) for wish in made)
        else:
            yield Store((self._value(self._universe.change(before)),))

    def _transaction(self) -> Iterator[Action]:
        if not self._can_store():
            return
        kind = self._random.choice(["anew", "swap", "partners", "many"])
        names = self._random.sample(self._universe.names, 4)
        known = [wish for name in names if (wish := self._current(name)) is not None]
        made: list[Wish] = []
        if kind == "swap" and len(known) > 1:
            one, other = known[:2]
            if one.kind == other.kind:
                made = [
                    replace(one, host_if_name=other.host_name, space=other.space),
                    replace(other, host_if_name=one.host_name, space=one.space),
                ]
        elif kind == "partners":
            made = self._universe.other_partners(self._current)
        elif kind == "many":
            made = [self._universe.change(wish) for wish in known]
        made = made or self._universe.pair_or_tap(names[0])
        yield Store(tuple(map(self._value, made)))

    def _delete(self) -> Iterator[Action]:
        if not self._can_store() or not self._values:
            return
        names = self._random.sample(sorted(self._values), min(len(self._values), self._random.choice([1, 1, 1, 2, 4])))
        deletes = []
        for name in names:
            family = self._random.choice(sorted(self._values[name]))
            del self._values[name][family]
            deletes.append((name, family))
            if not self._values[name]:
                del self._values[name]
        yield Store((), tuple(deletes))

    def _invalid(self) -> Iterator[Action]:
        invalid = [name for name in sorted(self._values) if self._current(name) is None]
        if not self._can_store():
            return
        if len(invalid) > 2:
            yield Store(tuple(map(self._value, self._universe.pair_or_tap(invalid[0]))))
            return
        name = self._random.choice(self._universe.names)
        form = Form.V3_JSON if Family.V3 in self._values.get(name, {}) else Form.V1_JSON
        self._values.setdefault(name, {})[form.family] = None
        yield Store((Value(name, form, None, self._random.randrange(len(BAD))),))

    def _declare_anew(self, names: list[str]) -> Iterator[Action]:
        """Put values again that mean the same, and are not the same."""
        for name in sorted(names):
            wish = self._current(name)
            if wish is not None:
                self._refreshes += 1
                family = Family.V3 if Family.V3 in self._values[name] else Family.V1
                form = Form.V3_JSON if family is Family.V3 else Form.V1_JSON
                if form is Form.V1_JSON:
                    wish = replace(wish, description=f"again {self._refreshes}")
                else:  # it has no description
                    wish = replace(wish, mtu=1420 if wish.mtu != 1420 else 1430)
                self._values[name][family] = wish
                yield Store((Value(name, form, wish),))

    def _crowd(self) -> Iterator[Action]:
        """Declare many pairs in one transaction, or take all of them back."""
        if not self._can_store():
            return
        there = [name for name in sorted(self._values) if name in self._universe.crowd]
        if there:
            yield Store((), tuple((name, family) for name in there for family in sorted(self._values.pop(name))))
            return
        yield Store(tuple(self._value(wish) for wish in self._universe.crowd_of_pairs()))

    def _flap(self) -> Iterator[Action]:
        """Put and delete one value again and again."""
        if not self._can_store():
            return
        [wish, *_] = self._universe.pair_or_tap(self._random.choice(self._universe.names))
        for _ in range(self._random.choice([3, 8])):
            value = self._value(wish)
            yield Store((value,))
            del self._values[wish.name][value.form.family]
            yield Store((), ((wish.name, value.form.family),))
        yield Store((self._value(self._universe.change(wish)),))

    # The kernel

    def _drift(self) -> Iterator[Action]:
        known = [wish for name in sorted(self._values) if (wish := self._current(name)) and not wish.existing]
        if not known:
            return
        for _ in range(self._random.choice([1, 1, 1, 2, 5])):
            wish = self._random.choice(known)
            words, to = self._universe.drift(wish)
            self._drifted[wish.name] += 1
            if words[:2] == ("link", "delete") or to is not None:
                self._drifted[wish.peer] += 1
            yield Drift(wish.name, wish.space, wish.host_name, words, to)

    def _toggle(self, target: str, on: What, *off: What) -> Simple:
        """Start what does not run, end what does."""
        if target in self._on:
            self._on.discard(target)
            return Simple(self._random.choice(off), target.rpartition(" ")[2])
        self._on.add(target)
        return Simple(on, target.rpartition(" ")[2])

    def _namespace(self) -> Iterator[Action]:
        what = self._random.choice([What.NAMESPACE_ADD, What.NAMESPACE_DELETE])
        yield Simple(what, self._random.choice(self._universe.named).reference)

    def _ipv6(self) -> Iterator[Action]:
        """Switch IPv6 off or on in a namespace; what was refused without is tried again once it is declared anew."""
        if not self._can_store():
            return
        space = self._random.choice(self._universe.named[:2])
        action = self._toggle(f"ipv6 {space.reference}", What.IPV6_OFF, What.IPV6_ON)
        yield action
        if action.what is What.IPV6_ON:
            invalid = [name for name in sorted(self._values) if self._current(name) is None]
            for name in invalid:
                yield Store(tuple(map(self._value, self._universe.pair_or_tap(name))))
            # By whatever reference they are there.
            yield from self._declare_anew([name for name in sorted(self._values) if name not in invalid])

    def _names_in(self, space: Space) -> list[str]:
        return [n for n in sorted(self._values) if (wish := self._current(n)) is not None and wish.space == space]

    def _renew(self, space: Space) -> Iterator[Action]:
        """Declare again what refers to a process that is another one by now."""
        if self._can_store() and self._random.random() < 0.7:
            yield from self._declare_anew(self._names_in(space))

    def _process(self) -> Iterator[Action]:
        space = self._random.choice(self._universe.processes)
        action = self._toggle(space.reference, What.PROCESS_START, What.PROCESS_KILL)
        if action.what is What.PROCESS_START and self._random.random() < 0.3:
            joined = self._random.choice([OWN, *self._universe.named[:2]])
            yield Simple(What.PROCESS_JOIN, f"{space.reference} {joined.reference or joined.kind}")
        else:
            yield action
        if action.what is What.PROCESS_START:
            yield from self._renew(space)

    def _file(self) -> Iterator[Action]:
        target = self._random.choice(self._universe.files).reference
        yield self._toggle(target, What.FILE_MOUNT, What.FILE_UNMOUNT, What.FILE_UNMOUNT, What.FILE_ORDINARY)

    def _container(self) -> Iterator[Action]:
        if any(what is What.DOCKER_START for what, _ in self._down):
            return
        target = self._random.choice(self._universe.microservices).reference
        if target in self._on and self._random.random() < 0.3:
            yield Simple(What.CONTAINER_RESTART, target)
        else:
            yield self._toggle(target, What.CONTAINER_START, What.CONTAINER_KILL, What.CONTAINER_STOP)

    def _docker(self) -> Iterator[Action]:
        yield from self._take_down(What.DOCKER_KILL, What.DOCKER_START)

    def _tap(self) -> Iterator[Action]:
        target = self._random.choice(self._universe.taps)
        yield self._toggle(target, What.TAP_MAKE, What.TAP_DELETE)

    def _foreign(self) -> Iterator[Action]:
        space = self._random.choice([OWN, *self._universe.named])
        yield Foreign(space, self._random.choice(self._universe.contested), self._random.random() < 0.5)

    # The store and the agent

    def _compact(self) -> Iterator[Action]:
        if self._can_store():
            yield Simple(What.ETCD_COMPACT)

    def _reset(self) -> Iterator[Action]:
        yield Simple(What.ETCD_RESET)

    def _hole(self) -> Iterator[Action]:
        """Let nothing pass between the agent and its store for a while, in which the store goes on."""
        if self._can_store():
            yield Simple(What.HOLE_BEGIN)
            yield from self._meanwhile(self._put, self._delete, self._drift, longest=9)
            yield Simple(What.HOLE_END)

    def _freeze(self) -> Iterator[Action]:
        """Have the agent, or etcd, do nothing for a while."""
        if any(what in {What.ETCD_START, What.AGENT_START} for what, _ in self._down):
            return
        if self._random.random() < 0.6:
            yield Simple(What.AGENT_FREEZE)
            yield from self._meanwhile(self._put, self._delete, self._drift, self._namespace, longest=3)
            yield Simple(What.AGENT_THAW)
        else:
            yield Simple(What.ETCD_FREEZE)
            yield from self._meanwhile(self._drift, self._namespace, longest=8)
            yield Simple(What.ETCD_THAW)

    def _meanwhile(self, *choices: Callable[[], Iterator[Action]], longest: float) -> Iterator[Action]:
        for _ in range(self._random.choice([1, 3, 6])):
            yield from self._random.choice(choices)()
        yield Pause(round(self._random.uniform(0, longest), 2))

    def _end_etcd(self) -> Iterator[Action]:
        how = self._random.choice([What.ETCD_STOP, What.ETCD_KILL])
        yield from self._take_down(how, What.ETCD_START)

    def _end_agent(self) -> Iterator[Action]:
        how = self._random.choice([What.AGENT_KILL, What.AGENT_KILL, What.AGENT_TERM])
        yield from self._take_down(how, What.AGENT_START)

    def _take_down(self, how: What, start: What) -> Iterator[Action]:
        if any(what is start for what, _ in self._down):
            return
        yield Simple(how)
        self._down.append((start, self._random.choice([0, 0, 2, 5, 12])))
        if start is What.ETCD_START and self._random.random() < 0.5:
            yield Pause(round(self._random.uniform(1, 10), 2))

    def _bring_up(self) -> Iterator[Action]:
        due = [what for what, after in self._down if after <= 0]
        self._down = [(what, after - 1) for what, after in self._down if after > 0]
        yield from (Simple(what) for what in due)

    def _some_time(self) -> Iterator[Action]:
        longest = self._random.choice([0, 0, 0.02, 0.1, 0.3])
        if longest:
            yield Pause(round(self._random.uniform(0, longest), 4))
