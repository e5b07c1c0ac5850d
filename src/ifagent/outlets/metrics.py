"""Statistics as Prometheus metrics: names begin with ``ifagent_`` and end with their unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from operator import attrgetter
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ifagent.core.counters import Counters
from ifagent.core.names import Name
from ifagent.statistics import Histogram, Statistics, build_version
from ifagent.visible import is_visible, visible

_AT_ONCE: Final = 500
"""Interfaces whose counters are written in one piece."""

_EOF: Final = b"# EOF\n"


class _Statistics(Collector):
    """Collects metrics from statistics that are taken at every scrape."""

    def __init__(self, statistics: Callable[[], Statistics]) -> None:
        self._statistics = statistics
        self._version = build_version()
        self.latest: Statistics

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, including empty ones."""
        self.latest = now = self._statistics()
        yield InfoMetricFamily("ifagent_build", "The running version.", value={"version": self._version})
        yield GaugeMetricFamily(
            "ifagent_ready", "1 once every source has synced and the first round is done.", value=now.ready
        )
        yield GaugeMetricFamily(
            "ifagent_round_stalled_seconds",
            "Time since the round in progress made progress, 0 if it does.",
            value=now.stalled_for,
        )
        yield CounterMetricFamily("ifagent_rounds", "Finished rounds.", value=now.rounds)
        yield _operations(now)
        yield _histogram(
            "ifagent_reaction_seconds", "Time from an event to the end of the wave that handled it.", now.reaction
        )
        yield GaugeMetricFamily("ifagent_inbox_events", "Events waiting for a round.", value=now.inbox)
        yield GaugeMetricFamily("ifagent_namespaces", "Attached network namespaces.", value=now.namespaces)
        yield GaugeMetricFamily("ifagent_subscribers", "Readers of the state stream.", value=now.subscribers)
        yield _interfaces(now)
        yield from _sources(now)


def _operations(now: Statistics) -> Metric:
    family = CounterMetricFamily(
        "ifagent_operations", "Kernel requests, by kind and result (ok or an errno).", labels=("kind", "result")
    )
    for (kind, result), count in sorted(now.operations.items()):
        family.add_metric((kind, result), count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.sum)


def _interfaces(now: Statistics) -> Metric:
    family = GaugeMetricFamily("ifagent_interfaces", "Interfaces, by config state.", labels=("state",))
    for state, count in now.interfaces.items():
        family.add_metric((state,), count)
    return family


def _sources(now: Statistics) -> Iterator[Metric]:
    synced = GaugeMetricFamily("ifagent_source_synced", "1 once the source has synced.", labels=("source",))
    healthy = GaugeMetricFamily("ifagent_source_healthy", "1 while the source has no problem.", labels=("source",))
    for source in now.sources:
        name = _label(source.name)
        synced.add_metric((name,), source.synced)
        healthy.add_metric((name,), not source.problem)
    yield from (synced, healthy)


_COUNTERS = {
    "in_packets": "Packets received.",
    "in_bytes": "Bytes received.",
    "out_packets": "Packets sent.",
    "out_bytes": "Bytes sent.",
    "drop_packets": "Packets dropped, received or sent.",
    "in_error_packets": "Packets received with errors.",
    "out_error_packets": "Packets that could not be sent.",
}
"""The help of each interface's metrics, by the fields of :class:`ifagent.core.counters.Counters`."""


class Metrics:
    """All metrics of an agent, made from what ``statistics`` returns at each scrape."""

    def __init__(self, statistics: Callable[[], Statistics]) -> None:
        self._statistics = _Statistics(statistics)
        # A registry of our own: the global one belongs to the embedding program.
        self._registry = CollectorRegistry()
        self._registry.register(self._statistics)

    def write(self, accept: str = "") -> tuple[str, Iterator[bytes]]:
        """Return the content type that an ``Accept`` header asks for, and the metrics in pieces, each made quickly.

        All pieces are as of the moment when the first one is made.
        """
        try:
            encoder, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it names an invalid version
            encoder, content_type = choose_encoder("")
        return content_type, self._pieces(encoder)

    def _pieces(self, encoder: Callable[[CollectorRegistry], bytes]) -> Iterator[bytes]:
        few = encoder(self._registry)
        # The library takes a second for the counters of 10,000 interfaces; a line is the same in all formats.
        last = _EOF if few.endswith(_EOF) else b""
        yield few.removesuffix(_EOF)
        yield from _counters(self._statistics.latest.counters, open_metrics=bool(last))
        if last:
            yield last


def _counters(counters: Mapping[Name, Counters], *, open_metrics: bool) -> Iterator[bytes]:
    """Write the counters of all links, :data:`_AT_ONCE` at a time."""
    if not counters:
        return
    found = list(counters.items())
    parts = [found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE)]
    labelled: list[list[tuple[str, Counters]]] = []
    for part in parts:
        labelled.append([(_escaped(_label(name)), one) for name, one in part])
        yield b""
    for counter, text in _COUNTERS.items():
        name = f"ifagent_interface_{counter}"
        family = name if open_metrics else f"{name}_total"
        yield f"# HELP {family} {text}\n# TYPE {family} counter\n".encode()
        value = attrgetter(counter)
        for some in labelled:
            yield "".join([f'{name}_total{{interface="{label}"}} {value(one)}\n' for label, one in some]).encode()


def _label(text: str) -> str:
    r"""Return a text with visible characters only; ``\`` is doubled so that different texts stay different."""
    return text if is_visible(text) and "\\" not in text else visible(text.replace("\\", "\\\\"))


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"')
