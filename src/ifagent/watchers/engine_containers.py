"""The containers of one engine by id and label, and the processes of those that are wanted."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from ifagent.core.link import NsId
from ifagent.limits import in_words
from ifagent.log import log
from ifagent.nsfs import namespace_at
from ifagent.watchers.container_engine import BadAnswer, Container

OWN_PROC: Final = Path("/proc")


class ContainerProcess:
    """The first process of a running container; ``ended`` is called when it ends.

    ``namespace`` is its network namespace, to be opened at ``path``; ``None`` if there is a ``problem``.
    ``confirmed`` says that the engine has reported the same pid after a pidfd was opened.
    """

    def __init__(self, container: Container, proc_root: Path, ended: Callable[[], None]) -> None:
        self.container = container
        self.confirmed = False
        self.path: str = str(proc_root / str(container.pid) / "ns" / "net")
        # Pids under another /proc belong to another pid namespace, for which no pidfd can be opened.
        self._fd = _hold(container.pid) if proc_root == OWN_PROC else None
        if self._fd is not None:
            asyncio.get_running_loop().add_reader(self._fd, ended)
        self.namespace: NsId | None
        self.problem: str
        self.namespace, self.problem = _identify(self.path)

    @property
    def started(self) -> tuple[datetime, str]:
        """Key to sort processes by start time."""
        return self.container.started, self.container.id

    @property
    def stale(self) -> bool:
        """Whether the process is gone although no end was reported."""
        return self._fd is None and _identify(self.path)[0] != self.namespace

    @property
    def can_be_looked_into_now(self) -> bool:
        """Whether its namespace can be identified now, but could not before."""
        return self.namespace is None and _identify(self.path)[0] is not None

    def close(self) -> None:
        """Close the pidfd."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None


class EngineContainers:
    """The containers that an engine has reported, at most ``most``; ``ended`` is called when a held process ends.

    ``proc_root`` is the /proc of the engine's pid namespace.
    """

    def __init__(self, proc_root: Path, ended: Callable[[Container], None], *, most: int) -> None:
        self._most = most
        self._proc_root = proc_root
        self._ended = ended
        self._containers: dict[str, Container] = {}
        self._by_label: defaultdict[str, set[str]] = defaultdict(set)
        self._processes: dict[str, ContainerProcess] = {}

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of all containers."""
        return iter(list(self._containers))

    def __len__(self) -> int:
        """Return how many containers are known."""
        return len(self._containers)

    def get(self, id: str) -> Container | None:
        """Return a container, ``None`` if it is not known."""
        return self._containers.get(id)

    def with_labels(self, labels: Iterable[str]) -> list[str]:
        """Return the ids of the containers that have one of these labels."""
        return [id for label in labels for id in self._by_label.get(label, ())]

    def carried(self, labels: Iterable[str]) -> set[str]:
        """Return those labels that at least one container has."""
        return {label for label in labels if label in self._by_label}

    def processes(self, label: str | None = None) -> dict[str, ContainerProcess]:
        """Return the processes that are held, by the ids of their containers: all, or of those with one label."""
        if label is None:
            return dict(self._processes)
        return {id: held for id in self._by_label.get(label, ()) if (held := self._processes.get(id))}

    def add(self, container: Container) -> None:
        """Add or update a container. Raises :class:`BadAnswer` if there are too many."""
        if len(self._containers) >= self._most and container.id not in self._containers:
            raise BadAnswer(f"there are more than {self._most} containers")
        self._containers[container.id] = container
        if container.label:
            self._by_label[container.label].add(container.id)

    def remove(self, id: str) -> None:
        """Forget a container."""
        self.release(id)
        container = self._containers.pop(id, None)
        if container and container.label:
            self._by_label[container.label].discard(id)
            if not self._by_label[container.label]:
                del self._by_label[container.label]

    def hold(self, container: Container) -> ContainerProcess:
        """Return the process of a container that runs, held if that is possible."""
        known = self._processes.get(container.id)
        if known and known.container == container and known.namespace is not None:
            return known
        self.release(container.id)
        process = ContainerProcess(container, self._proc_root, lambda: self._process_ended(container))
        self._processes[container.id] = process
        return process

    def release(self, id: str) -> None:
        """Close the process of a container."""
        if process := self._processes.pop(id, None):
            process.close()

    def _process_ended(self, container: Container) -> None:
        self.release(container.id)
        self._ended(container)


def _hold(pid: int) -> int | None:
    """Return a pidfd, ``None`` if it cannot be opened."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        log.warning(
            "cannot watch the container's process, relying on the engine for its end", pid=pid, problem=in_words(error)
        )
        return None


def _identify(path: str) -> tuple[NsId | None, str]:
    """Return the namespace at a path, or the problem."""
    try:
        id = namespace_at(path)
    except OSError as error:
        return None, f"{path}: {in_words(error)}"
    return id, "" if id else f"{path}: not a network namespace"
