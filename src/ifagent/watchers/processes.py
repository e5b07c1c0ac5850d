"""References by process id: where they lead while the process lives.

A reference means the first process that is seen with the id. A pidfd tells when it exits, and from then on the
reference has ended, whoever gets the id next, until it is no longer wanted and wanted anew.

A process that does not exist yet, and one that is still in the agent's own namespace, as programs are that enter
another one and then execute what was asked for (``unshare -n``, ``ip netns exec``), is waited for by the
kernel's process connector; where that cannot be had, by looking at an interval. That a process which has another
namespace changes it for a third is told by nobody: where they are is compared at an interval.

Where ``proc_root`` belongs to another pid namespace, neither pidfds nor the connector tell of its processes: all
that are wanted are looked at, at the interval. An open directory of theirs keeps one process from being taken for
another. What happens between two looks is not seen: a process that was there for less than the interval.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from ifagent.core.events import Event, NamespaceSeen
from ifagent.core.link import NsId
from ifagent.core.namespace_ref import NamespaceRef, NamespaceType
from ifagent.limits import in_words
from ifagent.log import log
from ifagent.nsfs import namespace_at, own_namespace
from ifagent.watchers.process_connector import Connector

SETTLE: Final = 0.01
"""Seconds that news is collected."""

CHANGE_INTERVAL: Final = 1.0
"""Seconds between two looks at whether processes have entered another namespace: 5 ms of work for 1,000 of them."""

_BATCH: Final = 50
"""Processes that are looked at before others have their turn on the loop; a look takes some 30 microseconds."""

CONNECTOR_RETRY: Final = 5.0
"""Seconds until the connector is tried again where only a limit stood in the way."""

_FOR_NOW: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_NOBODY: Final = {errno.ESRCH, errno.ENOENT, errno.EINVAL}
"""What the kernel answers for an id that no process has, the last two for one that a thread has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long a process is waited for, and how often it is looked at."""

    grace: float = 0.2
    """Seconds that a process is given to leave the agent's own namespace before it is said to be there.

    Whoever starts a program in another namespace starts it in this one, and nothing should be configured here
    meanwhile.
    """

    interval: float = 0.5
    """Seconds between two looks at what nothing tells of."""


@dataclass(slots=True, eq=False)
class _Process:
    """The process behind one wanted reference.

    ``file`` holds on to it: a pidfd, or its directory where ``proc_root`` is of another pid namespace; ``None``
    while there is none, and when it has ended. ``settled`` says that its namespace is known and not the agent's,
    ``failed`` that the last look found no answer, and nothing will tell when there is one. ``patience`` ends the
    time it is given after it was first seen in the agent's own namespace.
    """

    ref: NamespaceRef
    file: int | None = None
    ended: bool = False
    settled: bool = False
    failed: bool = False
    patience: float | None = None
    said: NamespaceSeen | None = None

    @property
    def pid(self) -> int:
        return int(self.ref.reference)

    def has_left(self, id: int) -> bool:
        """Tell whether the process is in another namespace than was said; 0 for one that is not known."""
        return bool(id) and not self.ended and self.where not in {None, id}

    @property
    def where(self) -> NsId | None:
        """The namespace that it was said to be in."""
        return self.said.id if self.said is not None else None

    @property
    def waiting(self) -> bool:
        """Whether something may still happen that no pidfd tells."""
        return not (self.ended or self.settled)


class ProcessWatcher:
    """Where references by process id lead; the processes are those of the procfs at ``proc_root``.

    ``connect`` opens the process connector, in a worker thread; it raises ``OSError`` where there is none.
    """

    def __init__(
        self,
        proc_root: Path = Path("/proc"),
        *,
        connect: Callable[[], Connector] = Connector,
        timings: Timings = Timings(),
    ) -> None:
        self._proc = proc_root
        self._connect = connect
        self._timings = timings
        self._wanted: frozenset[NamespaceRef] = frozenset()
        self._again: set[NamespaceRef] = set()
        self._processes: dict[NamespaceRef, _Process] = {}
        self._due: set[_Process] = set()
        self._news = anyio.Event()
        self._connector: Connector | None = None
        self._blind = False
        self._complained = False
        self._has_pidfds = True
        self._own = NsId(0)
        self._emit: Callable[[Event], None] = _nowhere

    @property
    def types(self) -> frozenset[NamespaceType]:
        """Process ids."""
        return frozenset({NamespaceType.PID})

    def want(self, refs: frozenset[NamespaceRef]) -> None:
        """Follow exactly these from now on.

        What is known of a reference that is left out and wanted again at once is said again, but if its process has
        ended it begins anew: another process may have the id.
        """
        self._again |= refs - self._wanted
        self._wanted = refs
        self._news.set()

    async def run(self, emit: Callable[[Event], None]) -> None:
        """Watch until cancelled."""
        self._emit = emit
        self._own = own_namespace()
        self._has_pidfds = _is_of_own_pid_namespace(self._proc)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._compare)
                while True:
                    self._news = anyio.Event()
                    self._follow_wanted()
                    await self._look_at_due()
                    await self._mind_connector()
                    await self._wait()
        finally:
            self._emit = _nowhere
            self._close_connector()
            for process in self._processes.values():
                self._let_go(process)
            self._processes.clear()
            self._due.clear()

    async def _wait(self) -> None:
        """Wait for news, or the time to look without; both fill what is due."""
        unheard = [process for process in self._processes.values() if self._is_unheard(process)]
        with anyio.move_on_after(self._timings.interval if unheard else None):
            await self._news.wait()
            await anyio.sleep(SETTLE)
            return
        self._due.update(unheard)

    def _is_unheard(self, process: _Process) -> bool:
        if not self._has_pidfds:
            return not process.ended
        return process.waiting and (self._blind or process.failed)

    async def _compare(self) -> None:
        """Look again at processes that have entered another namespace."""
        while True:
            await anyio.sleep(CHANGE_INTERVAL)
            places = {process: self._path_of(process) for process in self._processes.values() if process.where}
            if not places:
                continue
            found = await anyio.to_thread.run_sync(_namespaces_of, list(places.values()))
            moved = {process for process, id in zip(places, found, strict=True) if process.has_left(id)}
            if moved:
                self._due |= moved
                self._news.set()

    def _follow_wanted(self) -> None:
        again, self._again = self._again, set()
        ended = {ref for ref, process in self._processes.items() if ref in again and process.ended}
        for ref in (self._processes.keys() - self._wanted) | ended:
            process = self._processes.pop(ref)
            self._due.discard(process)
            self._let_go(process)
        for ref in self._wanted - self._processes.keys():
            process = self._processes[ref] = _Process(ref)
            self._due.add(process)
        for ref in again & self._processes.keys():
            process = self._processes[ref]
            if process.said is not None:
                self._emit(process.said)

    def _path_of(self, process: _Process) -> str:
        return f"{self._proc}/{process.pid}/ns/net"

    async def _look_at_due(self) -> None:
        count = 0
        while self._due:
            process = self._due.pop()
            if self._processes.get(process.ref) is process:
                self._look(process)
            count += 1
            if count % _BATCH == 0:
                await checkpoint()

    # One process

    def _look(self, process: _Process) -> None:
        """Say where a process is, if there is one."""
        if process.ended:
            return
        if process.file is None:
            try:
                process.file = self._hold(process.pid)
            except OSError as error:
                process.failed = error.errno not in _NOBODY
                problem = f"cannot be watched: {in_words(error)}" if process.failed else "is not running"
                self._say(process, NamespaceSeen(process.ref, None, problem=problem))
                return
            if self._has_pidfds:
                asyncio.get_running_loop().add_reader(process.file, self._end, process)
        path = self._path_of(process)
        try:
            id = namespace_at(path)
            problem = "" if id else "has no network namespace"
        except OSError as error:
            id, problem = None, f"cannot be looked into: {in_words(error)}"
        # The path is that of the process if the process was there afterwards, for its id was taken meanwhile.
        if self._has_exited(process.file):
            self._end(process)
            return
        process.failed = id is None
        if id == self._own and self._may_be_leaving(process):
            return
        process.settled = id not in {None, self._own}
        self._say(process, NamespaceSeen(process.ref, id, path if id else "", problem))

    def _may_be_leaving(self, process: _Process) -> bool:
        loop = asyncio.get_running_loop()
        if process.patience is None:
            process.patience = loop.time() + self._timings.grace
            loop.call_at(process.patience, self._look_again, [process])
        return loop.time() < process.patience

    def _hold(self, pid: int) -> int:
        if self._has_pidfds:
            return os.pidfd_open(pid)
        return os.open(self._proc / str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _has_exited(self, file: int) -> bool:
        if self._has_pidfds:
            poll = select.poll()
            poll.register(file, select.POLLIN)
            return bool(poll.poll(0))
        return _state_of(file) in {"Z", "X", ""}

    def _end(self, process: _Process) -> None:
        """Note that a process has exited; it stays so."""
        self._let_go(process)
        process.ended = True
        self._news.set()
        self._say(process, NamespaceSeen(process.ref, None, problem="has ended"))

    def _let_go(self, process: _Process) -> None:
        if process.file is not None:
            if self._has_pidfds:
                asyncio.get_running_loop().remove_reader(process.file)
            os.close(process.file)
            process.file = None

    def _say(self, process: _Process, event: NamespaceSeen) -> None:
        if event != process.said:
            process.said = event
            self._emit(event)

    # The connector

    async def _mind_connector(self) -> None:
        """Have the connector open as long as somebody is waited for."""
        if not any(process.waiting for process in self._processes.values()):
            self._close_connector()
            self._blind = False
        elif self._has_pidfds and self._connector is None and not self._blind:
            try:
                self._connector = await anyio.to_thread.run_sync(self._connect)
            except OSError as error:
                self._blind = True
                self._complain(error)
                if error.errno in _FOR_NOW:
                    asyncio.get_running_loop().call_later(CONNECTOR_RETRY, self._try_connector)
                return
            self._listen(self._connector)
            # Whatever happened before it was open is seen now.
            self._look_again(self._processes.values())

    def _try_connector(self) -> None:
        self._blind = False
        self._news.set()

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "process connector unavailable, falling back to polling",
                seconds=self._timings.interval,
                problem=in_words(error),
            )

    def _listen(self, connector: Connector) -> None:
        if connector is self._connector:
            asyncio.get_running_loop().add_reader(connector.fileno(), self._hear, connector)

    def _hear(self, connector: Connector) -> None:
        named = connector.read()
        self._look_again(p for p in self._processes.values() if named is None or p.pid in named)
        # Others may start thousands of processes a second: being woken for each costs more than reading of it.
        loop = asyncio.get_running_loop()
        loop.remove_reader(connector.fileno())
        loop.call_later(SETTLE, self._listen, connector)

    def _look_again(self, processes: Iterable[_Process]) -> None:
        due = {process for process in processes if process.waiting}
        if due:
            self._due |= due
            self._news.set()

    def _close_connector(self) -> None:
        if self._connector is not None:
            asyncio.get_running_loop().remove_reader(self._connector.fileno())
            self._connector.close()
            self._connector = None


def _namespaces_of(paths: Iterable[str]) -> list[int]:
    """Return the inodes of namespaces, 0 for one that cannot be looked into now; in a worker thread."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(path).st_ino)  # noqa: PTH116 making a Path of each takes longer than the call
        except OSError:
            found.append(0)
    return found


def _is_of_own_pid_namespace(proc: Path) -> bool:
    """Tell whether a procfs shows this process as it knows itself.

    ``NSpid`` lists its ids from the pid namespace of the procfs down to its own.
    """
    with suppress(OSError):
        for line in (proc / "self" / "status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return len(line.split()) == 2
    return False


def _state_of(directory: int) -> str:
    """Return the state of the process with this directory as ``/proc/<pid>/stat`` has it, empty if it is gone."""
    try:
        file = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        # The process chooses its name, which stands in parentheses: any bytes but zero.
        with os.fdopen(file, errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _nowhere(_: Event) -> None:
    """Stand in for the agent while the watcher does not run."""
