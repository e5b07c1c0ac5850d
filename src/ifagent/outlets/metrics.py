"""Statistics as Prometheus metrics: names begin with ``ifagent_`` and end with their unit.

A registry of ours is filled when it is read; nothing is registered in ``prometheus_client``'s global one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import accumulate

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

from ifagent.statistics import Histogram, Statistics


class _Statistics(Collector):
    """Makes metrics of statistics that are taken at every scrape."""

    def __init__(self, statistics: Callable[[], Statistics]) -> None:
        self._statistics = statistics
        self._version = version("ifagent")

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, also those that are empty yet."""
        now = self._statistics()
        yield InfoMetricFamily("ifagent_build", "The running version.", value={"version": self._version})
        yield GaugeMetricFamily("ifagent_ready", "1 once every source has synced and been acted on.", value=now.ready)
        yield GaugeMetricFamily(
            "ifagent_round_stalled_seconds", "Since when the round in progress has not moved.", value=now.stalled_for
        )
        yield CounterMetricFamily("ifagent_rounds", "Finished rounds.", value=now.rounds)
        yield _operations(now)
        yield _histogram(
            "ifagent_reaction_seconds", "From an event to the end of the wave that acted on it.", now.reaction
        )
        yield GaugeMetricFamily("ifagent_inbox_events", "Events that wait for a round.", value=now.inbox)
        yield GaugeMetricFamily("ifagent_namespaces", "Network namespaces that are open.", value=now.namespaces)
        yield GaugeMetricFamily("ifagent_subscribers", "Readers of the state stream.", value=now.subscribers)
        yield _interfaces(now)
        yield from _sources(now)
        if now.counters:
            yield from _counters(now)


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
    synced = GaugeMetricFamily("ifagent_source_synced", "1 once the source has said what it has.", labels=("source",))
    healthy = GaugeMetricFamily("ifagent_source_healthy", "1 while the source can be heard.", labels=("source",))
    for source in now.sources:
        name = source.name.encode(errors="backslashreplace").decode()  # a path may have bytes that are no text
        synced.add_metric((name,), source.synced)
        healthy.add_metric((name,), not source.problem)
    yield from (synced, healthy)


_COUNTERS = {
    "in_packets": "Packets that the interface's link has received.",
    "in_bytes": "Bytes that it has received.",
    "out_packets": "Packets that it has sent.",
    "out_bytes": "Bytes that it has sent.",
    "drop_packets": "Packets that it has dropped, either way.",
    "in_error_packets": "Packets that it has received with errors.",
    "out_error_packets": "Packets that it could not send.",
}
"""What is told of each interface's counters, by the names of :class:`ifagent.core.counters.Counters`."""


def _counters(now: Statistics) -> Iterator[Metric]:
    for counter, text in _COUNTERS.items():
        family = CounterMetricFamily(f"ifagent_interface_{counter}", text, labels=("interface",))
        for name, counters in now.counters.items():
            family.add_metric((name,), getattr(counters, counter))
        yield family


def new_registry(statistics: Callable[[], Statistics]) -> CollectorRegistry:
    """Return a registry whose metrics are made of what ``statistics`` returns when it is read."""
    registry = CollectorRegistry()
    registry.register(_Statistics(statistics))
    return registry


def write_metrics(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Write all metrics as an ``Accept`` header asks; return them and their content type."""
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # it names a version that is none
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type
