"""Figures for Prometheus, see docs/server.md."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

# Seconds from sound to picture; the goals are 0.13 for half and 0.17 for almost all.
_DELAYS = (0.05, 0.08, 0.1, 0.13, 0.17, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0, 2.0)
_FRAMES = "sfumato_frame"  # how figures begin that only sessions change
_OF_WORKERS = (_FRAMES, "process_")

Figures = list[Any]  # of families: name, type, text, samples (name, labels, value)


class Metrics:
    """All figures of one server; every server has its own.

    Args:
        helpers: tells the numbers of the processes that help this one now, in the system.
    """

    def __init__(self, helpers: Callable[[], Iterable[int]] = tuple) -> None:
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._registry.register(_Processes(helpers))
        self._frames = Counter(
            "sfumato_frames_sent", "Frames of live sessions.", registry=self._registry
        )
        self._delays = Histogram(
            "sfumato_frame_delay_seconds",
            "From the arrival of a frame's sound to the frame, where somebody speaks.",
            buckets=_DELAYS,
            registry=self._registry,
        )
        self._refused = Counter(
            "sfumato_sessions_refused",
            "Visitors who were sent away because all sessions were taken.",
            registry=self._registry,
        )
        self._failed = Counter(
            "sfumato_requests_failed", "Requests by status.", ["status"], registry=self._registry
        )

    def frame(self, delay: float | None) -> None:
        """A frame was sent; ``delay`` as in :class:`sfumato.LiveFrame`."""
        self._frames.inc()
        if delay is not None:
            self._delays.observe(delay)

    def refused(self) -> None:
        """A visitor was sent away."""
        self._refused.inc()

    def failed(self, status: int) -> None:
        """A request was answered with an error."""
        self._failed.labels(status).inc()

    def watch(self, name: str, text: str, read: Callable[[], float], **labels: str) -> None:
        """A figure that is read whenever somebody asks; once for every value of its labels."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = Gauge(f"sfumato_{name}", text, list(labels), registry=self._registry)
            self._gauges[name] = gauge
        (gauge.labels(**labels) if labels else gauge).set_function(read)

    def report(self) -> Figures:
        """What a worker counts, as JSON carries it."""
        return [
            [found.name, found.type, found.documentation, [list(s[:3]) for s in found.samples]]
            for found in self._registry.collect()
            if found.name.startswith(_OF_WORKERS)
        ]

    def text(self, workers: Mapping[int, Figures] | None = None) -> bytes:
        """All figures in Prometheus' text format.

        Args:
            workers: what those report who run the live sessions; None: sessions run here.
        """
        if workers is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        together.register(_Together(self._registry, workers))
        return generate_latest(together)


class _Processes(Collector):
    """Memory, CPU time and open files of this process and, by number, of its helpers; on Linux."""

    def __init__(self, helpers: Callable[[], Iterable[int]]) -> None:
        self._own = ProcessCollector(registry=None)
        self._helpers = helpers

    def collect(self) -> Iterator[Metric]:
        found = {family.name: family for family in self._own.collect()}
        for number, pid in enumerate(self._helpers(), 1):
            helper = ProcessCollector(pid=functools.partial(int, pid), registry=None)
            for family in helper.collect():
                for sample in family.samples:
                    labels = sample.labels | {"helper": str(number)}
                    found[family.name].add_sample(sample.name, labels, sample.value)
        yield from found.values()


class _Together(Collector):
    """A server's own figures and, labelled with their numbers, those of its workers."""

    def __init__(self, own: CollectorRegistry, workers: Mapping[int, Figures]) -> None:
        self._own = own
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        own = (found for found in self._own.collect() if not found.name.startswith(_FRAMES))
        found = {family.name: family for family in own}
        for number, figures in self._workers.items():
            for name, kind, text, samples in figures:
                family = found.setdefault(name, Metric(name, text, kind))
                for sample, labels, value in samples:
                    family.add_sample(sample, labels | {"worker": str(number)}, value)
        yield from found.values()
