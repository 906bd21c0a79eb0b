"""What a bind, a route and a client call cost, beside the barest thing Redis can do: `python -m tests.pools.bench`.

Prints rows of `bench.json` as one JSON list. Costs of the server are CPU time of its process, network included, while
as many operations as fit are under way at once; the client's are CPU time of this process. Ours and its peer take turns
in short bursts, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hiredis

from loadtests.measure import Row, row
from pools.redis import Redis
from tests.pools.bare import Bare
from tests.pools.load import Load
from tests.redis_server import RedisServer

CONCURRENT = 32
BURST = 500
Operation = Callable[[int], Awaitable[object]]


class Meter:
    """Reads the server's CPU time, in µs; what reading costs (some 100 µs, of bursts of 10,000) is in both peers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def server(self) -> float:
        told = (await self._redis.command("INFO", "cpu")).decode()
        return sum(float(used) for used in re.findall(r"used_cpu_(?:user|sys):([\d.]+)", told)) * 1e6

    async def burst(self, operation: Operation, first: int, count: int) -> tuple[float, float]:
        """µs of server CPU and of client CPU for `count` operations."""
        numbers = iter(range(first, first + count))

        async def worker() -> None:
            for n in numbers:
                await operation(n)

        server, client = await self.server(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(CONCURRENT)))
        client = time.process_time() - client
        return await self.server() - server, client * 1e6

    async def in_turn(self, ours: Operation, peer: Operation, first: int, count: int) -> list[tuple[float, float]]:
        """µs an operation, (server, client), of ours and of its peer; burst by burst in turn, whoever was last first."""
        sums = [[0.0, 0.0], [0.0, 0.0]]
        for turn, start in enumerate(range(first, first + count, BURST)):
            for which in (0, 1) if turn % 2 else (1, 0):
                server, client = await self.burst((ours, peer)[which], start, BURST)
                sums[which][0] += server
                sums[which][1] += client
        return [(server / count, client / count) for server, client in sums]


def blocking_pipeline(server: RedisServer, count: int) -> float:
    """µs of client CPU per GET when 32 of them are one write and one read, with nothing around them."""
    began, reader = time.process_time(), hiredis.Reader()
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(str(server.path))
        for n in range(0, count, CONCURRENT):
            gets: list[tuple[Any, ...]] = [("GET", f"k{key % 1000}") for key in range(n, n + CONCURRENT)]
            wire.sendall(b"".join(hiredis.pack_command(words) for words in gets))
            answers = 0
            while answers < CONCURRENT:
                reader.feed(wire.recv(65536))
                while reader.gets() is not False:
                    answers += 1
    return (time.process_time() - began) / count * 1e6


async def rows(server: RedisServer, count: int, runs: int) -> list[Row]:
    redis = Redis(server.url, budget=5.0)
    load, bare, meter = Load(redis), Bare(redis), Meter(redis)
    await load.open()
    pairs: dict[str, tuple[str, str, str, Operation, Operation]] = {
        "bind": ("bind", "us server CPU/bind", "bare-writes", load.bind, bare.bind),
        "route": ("route", "us server CPU/claim", "bare-writes", load.route, bare.route),
        "read": ("route-read", "us server CPU/route", "get", load.route, bare.read),
        "lookup": ("route-lookup", "us server CPU/HGET", "get", load.lookup, bare.get),
    }
    costs: dict[str, list[list[float]]] = {name: [[], []] for name in pairs}
    client: list[float] = []
    floor: list[float] = []
    for turn in range(runs):
        await meter.burst(bare.set, turn * count, count)
        for name, (*_, ours, peer) in pairs.items():
            measured = await meter.in_turn(ours, peer, turn * count, count)
            for which in (0, 1):
                costs[name][which].append(measured[which][0])
            if name == "lookup":
                client.append(measured[1][1])
        floor.append(blocking_pipeline(server, 16 * count))
    await redis.close()
    return [
        *(row(pairs[name][0], pairs[name][1], ours, pairs[name][2], peer, 2) for name, (ours, peer) in costs.items()),
        row("redis-client", "us client CPU/op at 32", client, "blocking hiredis pipeline", floor),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a bind, a route and a client call.")
    parser.add_argument("--count", type=int, default=5_000, help="binds a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--server", choices=["embedded", "system"], default="embedded")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary:
        server = RedisServer(Path(temporary), asked.server)
        server.start()
        try:
            found = asyncio.run(rows(server, asked.count, asked.runs))
        finally:
            server.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
