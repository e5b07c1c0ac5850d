"""Somebody else who changes links: ``python -m benchmarks.flapper NAMESPACE RATE SECONDS IFINDEX...``.

A process of its own, so that it takes no turns with whom it is to disturb. It changes the MTU of the links in turn, so
many times a second, and then prints as JSON when it has begun each change (seconds of ``time.perf_counter``, which all
processes share) and the MTU that it has set.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import cycle
from pathlib import Path

from benchmarks.netlink import Sender, entered, packed, set_mtu

TICK = 0.005
"""Seconds between sends when there are many changes: those of one tick go together."""

FIRST, MTUS = 1300, 400
"""The MTUs; with less than 1280 bytes, a link would lose its IPv6 addresses."""


def main() -> None:
    """Change links."""
    space, rate, seconds, *ifindexes = sys.argv[1:]
    sender = entered(space, Sender)
    together = max(1, round(float(rate) * TICK))
    links = cycle(map(int, ifindexes))
    said: list[tuple[float, int]] = []
    started = now = time.perf_counter()
    number = 0
    while now - started < float(seconds):
        mtu = FIRST + number // len(ifindexes) % MTUS
        requests = packed(set_mtu(next(links), mtu) for _ in range(together))
        said.append((time.perf_counter(), mtu))
        for request in requests:
            sender.send(request)
        number += together
        time.sleep(max(0.0, started + number / float(rate) - time.perf_counter()))
        now = time.perf_counter()
    taken = time.perf_counter() - started
    print(json.dumps({"seconds": taken, "changes": number, "said": said if together == 1 else []}))


def command(space: Path, rate: float, seconds: float, *ifindexes: int) -> list[str]:
    """Return how to start it."""
    numbers = map(str, (rate, seconds, *ifindexes))
    return [sys.executable, "-m", "benchmarks.flapper", str(space), *numbers]


if __name__ == "__main__":
    main()
