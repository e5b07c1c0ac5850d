"""Following one container engine: which processes live in the containers with the labels that are wanted.

What the engine tells in events only says "look again"; a look is an ``inspect``, and the only thing believed. The
rules:

* The events are subscribed to before the containers are listed, at every connection anew, so there is no gap.
* A look at a container waits for no other: docker answers for some of them late.
* A process is held by a pidfd as soon as its number is known, and counts only when the engine names the same number
  once more after that. Its end is noticed by the pidfd, before the engine tells.
* What was found stands while the engine is away: containers may outlive it. Their end is noticed all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskGroup

from ifagent.errors import SourceLost
from ifagent.log import log
from ifagent.watchers.container_engine import LIMITS, BadAnswer, Container, Engine
from ifagent.watchers.container_events import REST_FACTOR, EventStream
from ifagent.watchers.engine_containers import ContainerProcess, EngineContainers

BURST: Final = 1000.0
"""Most looks that events may lead to at once."""

RATE: Final = 100.0
"""Looks a second that they may lead to for as long as they come; each takes a millisecond."""

MOST_WAITING: Final = 200
"""Most looks at single containers that wait; where there are more, all containers are listed and looked at."""

MOST_LOOKS: Final = 32
"""Most containers that are asked about at one time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long an engine is waited for, and how often it is tried."""

    first_wait: float = 0.05
    """Seconds before an engine that was lost is tried again; doubles up to ``longest_wait``."""

    longest_wait: float = 1.0
    """Most seconds between two attempts to reach an engine."""

    lasting: float = 10.0
    """Seconds that a connection has to last; an engine that ends each sooner is tried less and less often."""

    longest_rest: float = 30.0
    """Most seconds between two connections to such an engine: each means to look at all of its containers."""

    quiet: float = 5.0
    """Seconds after which an engine is asked for a sign of life."""

    sign_of_life: float = 5.0
    """Seconds within which it must give one."""

    patience: float = 1.0
    """Seconds that an engine is given to answer for a container, or to notice that one has ended."""


TIMINGS: Final = Timings()


class Follower:
    """Follows the engine at ``socket``; ``tell`` is called with a label when what is known of it changes.

    ``problem`` says why the engine cannot be heard, empty if it can be, ``None`` before that is known. When it
    changes ``tell`` is called with an empty label, for all. At most ``most`` containers are known at one time.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        socket: Path,
        *,
        proc_root: Path,
        tell: Callable[[str], None],
        timings: Timings = TIMINGS,
        most: int = LIMITS.containers,
    ) -> None:
        self.socket = socket
        self.problem: str | None = None
        self._engine = engine
        self._timings = timings
        self._containers = EngineContainers(proc_root, lambda container: self._tell(container.label), most=most)
        self._tell = tell
        self._wanted: frozenset[str] = frozenset()
        self._looks: dict[str, anyio.Event] = {}
        self._looking: tuple[Engine, TaskGroup] | None = None
        self._look_done = anyio.Event()
        self._limit = anyio.CapacityLimiter(MOST_LOOKS)
        self._undecided: set[str] = set()
        self._lists = self._listing = self._list_again = False
        self._listed = False
        self._last = 0

    # What is known

    def processes(self, label: str) -> Iterator[ContainerProcess]:
        """Yield the processes of the containers with this label that run, once all of them are known."""
        if self.problem is None or label in self._undecided:
            return
        for process in self._containers.processes(label).values():
            if process.confirmed:
                yield process

    def undecided(self, label: str) -> bool:
        """Tell whether something is about to be known for the first time of this label."""
        return label in self._undecided or (not self.problem and (self.problem is None or not self._looking))

    def want(self, labels: frozenset[str]) -> None:
        """Follow the containers with these labels, and no others."""
        before, self._wanted = self._wanted, labels
        for id in self._containers.with_labels(before - labels):
            self._containers.release(id)
        added = self._containers.carried(labels - before)
        self._undecided &= labels
        if added and self._looking:
            self._undecided |= added
            self._looking[1].start_soon(self._decide, added)

    async def _decide(self, labels: set[str]) -> None:
        """Get to know of labels that are wanted from now on."""
        await self._look_at_all(self._containers.with_labels(labels))
        self._undecided -= labels
        for label in labels:
            self._tell(label)

    def forget(self) -> None:
        """Let go of everything."""
        for id in self._containers:
            self._containers.remove(id)
        self.problem = None

    # The connection

    async def run(self) -> None:
        """Follow until cancelled, whatever happens to the engine."""
        timings = self._timings
        wait = timings.first_wait
        while True:
            self._listed, began = False, time.monotonic()
            try:
                await self._connect()
            except* SourceLost as errors:
                self._lost(_first(errors))
            if self._listed and time.monotonic() - began > timings.lasting:
                wait = timings.first_wait
            elif not self._listed:
                wait = min(wait, timings.longest_wait)
            await anyio.sleep(wait)
            wait = min(2 * wait, timings.longest_rest if self._listed else timings.longest_wait)

    def _lost(self, error: SourceLost) -> None:
        """Note that a connection ended, or that none could be made: only that is told, as most are back at once."""
        problem = str(error).removeprefix(f"{error.source}: ")
        if self._listed:
            log.info("lost connection to the container engine", socket=str(self.socket), problem=problem)
            return
        if problem != self.problem:
            log.warning("cannot reach the container engine", socket=str(self.socket), problem=problem)
        self.problem = problem
        for id, process in self._containers.processes().items():
            if process.stale:
                self._containers.release(id)
        self._tell("")

    async def _connect(self) -> None:
        """Follow the engine as long as one connection lasts. Its end is a :class:`SourceLost`, in a group."""
        # The clock may have been set back since.
        after = min(self._last or time.time_ns(), time.time_ns())
        try:
            async with self._engine() as engine, anyio.create_task_group() as group:
                group.start_soon(self._check_alive, engine)
                try:
                    async with engine.events(after=after) as events:
                        self._looking = engine, group
                        self._relist()
                        await self._hear(events)
                finally:
                    # A group that is being left takes no more tasks.
                    self._looking = None
        finally:
            self._lists = self._listing = False
            self._looks.clear()
            self._undecided.clear()

    async def _hear(self, events: EventStream) -> None:
        """Look wherever something happens, but not so often that nothing else is done."""
        budget, before = BURST, time.monotonic()
        while True:
            for event in await events.next():
                self._last = max(self._last, event.time)
                if not event.id:
                    self._relist()
                else:
                    budget -= event.id not in self._looks
                    self._look_at(event.id)
            now = time.monotonic()
            budget, before = min(BURST, budget + RATE * (now - before)), now
            if budget < 0:
                await anyio.sleep(-budget / RATE)

    async def _check_alive(self, engine: Engine) -> None:
        """Raise :class:`SourceLost` when the engine keeps its connections and does nothing any more."""
        while True:
            await anyio.sleep(self._timings.quiet)
            try:
                with anyio.fail_after(self._timings.sign_of_life):
                    await engine.ping()
            except TimeoutError:
                raise SourceLost(str(self.socket), f"no sign of life for {self._timings.sign_of_life:g} s") from None
            # What could not be looked into, for want of open files perhaps, nobody else tells of.
            for id, process in self._containers.processes().items():
                if process.can_be_looked_into_now:
                    self._look_at(id)

    # Looks

    def _relist(self) -> None:
        """Look at every container there is, now or again when that is done."""
        self._list_again = True
        if self._looking and not self._lists:
            engine, group = self._looking
            self._lists = True
            group.start_soon(self._list, engine)

    async def _list(self, engine: Engine) -> None:
        while self._list_again:
            self._list_again, self._listing, began = False, True, time.monotonic()
            running = await engine.running()
            await self._look_at_all({*self._containers, *running})
            if self.problem:
                log.info("connected to the container engine", socket=str(self.socket))
            self._listing, self._listed, self.problem = False, True, ""
            self._tell("")
            if self._list_again:
                await anyio.sleep(REST_FACTOR * (time.monotonic() - began))
        self._lists = False

    def _look_at(self, id: str) -> None:
        """Look at a container now, or again when the look that is under way is done."""
        if id not in self._looks and len(self._looks) >= MOST_WAITING:
            self._relist()
        else:
            self._begin_look(id)

    def _begin_look(self, id: str) -> None:
        if id in self._looks:
            self._looks[id].set()
        elif self._looking:
            engine, group = self._looking
            self._looks[id] = anyio.Event()
            group.start_soon(self._look, engine, id)

    async def _look_at_all(self, ids: Collection[str]) -> None:
        """Look at containers, and wait until that is done, or takes too long."""
        for id in ids:
            self._begin_look(id)
        until = time.monotonic() + 10 * self._timings.patience
        while not self._looks.keys().isdisjoint(ids) and time.monotonic() < until:
            with anyio.move_on_after(self._timings.patience) as waiting:
                await self._look_done.wait()
            if waiting.cancelled_caught:  # those that are left take too long
                return

    async def _look(self, engine: Engine, id: str) -> None:
        known = self._containers.get(id)
        while True:
            news = self._looks[id] = anyio.Event()
            try:
                await self._follow(engine, id, news)
            except BadAnswer as error:
                log.warning("cannot inspect container", container=id, problem=str(error))
                self._containers.remove(id)
            known = self._containers.get(id) or known
            if not news.is_set():
                break
        del self._looks[id]
        self._look_done.set()
        self._look_done = anyio.Event()
        # What is said of a whole list must not depend on the order of looks.
        if known and known.label and not self._listing:
            self._tell(known.label)

    async def _follow(self, engine: Engine, id: str, news: anyio.Event) -> None:
        """Bring what is known of a container up to date; ``news`` is set when it has to be looked at again."""
        container = await self._inspect(engine, id)
        while container:
            self._containers.add(container)
            if not container.pid or container.label not in self._wanted:
                self._containers.release(id)
                return
            process = self._containers.hold(container)
            if process.confirmed:
                return
            if process.namespace is None:
                # Most likely it has just ended, and the engine is about to say so.
                with anyio.move_on_after(self._timings.patience):
                    await news.wait()
            again = await self._inspect(engine, id)
            if again == container:
                # If it has ended meanwhile, or is not wanted any more, it is no longer among the processes.
                process.confirmed = True
                return
            container = again
        self._containers.remove(id)

    async def _inspect(self, engine: Engine, id: str) -> Container | None:
        async with self._limit:
            return await engine.inspect(id)


def _first(errors: BaseExceptionGroup[SourceLost]) -> SourceLost:
    """Return one error of a group."""
    first = errors.exceptions[0]
    return first if isinstance(first, SourceLost) else _first(first)
