"""A black hole for packets, made with routes alone."""

from __future__ import annotations

from typing import Self

from lab import ip

HOLE = "10.99.0.1"


class BlackHole:
    """An address of this machine whose packets the kernel drops, in both directions, while it is closed."""

    def __enter__(self) -> Self:
        ip("addr", "add", f"{HOLE}/32", "dev", "lo")
        return self

    def __exit__(self, *exc_info: object) -> None:
        ip("addr", "del", f"{HOLE}/32", "dev", "lo", check=False)
        for kind in ("blackhole", "local"):
            ip("route", "del", kind, HOLE, "table", "local", check=False)

    def close(self) -> None:
        ip("route", "del", "local", HOLE, "table", "local")
        ip("route", "add", "blackhole", HOLE, "table", "local")

    def open(self) -> None:
        ip("route", "del", "blackhole", HOLE, "table", "local")
        ip("route", "add", "local", HOLE, "dev", "lo", "table", "local")
