"""What the agent's process uses, as ``/proc`` tells it, and whether that grows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ALLOWED_GROWTH = 4.0
"""MiB by which the memory of the last third of samples may be above that of the first third."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process; ``memory`` is resident, in MiB, ``watches`` are inotify's."""

    descriptors: int
    memory: float
    threads: int
    watches: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Look at a process."""
        proc = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        watches = 0
        for info in (proc / "fdinfo").iterdir():
            with suppress(OSError):
                watches += sum(line.startswith("inotify ") for line in info.read_text().splitlines())
        return cls(
            descriptors=len(list((proc / "fd").iterdir())),
            memory=int(status["VmRSS"].split()[0]) / 1024,
            threads=int(status["Threads"]),
            watches=watches,
        )


def growth(samples: Sequence[Sample], *, warm_up: int = 3) -> list[str]:
    """Return what has grown, in words, over samples that were taken while there was the same to do."""
    settled = samples[warm_up:]
    if len(settled) < 3:
        return [f"only {len(settled)} samples after the first {warm_up}, too few to tell"]
    found = []
    for what in ("descriptors", "watches"):
        values = [getattr(sample, what) for sample in settled]
        if min(values[len(values) // 2 :]) > min(values[: len(values) // 2]) or values[-1] > values[0]:
            found.append(f"{what} have grown: {values}")
    third = max(1, len(settled) // 3)
    first, last = (statistics.median(sample.memory for sample in part) for part in (settled[:third], settled[-third:]))
    if last > first + ALLOWED_GROWTH:
        found.append(f"memory has grown from {first:.1f} to {last:.1f} MiB")
    return found


def table(samples: Sequence[Sample]) -> str:
    """Return the samples as text, at most 20 of them."""
    step = max(1, len(samples) // 20)
    lines = ["   sample  descriptors  memory  threads  watches"]
    for number in sorted({*range(0, len(samples), step), len(samples) - 1}):
        one = samples[number]
        lines.append(f"{number:9d}  {one.descriptors:11d}  {one.memory:6.1f}  {one.threads:7d}  {one.watches:7d}")
    return "\n".join(lines)
