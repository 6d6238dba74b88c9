"""Prometheus metrics. Each has the prefix `atoll_`; docs/api.md lists them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from atolld.core.lifecycle import SandboxState
from atolld.foundation.aio import cancel_and_wait, spawn

# A second series for each counter, that tells when it was made, is of no use here.
disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_EVERY_S = 1.0

_COUNTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sandbox_creates": ("Creates of sandboxes by outcome: ok or the error's code", ("runtime", "outcome")),
    "sandbox_ends": ("Ends of sandboxes by reason", ("runtime", "reason")),
    "sandbox_cleanup_failures": ("Take-downs of sandboxes that failed and are tried again", ("runtime",)),
    "sandbox_pauses": ("Pauses of sandboxes: ok or failed (it then goes on)", ("runtime", "outcome")),
    "sandbox_resumes": ("Resumes and rollbacks: ok or failed (it then is paused)", ("runtime", "kind", "outcome")),
    "sandbox_idle_failures": ("Idle sandboxes that could not be frozen or paused", ("runtime",)),
    "snapshots": ("Snapshots and saves of forks: ok or failed", ("runtime", "outcome")),
    "builds": ("Builds of templates by outcome: ok, cancelled or the error's code", ("runtime", "outcome")),
    "build_sandboxes": ("Sandboxes that steps of builds ran in", ("runtime",)),
    "pool_claims": ("Creates that a warm pool could serve: hit, or miss when it was empty", ("outcome",)),
    "usage_sample_failures": ("Samples of usage that could not be taken", ()),
}
_TIMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sandbox_create_seconds": ("Time from the request to a sandbox that answers", ("runtime",)),
    "sandbox_create_phase_seconds": ("Where the time of a create went", ("runtime", "phase")),
    "sandbox_end_seconds": ("Time from the decision to nothing left", ("runtime",)),
    "sandbox_pause_seconds": ("Time from the request to a sandbox that is saved", ("runtime",)),
    "sandbox_pause_phase_seconds": ("Where the time of a pause went", ("runtime", "phase")),
    "sandbox_resume_phase_seconds": ("Where the time of a resume or rollback went", ("runtime", "phase")),
    "sandbox_resume_seconds": ("Time from the request to a sandbox that answers again", ("runtime", "kind")),
    "sandbox_stopped_seconds": ("How long a guest stood still to be saved", ("runtime", "purpose")),
    "build_seconds": ("Time from the start of a build to its end", ("runtime", "outcome")),
    "sandbox_expiry_delay_seconds": ("How late expired sandboxes were ended", ()),
}


@dataclass(slots=True)
class Sources:
    """Where gauges are read from, at the time of a scrape."""

    counts: Callable[[], Mapping[tuple[SandboxState, str], int]] = dict
    gauges: Callable[[], Mapping[str, float]] = dict
    upstream_connections: Callable[[], int] = lambda: 0
    extra: dict[str, Callable[[], float]] = field(default_factory=dict)


class Metrics:
    """Implements `atolld.control.telemetry.Telemetry`, and renders everything for a scrape."""

    def __init__(self) -> None:
        self.sources = Sources()
        self._registry = CollectorRegistry()
        self._counts = {
            name: Counter(f"atoll_{name}", text, labels, registry=self._registry)
            for name, (text, labels) in _COUNTS.items()
        }
        self._times = {
            name: Histogram(f"atoll_{name}", text, labels, buckets=SECONDS, registry=self._registry)
            for name, (text, labels) in _TIMES.items()
        }
        self._requests = Histogram(
            "atoll_api_request_seconds",
            "Requests of the API by route and status",
            ("route", "status"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.loop_lag = LoopLag(self._registry)
        self._registry.register(_Gauges(self.sources))

    @property
    def counters(self) -> frozenset[str]:
        """The names that can be counted."""
        return frozenset(self._counts)

    @property
    def histograms(self) -> frozenset[str]:
        """The names that can be observed."""
        return frozenset(self._times)

    def count(self, name: str, labels: Mapping[str, str]) -> None:
        """One more of `name`; see `Telemetry` for the names."""
        metric = self._counts[name]
        (metric.labels(**labels) if labels else metric).inc()

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """One measured value of `name`; see `Telemetry` for the names."""
        metric = self._times[name]
        (metric.labels(**labels) if labels else metric).observe(value)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One answered request of the API."""
        self._requests.labels(route, str(status)).observe(seconds)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self._registry)


class LoopLag:
    """How late the event loop wakes a sleeper: what every request waits besides its own work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(
            "atoll_event_loop_lag_seconds",
            "How late the event loop wakes a sleeper",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
            registry=registry,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure, once a second."""
        self._task = spawn(self._run(), name="loop-lag")

    async def stop(self) -> None:
        """Measure no more."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_EVERY_S)
            self._histogram.observe(max(0.0, loop.time() - before - LAG_EVERY_S))


class _Gauges(Collector):
    """Values read when they are asked for."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """See prometheus_client."""
        sandboxes = GaugeMetricFamily("atoll_sandboxes", "Live sandboxes", labels=["state", "runtime"])
        for (state, runtime), count in self._sources.counts().items():
            sandboxes.add_metric([state.value, runtime], count)
        yield sandboxes
        for name, value in self._sources.gauges().items():
            yield GaugeMetricFamily(f"atoll_{name}", "Of the node", value=value)
        yield GaugeMetricFamily(
            "atoll_gateway_upstream_connections",
            "Connections of the gateway into sandboxes",
            value=self._sources.upstream_connections(),
        )
        yield GaugeMetricFamily("atoll_process_resident_bytes", "Memory of the daemon", value=resident_bytes())
        yield GaugeMetricFamily("atoll_process_open_files", "Open files of the daemon", value=open_files())


def resident_bytes() -> int:
    """The daemon's resident memory in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    """How many files, sockets and pipes the daemon has open."""
    return len(os.listdir("/proc/self/fd")) - 1
