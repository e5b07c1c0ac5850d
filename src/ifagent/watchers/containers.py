"""Where microservices live: the network namespaces of containers, by the label that a container carries.

One :class:`Follower` for each container engine finds them. Of several running containers with the same label the one
that was started last counts, whichever engine it is in; another takes over when it ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from ifagent.core.events import Event, NamespaceSeen
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.watchers.container_engine import LIMITS, Engine, Limits, default_sockets
from ifagent.watchers.container_follower import TIMINGS, Follower, Timings
from ifagent.watchers.engine_containers import OWN_PROC

_NOT_RUNNING: Final = "no container with this label runs"


class ContainerWatcher:
    """Follows microservice references to the network namespaces of containers, in several engines at once.

    ``sockets`` are the engines' unix sockets, ``None`` for :func:`default_sockets`; they need not exist yet. A
    container's label is the value of ``variable`` in its environment, else that of its label
    ``container_label``. ``proc_root`` is where the processes are that the engines count: another one than
    ``/proc`` for an agent in a pid namespace of its own. There a container's end is learnt from its engine only.

    ``timings`` and ``limits`` are how long engines are waited for, and how much is taken from each of them.

    Engines are connected to only while a reference is wanted. See :class:`NamespaceWatcher` for the rest.
    """

    def __init__(
        self,
        sockets: Sequence[Path] | None = None,
        *,
        variable: str = "MICROSERVICE_LABEL",
        container_label: str = "ifagent.microservice",
        proc_root: Path = OWN_PROC,
        timings: Timings = TIMINGS,
        limits: Limits = LIMITS,
    ) -> None:
        self._followers = [
            Follower(
                partial(Engine, socket, variable=variable, container_label=container_label, limits=limits),
                socket,
                proc_root=proc_root,
                tell=self._tell,
                timings=timings,
                most=limits.containers,
            )
            for socket in (default_sockets() if sockets is None else sockets)
        ]
        self._refs: frozenset[NamespaceRef] = frozenset()
        self._again: set[NamespaceRef] = set()
        self._applying = False
        self._wanted: dict[str, NamespaceRef] = {}
        self._said: dict[NamespaceRef, NamespaceSeen] = {}
        self._emit: Callable[[Event], None] | None = None
        self._news = anyio.Event()
        self._scope: anyio.CancelScope | None = None

    @property
    def types(self) -> frozenset[NamespaceType]:
        """Microservices."""
        return frozenset({NamespaceType.MICROSERVICE})

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        """Follow exactly these from now on.

        What is known of a reference that is left out and wanted again at once is said again.
        """
        self._again |= refs - self._refs
        self._refs = refs
        if not self._applying:
            self._applying = True
            asyncio.get_running_loop().call_soon(self._apply)

    def _apply(self) -> None:
        self._applying = False
        again, self._again = self._again, set()
        self._wanted = {ref.reference: ref for ref in self._refs}
        for ref in (self._said.keys() - self._refs) | (self._said.keys() & again):
            del self._said[ref]
        for follower in self._followers:
            follower.want(frozenset(self._wanted))
        self._news.set()
        self._tell()
        if self._scope and not self._refs:
            self._scope.cancel()

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Watch until cancelled. What happens to containers and engines is told by events, never by an exception."""
        self._emit = emit
        self._said.clear()
        try:
            while True:
                while not self._wanted:
                    self._news = anyio.Event()
                    await self._news.wait()
                with anyio.CancelScope() as self._scope:
                    async with anyio.create_task_group() as group:
                        for follower in self._followers:
                            group.start_soon(follower.run)
                self._forget()
        finally:
            self._emit = None
            self._forget()

    def _forget(self) -> None:
        for follower in self._followers:
            follower.forget()

    def _tell(self, label: str = "") -> None:
        """Emit what is not as it was said, of one label or of all."""
        if self._emit is None:
            return
        for ref in [self._wanted[label]] if label in self._wanted else [] if label else self._wanted.values():
            seen = self._see(ref)
            if seen and seen != self._said.get(ref):
                self._said[ref] = seen
                self._emit(seen)

    def _see(self, ref: NamespaceRef) -> NamespaceSeen | None:
        """Say where a reference leads; ``None`` if that is about to be known for the first time."""
        label = ref.reference
        if processes := [process for follower in self._followers for process in follower.processes(label)]:
            newest = max(processes, key=lambda process: (process.namespace is not None, process.started))
            if newest.namespace is not None:
                return NamespaceSeen(ref, newest.namespace, newest.path)
            return NamespaceSeen(
                ref, None, problem=f"its container runs, but its namespace cannot be read ({newest.problem})"
            )
        if ref not in self._said and any(follower.undecided(label) for follower in self._followers):
            return None
        return NamespaceSeen(ref, None, problem=self._engines_problem() or _NOT_RUNNING)

    def _engines_problem(self) -> str:
        """Say why an engine could not tell; empty if all did, or all those that are installed."""
        troubled = [follower for follower in self._followers if follower.problem]
        present = [follower for follower in troubled if follower.problem != os.strerror(errno.ENOENT)]
        if not troubled or (not present and len(troubled) < len(self._followers)):
            return ""
        first = (present or troubled)[0]
        return f"cannot reach the container engine ({first.socket}: {first.problem})"
