"""Session creation beside the same server's no-op, per CPU-second of the API process, and how long a client waits."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from loadtests.measure import Row, cpu_seconds, quantile, row
from loadtests.signalling import PEER_CORE, on_core
from tests.system.service import KEY, Service

CONNECTIONS = 32
PATIENCE = 2.0  # seconds a client asks again after a 503 before the run fails


async def client(host: str, port: int, requests: Iterator[bytes], status: bytes, waits: list[float]) -> None:
    """One keep-alive connection that asks on and on, with the least a client can do. A 503 (another program had the
    machine) is asked again, and all of that is one wait: it spoils the percentile, not the run."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        for request in requests:
            began = time.perf_counter()
            while True:
                head, body = await ask(reader, writer, request)
                if head.split(b" ", 2)[1] != b"503" or time.perf_counter() - began > PATIENCE:
                    break
            waits.append(time.perf_counter() - began)
            assert head.split(b" ", 2)[1] == status, (head, body)
    finally:
        writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[bytes, bytes]:
    """The answer's head and body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await reader.readexactly(length)


async def burst(
    service: Service, request: Callable[[int], bytes], status: bytes, count: int, first: int
) -> tuple[float, float]:
    """Requests per CPU-second of the API, and the 99th percentile of the wait in ms."""
    host, _, port = service.ready["http"].removeprefix("http://").partition(":")
    requests = (request(n) for n in range(first, first + count))
    waits: list[float] = []
    before = cpu_seconds(service.pids_of("api"))
    await asyncio.gather(*(client(host, int(port), requests, status, waits) for _ in range(CONNECTIONS)))
    return count / max(cpu_seconds(service.pids_of("api")) - before, 0.01), quantile(waits, 0.99) * 1000


def no_op(n: int) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n"


def creation(n: int) -> bytes:
    body = json.dumps({
        "unique_name": f"bench-{n}", "ttl": 3600, "record": "never",
        "participants": [{"identifier": f"+8490{2_000_000 + n:07d}", "role": "customer"},
                         {"identifier": f"+8490{5_000_000 + n:07d}", "role": "driver"}],
    }).encode()  # fmt: skip
    lines = ["POST /v1/sessions HTTP/1.1", "Host: bench", f"Authorization: Bearer {KEY}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def run(runs: int = 5, count: int = 3000) -> list[Row]:
    creations, plain, waits, plain_waits = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary:
        service = Service(Path(temporary))
        with on_core(PEER_CORE):
            service.start()
        try:
            service.import_numbers([f"+84247500{n:04d}" for n in range(200)], "vn-main")
            for turn in range(runs):
                made = asyncio.run(burst(service, creation, b"201", count, turn * count))
                nothing = asyncio.run(burst(service, no_op, b"200", 2 * count, 0))
                creations.append(made[0])
                waits.append(made[1])
                plain.append(nothing[0])
                plain_waits.append(nothing[1])
        finally:
            service.stop()
    return [
        row("rest-create", "sessions/API-CPU-s", creations, "no-op", plain, 0),
        row("rest-create-p99", "ms at 32 connections", waits, "no-op", plain_waits, 1),
    ]
