"""What the API's workers count, and what the edges beside them say. No label is ever a value of a request.

Every worker tells its own counters on a unix socket; whichever is asked for `/metrics` adds up those of all, so that a
scrape sees the service and not the worker that happened to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

from anyio import to_thread
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE = 2.0  # seconds another process has for its page
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


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
        """The exposition text of this worker's own counters."""
        return generate_latest(self.registry)


@asynccontextmanager
async def told(own: Metrics, run_dir: Path, worker: str) -> AsyncIterator[None]:
    """Tells this worker's counters to its siblings on `api-<worker>.metrics.sock`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(HEAD + own.page())
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked is gone, or did not ask
        finally:
            writer.close()

    await to_thread.run_sync(lambda: run_dir.mkdir(parents=True, exist_ok=True))
    path = run_dir / f"api-{worker}.metrics.sock"
    server = await asyncio.start_unix_server(answer, str(path))
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)


async def page(own: Metrics, run_dir: Path) -> bytes:
    """The counters of all workers on this machine, added up, and the pages of the edges (`sipedge.metrics`). A process
    that is gone or hangs is left out; without a socket (a worker under test) this worker counts alone."""
    workers, edges = await asyncio.gather(_pages(run_dir, "api"), _pages(run_dir, "edge"))
    return summed(workers or [own.page()]) + b"".join(edges)


def summed(pages: Iterable[bytes]) -> bytes:
    """Pages of the same counters and histograms as one; a counter is as old as its oldest part."""
    families: dict[str, Metric] = {}
    values: dict[tuple[str, str, frozenset[tuple[str, str]]], float] = {}
    for one in pages:
        for family in text_string_to_metric_families(one.decode()):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                key = (family.name, sample.name, frozenset(sample.labels.items()))
                known = values.get(key)
                if known is None:
                    values[key] = sample.value
                else:
                    values[key] = min(known, sample.value) if key[1].endswith("_created") else known + sample.value
    for (family_name, name, labels), value in values.items():
        families[family_name].add_sample(name, dict(labels), value)
    registry = CollectorRegistry()
    registry.register(_Summed(families.values()))
    return generate_latest(registry)


class _Summed(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def _pages(run_dir: Path, role: str) -> list[bytes]:
    sockets = await to_thread.run_sync(lambda: sorted(run_dir.glob(f"{role}-*.metrics.sock")))
    return [found for found in await asyncio.gather(*(_page_of(path) for path in sockets)) if found]


async def _page_of(path: Path) -> bytes:
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""
