"""An agent as far as outlets see one, which says what a test has it say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio

from ifagent.core.events import Declaration
from ifagent.core.names import Name
from ifagent.core.resources import by_name, interface_key
from ifagent.core.state import InterfaceState
from ifagent.outlets.contract import AgentView
from ifagent.statistics import Health, Histogram, SourceStatistics, Statistics
from ifagent.stream import StateHub, Subscription, Wanted


def statistics(*sources: SourceStatistics, ready: bool = True, ended: bool = False) -> Statistics:
    """Return what an agent tells of itself."""
    return Statistics(
        ready=ready,
        ended=ended,
        rounds=1,
        operations={},
        reaction=Histogram((), (0,), 0),
        stalled_for=0,
        inbox=0,
        namespaces=0,
        subscribers=0,
        interfaces={},
        sources=sources,
    )


class FakeAgent:
    """Has the states of ``hub``, and is as ``how`` says; the rest waits until it is ``ready``."""

    def __init__(
        self,
        *states: InterfaceState,
        hub: StateHub | None = None,
        how: Callable[[], Statistics] = statistics,
        ready: bool = True,
    ) -> None:
        self.hub = hub or StateHub()
        self.say(*states)
        self.declared: dict[Name, Declaration] = {}
        self.asked_foreign = False
        self.how = how
        self.ready = anyio.Event()
        if ready:
            self.ready.set()

    def say(self, *states: InterfaceState) -> None:
        self.hub.publish({interface_key(one.name): one for one in states}, {})

    def take_back(self, name: str) -> None:
        self.hub.publish({}, {interface_key(name): self.hub.states[interface_key(Name(name))]})

    def health(self) -> Health:
        return self.how()

    def statistics(self) -> Statistics:
        return self.how()

    def current_states(self, *, foreign: bool = False) -> Mapping[Name, InterfaceState]:
        self.asked_foreign = foreign
        return by_name(self.hub.states)

    def states(self, *, name: Name | None = None, foreign: bool = False) -> Subscription:
        self.asked_foreign = foreign
        return self.hub.subscribe(Wanted.of(name=name))

    def declarations(self) -> Mapping[Name, Declaration]:
        return self.declared

    async def wait_ready(self) -> None:
        await self.ready.wait()


_: type[AgentView] = FakeAgent
