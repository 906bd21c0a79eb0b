"""What this API process counts, and what the edges beside it say. No label is ever a value of a request."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from pathlib import Path

from anyio import to_thread
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
EDGE_SECONDS = 2.0


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


async def edge_pages(run_dir: Path) -> bytes:
    """The pages of the edges on this machine (`sipedge.metrics`); one that is gone or hangs is left out."""
    sockets = await to_thread.run_sync(lambda: sorted(run_dir.glob("edge-*.metrics.sock")))
    return b"".join(await asyncio.gather(*(_edge_page(path) for path in sockets)))


async def _edge_page(path: Path) -> bytes:
    try:
        async with asyncio.timeout(EDGE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""
