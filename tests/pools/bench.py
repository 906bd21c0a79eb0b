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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hiredis

from loadtests.goals import alone
from loadtests.measure import Row, row
from pools.redis import Redis
from tests.pools.bare import Bare
from tests.pools.load import Load, parties_of
from tests.redis_server import RedisServer

CONCURRENT = 32
BURST = 500
EXPIRY_BYTES = 32  # a key's place among those that expire, which MEMORY USAGE leaves out: pointers to it and its time
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


Side = tuple[Meter, Operation]


async def in_turn(ours: Side, peer: Side, first: int, count: int, burst: int = BURST) -> list[tuple[float, float]]:
    """µs an operation, (server, client), of ours and of its peer; burst by burst in turn, whoever was last first."""
    sums = [[0.0, 0.0], [0.0, 0.0]]
    for turn, start in enumerate(range(first, first + count, burst)):
        for which in (0, 1) if turn % 2 else (1, 0):
            meter, operation = (ours, peer)[which]
            used = await meter.burst(operation, start, burst)
            sums[which] = [total + one for total, one in zip(sums[which], used, strict=True)]
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


async def binding_bytes(load: Load, first: int, count: int = 200) -> float:
    """What the entries of a binding take in Redis: of each party its key, hash and expiry, and the place in `due`."""
    tag = "{" + load.shard + "}"
    parties = [party for n in range(first, first + count) for party in parties_of(n)]
    sizes: list[int] = [await load.redis.command("MEMORY", "USAGE", f"{tag}p:{party}") for party in parties]
    due: int = await load.redis.command("MEMORY", "USAGE", f"{tag}due", "SAMPLES", 1000)
    held: int = await load.redis.command("ZCARD", f"{tag}due")
    return (sum(sizes) + len(parties) * EXPIRY_BYTES) / count + due / held


async def rows(server: RedisServer, count: int, runs: int) -> list[Row]:
    """Bind and route beside bare writes, what a route reads beside a GET, and the client."""
    redis = Redis(server.url, budget=5.0)
    load, bare, meter = Load(redis), Bare(redis), Meter(redis)
    await load.open()
    pairs: dict[str, tuple[str, str, Operation, Operation]] = {
        "bind": ("us server CPU/bind", "bare-writes", load.bind, bare.bind),
        "route": ("us server CPU/claim", "bare-writes", load.route, bare.route),
        "route-repeated": ("us server CPU/route", "get in a script", load.route, bare.read),
        "route-lookup": ("us server CPU/HGET", "get", load.lookup, bare.get),
    }
    costs: dict[str, list[list[float]]] = {name: [[], []] for name in pairs}
    client: list[float] = []
    floor: list[float] = []
    for turn in range(runs):
        await meter.burst(bare.set, turn * count, count)
        for name, (_, _, ours, peer) in pairs.items():
            measured = await in_turn((meter, ours), (meter, peer), turn * count, count)
            for which in (0, 1):
                costs[name][which].append(measured[which][0])
            if name == "route-lookup":
                client.append(measured[1][1])
        floor.append(blocking_pipeline(server, 16 * count))
    sizes = [await binding_bytes(load, turn * count) for turn in range(runs)]
    await redis.close()
    return [
        *(row(name, unit, costs[name][0], peer, costs[name][1], 2) for name, (unit, peer, _, _) in pairs.items()),
        row("redis-client", "us client CPU/op at 32", client, "blocking hiredis pipeline", floor),
        alone("binding-bytes", "bytes of index entries/binding", sizes, 0),
    ]


async def growth(server: RedisServer, small: RedisServer, runs: int, live: int) -> list[Row]:
    """What a bind costs where there is much, beside one where there is little. `small`: a nearly empty server."""
    redis, other = Redis(server.url, budget=30.0), Redis(small.url, budget=30.0)
    meter, beside = Meter(redis), Meter(other)
    few, little = Load(redis, "few000"), Load(other, "few000")
    many = [Load(redis, f"m{n:05d}") for n in range(500)]
    busy = Load(redis, "busy00", 256)
    for load in (few, little, busy, *many):
        await load.open()

    async def bind_anywhere(n: int) -> None:
        await many[n % len(many)].bind(n)

    async def bind_busy(n: int) -> None:
        """One of 100 parties and always somebody new."""
        await busy.bind_parties(n, f"busy{n % 100:012d}", parties_of(n)[0])

    await meter.burst(bind_busy, 0, 100 * (253 - runs))
    await meter.burst(bind_anywhere, 0, 20_000)
    await beside.burst(little.bind, 0, 10_000)
    await meter.burst(few.bind, 0, 10_000)
    found: dict[str, list[list[tuple[float, float]]]] = {"bind-busy-party": [], "bind-100000-numbers": []}
    for turn in range(runs):
        fresh = 1_000_000 + turn * 5_000
        ours = (meter, bind_busy)
        found["bind-busy-party"].append(await in_turn(ours, (meter, few.bind), 3_000_000 + 100 * turn, 100, 100))
        ours = (meter, bind_anywhere)
        found["bind-100000-numbers"].append(await in_turn(ours, (meter, few.bind), fresh, 5_000))
    await meter.burst(few.bind, 2_000_000, live)
    found[f"bind-{live}-live"] = [
        await in_turn((meter, few.bind), (beside, little.bind), 5_000_000 + turn * 5_000, 5_000) for turn in range(runs)
    ]
    await redis.close()
    await other.close()
    return [
        row(name, "us server CPU/bind", [ours[0] for ours, _ in pairs], "bind", [peer[0] for _, peer in pairs], 2)
        for name, pairs in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a bind, a route and a client call.")
    parser.add_argument("--count", type=int, default=5_000, help="binds a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--live", type=int, help="bindings that stand in the largest pool: 10^6, with few runs 50,000")
    parser.add_argument("--server", choices=["embedded", "system"], default="embedded")
    asked = parser.parse_args()
    live = asked.live or (1_000_000 if asked.runs >= 5 else 50_000)
    with ExitStack() as stack:
        servers = []
        for _ in range(3):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="masking-bench-"))
            servers.append(server := RedisServer(Path(folder), asked.server))
            server.start()
            stack.callback(server.stop)
        found = asyncio.run(rows(servers[0], asked.count, asked.runs))
        found += asyncio.run(growth(servers[1], servers[2], asked.runs, live))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
