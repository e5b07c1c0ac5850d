"""The state stream against a model that is too simple to be wrong: a list of everything that was published."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st
from keyed import keyed

from ifagent.core.counters import LinkCounters
from ifagent.core.link import LinkId, NsId
from ifagent.core.namespace_ref import named
from ifagent.core.resources import Key, by_name, interface_key
from ifagent.core.state import Change, ConfigState, InterfaceState
from ifagent.counter_stream import CounterStream
from ifagent.kernel.simulated import SimulatedKernel
from ifagent.stream import StateHub, Subscription, Wanted

NAMES = [f"i{number}" for number in range(5)]
IFINDEXES = [2, 3, 4]
PLACES = [named("x"), named("y")]
WANTED = [
    Wanted(),
    Wanted.of(name="i0"),
    Wanted.of(names=["i1", "i2"]),
    Wanted.of(namespace=PLACES[0]),
    Wanted.of(kind="tap"),
    Wanted.of(names=["i0", "i1"], namespace=PLACES[1]),
]

publish = st.tuples(
    st.just("publish"),
    st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(0, 1), st.sampled_from(["veth", "tap"])), max_size=3),
    st.sets(st.sampled_from(NAMES), max_size=2),
)
read = st.tuples(st.just("read"), st.integers(0, 5), st.integers(1, 6))
subscribe = st.tuples(st.just("subscribe"), st.integers(0, len(WANTED) - 1), st.just(0))
leave = st.tuples(st.just("leave"), st.integers(0, 5), st.just(0))
steps = st.lists(st.one_of(publish, publish, read, subscribe, leave), max_size=120)


@dataclass
class Reader:
    """What one reader was told, and what it should know in the end."""

    wanted: Wanted
    subscription: Subscription
    published: int = 0
    told: int = 0
    missed: int = 0
    seq: int = 0
    changed: bool = False
    known: dict[str, InterfaceState] = field(default_factory=dict)

    def read(self, most: int) -> bool:
        """Read some events and check each; tell whether there were as many."""
        for _ in range(most):
            event = self.subscription._next()
            if event is None:
                return False
            self.seq += 1
            assert event.seq == self.seq
            if event.event is Change.GAP:
                assert event.missed > 0
                self.missed += event.missed
                self.changed = True
                continue
            assert event.state is not None
            assert event.name == event.state.name
            if event.event is Change.SNAPSHOT:
                assert not self.changed, "a snapshot after a change"
                assert event.name not in self.known
                self.known[event.name] = event.state
                continue
            self.changed = True
            self.told += 1
            if event.event is Change.DELETED:
                assert self.known.pop(event.name, None), "the end of something never told"
            else:
                assert (event.name in self.known) is (event.event is Change.CHANGED)
                self.known[event.name] = event.state
        return True


def count(
    readers: list[Reader], hub: StateHub, changed: dict[str, InterfaceState], deleted: dict[str, InterfaceState]
) -> None:
    """Note for every reader how much of this it is to be told of."""
    for reader in readers:
        matches = reader.wanted.matches
        reader.published += sum(matches(state) for state in deleted.values())
        for name, state in changed.items():
            before = hub.states.get(interface_key(name))
            reader.published += matches(state) or (before is not None and matches(before))


@given(steps, st.booleans())
def test_every_reader_ends_with_the_newest_states_and_knows_how_many_it_missed(
    script: list[tuple[str, object, object]], early: bool
) -> None:
    hub = StateHub()
    readers = [Reader(wanted, hub.subscribe(wanted)) for wanted in WANTED] if early else []
    number = 0
    for step in script:
        match step:
            case "publish", dict(changes), set(names):
                changed = {}
                for name, (place, kind) in changes.items():
                    number += 1
                    changed[name] = InterfaceState(
                        name=name,
                        config_state=ConfigState.APPLIED,
                        mtu=number,
                        namespace=PLACES[place],
                        type=kind,
                    )
                states = by_name(hub.states)
                deleted = {name: states[name] for name in names & states.keys() - changed.keys()}
                count(readers, hub, changed, deleted)
                hub.publish(keyed(changed), keyed(deleted))
            case "read", int(index), int(most) if index < len(readers):
                readers[index].read(most)
            case "subscribe", int(index), _:
                readers.append(Reader(WANTED[index], hub.subscribe(WANTED[index])))
            case "leave", int(index), _ if index < len(readers):
                del readers[index]
    assert hub.readers == len(readers)
    for reader in readers:
        while reader.read(1):
            pass
        expected = {name: state for name, state in hub.states.items() if reader.wanted.matches(state)}
        assert keyed(reader.known) == expected
        assert reader.told + reader.missed == reader.published


@given(st.lists(st.integers(0, 3), max_size=400), st.integers(0, 4))
def test_memory_is_bounded_by_the_number_of_interfaces(moves: list[int], read_first: int) -> None:
    hub = StateHub()
    hub.publish(keyed({name: InterfaceState(name=name, config_state=ConfigState.APPLIED) for name in NAMES[:4]}), {})
    lazy = Reader(Wanted(), hub.subscribe())
    lazy.read(read_first)
    for number, move in enumerate(moves):  # names that come and go, of which the lazy reader never hears
        name = f"passing{number}" if move else NAMES[0]
        state = InterfaceState(name=name, config_state=ConfigState.APPLIED, mtu=number)
        hub.publish(keyed({name: state}), {})
        if move:
            hub.publish({}, keyed({name: state}))
    assert len(hub._everything._records) <= 2 * (4 + 32)
    while lazy.read(1):
        pass
    assert keyed(lazy.known) == hub.states


counts = st.dictionaries(st.sampled_from(IFINDEXES), st.integers(0, 5), max_size=3)
relink = st.tuples(
    st.just("relink"), st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0, *IFINDEXES]), max_size=3), st.just(0)
)
measure = st.tuples(st.just("measure"), counts, st.just(0))
forget = st.tuples(st.just("forget"), st.sets(st.sampled_from(NAMES), max_size=2), st.just(0))


class Metered:
    """A stream with counters, and a note of everything that it publishes."""

    def __init__(self) -> None:
        self.source, self.readers = StateHub(), list[Reader]()
        self.stream = CounterStream(self.source, SimulatedKernel(), 1.0, clock=lambda: 0.0)
        self.hub = self.stream.hub
        publish = self.hub.publish

        def noting(changed: dict[Key, InterfaceState], deleted: dict[Key, InterfaceState]) -> None:
            count(self.readers, self.hub, by_name(changed), by_name(deleted))
            publish(changed, deleted)

        self.hub.publish = noting  # type: ignore[method-assign,assignment]


@given(st.lists(st.one_of(relink, measure, measure, forget, read, subscribe), max_size=80))
def test_a_stream_with_counters_says_what_its_source_says_and_never_a_negative_rate(
    script: list[tuple[str, object, object]],
) -> None:
    metered = Metered()
    for number, step in enumerate(script):
        match step:
            case "relink", dict(changes), _:
                base = InterfaceState(name="", config_state=ConfigState.APPLIED, mtu=number, namespace_id=NsId(1))
                changed = {name: replace(base, name=name, if_index=ifindex) for name, ifindex in changes.items()}
                metered.source.publish(keyed(changed), {})
            case "measure", dict(found), _:
                counters = {LinkId(NsId(1), ifindex): LinkCounters(packets) for ifindex, packets in found.items()}
                metered.stream.record(float(number), counters)
                metered.stream.publish(metered.hub.states)
            case "forget", set(names), _:
                known = by_name(metered.source.states)
                gone = {name: replace(known[name], if_index=0) for name in names & known.keys()}
                metered.source.publish({}, keyed(gone))
            case "read", int(index), int(most) if index < len(metered.readers):
                metered.readers[index].read(most)
            case "subscribe", int(index), _:
                metered.readers.append(Reader(WANTED[index], metered.hub.subscribe(WANTED[index])))
        without = {name: replace(state, statistics=None) for name, state in metered.hub.states.items()}
        assert without == metered.source.states
        for state in metered.hub.states.values():
            rates = state.statistics.rates if state.statistics else None
            assert rates is None or min(astuple(rates)) >= 0
            assert state.link_id is not None or state.statistics is None
    for reader in metered.readers:
        while reader.read(1):
            pass
        assert keyed(reader.known) == {
            name: state for name, state in metered.hub.states.items() if reader.wanted.matches(state)
        }
        assert reader.told + reader.missed == reader.published
