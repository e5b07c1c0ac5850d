"""What all rows measure with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.agent_process import AgentProcess
from benchmarks.store import Store


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: an empty etcd, and a folder in memory."""

    store: Store
    folder: Path
    repeats: int
    quick: bool

    @property
    def calm(self) -> float:
        """Seconds after which the kernel is done with looking for duplicates of new IPv6 addresses, or nearly so."""
        return 0.5 if self.quick else 3.0

    def agent(self, label: str, netns_dir: Path) -> AgentProcess:
        """Return an agent, to be entered."""
        return AgentProcess(label, self.store.address, netns_dir=netns_dir, folder=self.folder)
