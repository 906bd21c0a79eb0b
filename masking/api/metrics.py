"""What this API process counts. Labels are words of our own tables, never a value of a request."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one process, in a registry of their own: two apps in one test do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "masking_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "masking_http_request_seconds",
            "Time from a request's head to its answer's head.",
            ["method", "route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        # `labels()` looks its child up under a lock each time; a row of the table has few, so they are kept.
        self._count = lru_cache(maxsize=4096)(self._requests.labels)
        self._time = lru_cache(maxsize=1024)(self._seconds.labels)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        self._count(method, route, str(status)).inc()
        self._time(method, route).observe(seconds)

    def page(self) -> bytes:
        """The exposition text Prometheus scrapes."""
        return generate_latest(self.registry)
