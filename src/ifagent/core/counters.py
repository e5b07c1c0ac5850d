"""What the kernel counts on links, and how fast that grows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

LEAST_INTERVAL = 0.1
"""Least seconds between two readings."""


class LinkCounters(NamedTuple):
    """What one link has counted since it was made, in the order of ``struct rtnl_link_stats64``."""

    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    in_errors: int = 0
    out_errors: int = 0
    in_dropped: int = 0
    out_dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Packets and bytes a second between two readings; never negative."""

    in_packets: float = 0.0
    in_bytes: float = 0.0
    out_packets: float = 0.0
    out_bytes: float = 0.0


NO_RATES = Rates()
"""The rates of a link that counts nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What an interface's link has counted since it was made; the names are those of ligato v1's ``Statistics``.

    ``drop_packets`` are those of both directions. ``rates`` is ``None`` until there are two readings of one link, and
    after its counters were reset.
    """

    in_packets: int = 0
    in_bytes: int = 0
    out_packets: int = 0
    out_bytes: int = 0
    drop_packets: int = 0
    in_error_packets: int = 0
    out_error_packets: int = 0
    rates: Rates | None = None


class Reading(NamedTuple):
    """What a link had counted at a moment, in seconds of any clock that only goes forward."""

    time: float
    counters: LinkCounters


def counted(reading: Reading, before: Reading | None = None) -> Counters:
    """Return what there is to tell of a reading; ``before`` is an earlier one of the same link."""
    now = reading.counters
    return Counters(
        in_packets=now.in_packets,
        in_bytes=now.in_bytes,
        out_packets=now.out_packets,
        out_bytes=now.out_bytes,
        drop_packets=now.in_dropped + now.out_dropped,
        in_error_packets=now.in_errors,
        out_error_packets=now.out_errors,
        rates=None if before is None else _rates(reading, before),
    )


def _rates(reading: Reading, before: Reading) -> Rates | None:
    seconds = reading.time - before.time
    grown = [now - then for now, then in zip(reading.counters, before.counters, strict=True)]
    if seconds <= 0 or min(grown) < 0:  # another link has got the same ifindex, or a driver has begun anew
        return None
    in_packets, out_packets, in_bytes, out_bytes, *_ = (round(count / seconds, 3) for count in grown)
    return Rates(in_packets=in_packets, in_bytes=in_bytes, out_packets=out_packets, out_bytes=out_bytes)
