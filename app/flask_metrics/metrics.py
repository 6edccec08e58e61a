"""The request metrics and how they are exposed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    Summary,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# Label values for what no rule describes. A client chooses paths and method names freely, so each of them must
# collapse into one value or the number of time series would be in the client's hands.
UNMATCHED_ROUTE = "unmatched"
OTHER_METHOD = "_OTHER"
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

# The service answers in well under a millisecond; the client library's default buckets begin at 5 ms.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class RunLastSeen(Collector):
    """Gauge ``vigie_run_last_seen_timestamp_seconds{run_id}`` that keeps the newest run id only.

    A collector of its own because a `Gauge` would have to be cleared and set again, and a scrape between the two
    would see no run at all.
    """

    def __init__(self) -> None:
        self._seen: tuple[str, float] | None = None

    def see(self, run_id: str) -> None:
        """Remember that a request of this run arrived now (one assignment, safe between threads)."""
        self._seen = (run_id, time.time())

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge, without a sample as long as no run was seen."""
        family = GaugeMetricFamily(
            "vigie_run_last_seen_timestamp_seconds",
            "Unix time of the last request that carried a valid X-Vigie-Run-Id header (newest run id only).",
            labels=["run_id"],
        )
        seen = self._seen
        if seen:
            family.add_metric([seen[0]], seen[1])
        yield family


class RequestMetrics:
    """Metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.run_last_seen = RunLastSeen()
        self.registry.register(self.run_last_seen)
        self._requests = Counter(
            "http_requests_total", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.active_users = Gauge(
            "active_users",
            "Requests being served now: arrived in the application and not yet answered.",
            registry=self.registry,
        )
        self._duration = Histogram(
            "request_duration_seconds",
            "Time from the arrival of a request in the application to its answer.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._latency = Summary(
            "request_latency_seconds",
            "The same time as request_duration_seconds, as sum and count.",
            ["method", "route"],
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram, Summary]] = {}
        # A counter that first appears with the value 1 hides that first request from rate() and increase().
        self._children(("GET", "/", 200))

    def record(self, method: str, route: str, status: int, seconds: float, exemplar: dict[str, str] | None) -> None:
        """Count one answered request; ``exemplar`` (or None) goes with the counter and the histogram bucket."""
        key = (method, route, status)
        # labels() takes a lock and builds tuples and strings each time: look the three children up once.
        requests, duration, latency = self._series.get(key) or self._children(key)
        requests.inc(1, exemplar)
        duration.observe(seconds, exemplar)
        latency.observe(seconds)

    def _children(self, key: tuple[str, str, int]) -> tuple[Counter, Histogram, Summary]:
        method, route, status = key
        children = (
            self._requests.labels(method, route, str(status)),
            self._duration.labels(method, route),
            self._latency.labels(method, route),
        )
        self._series[key] = children
        return children

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Render all metrics in the format that an ``Accept`` header asks for.

        Returns:
            The body and its content type. Exemplars exist in the OpenMetrics format only.
        """
        # The library does not annotate this function.
        encode: Callable[[CollectorRegistry], bytes]
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
