"""What a bind, a route and a client call cost, beside the barest thing Redis can do: `python -m tests.pools.bench`.

Prints rows of `bench.json` as one JSON list. Costs of the server are CPU-seconds of its process while as many
operations as fit are under way at once; the client's are CPU-seconds of this process. Each pair of runs is taken in
turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hiredis

from loadtests.measure import Row, row
from pools.grants import Ask, Entry, holder_id
from pools.inventory import Inventory, Item, PhoneNumber
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis
from tests.redis_server import RedisServer

NUMBERS = 200
CONCURRENT = 32
PLAIN = 16  # plain commands for every bind, so that the clock ticks of either are many
Operation = Callable[[int], Awaitable[object]]


class Bench:
    """One server with one shard of numbers, and one client."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server = server
        self.redis = Redis(server.url, budget=5.0)
        self.keyring = Keyring.create(folder / "keys.json")
        self.leases = Leases(self.redis)
        self.numbers: list[PhoneNumber] = []
        self.bound: list[tuple[PhoneNumber, str, str]] = []
        self._by_number: dict[str, PhoneNumber] = {}

    async def open(self) -> None:
        items = [Item(f"+84247300{n:04d}", "VN", "") for n in range(NUMBERS)]
        self.numbers = await Inventory(self.redis, self.keyring).add("default", "default", items)
        self._by_number = {number.number: number for number in self.numbers}

    async def bind(self, n: int) -> None:
        """A shared X for two new parties, with a session record of the usual size and its two first events."""
        shard = self.numbers[0].shard
        parties = [f"p{n:08d}a" + "x" * 13, f"p{n:08d}b" + "x" * 13]
        entries = tuple(Entry(party, "par_a|par_b" if i == 0 else "par_b|par_a") for i, party in enumerate(parties))
        holder = holder_id(shard, n.to_bytes(17, "big"))
        event = b'{"participants":["par_a","par_b"]}'
        bound = await self.leases.bind(
            shard, holder, [Ask(entries)], ttl_ms=3_600_000, quarantine_ms=1_800_000,
            fields={"record": b"s" * 400}, events=[("session.opened", None, event), ("number.leased", None, event)],
        )  # fmt: skip
        self.bound.append((self._by_number[bound.numbers[0]], parties[0], holder))

    async def route(self, n: int) -> None:
        """A route that claims a call slot and writes its first event."""
        number, party, _ = self.bound[n % len(self.bound)]
        event = b'{"from":"$from","to":"$to"}'
        found = await self.leases.route(
            number, party, f"int_{n:022d}", "edge-1", b"f" * 120,
            ("call.initiated", None, event), ("call.refused", None, event),
        )  # fmt: skip
        assert found.decision == "routed", found.decision

    async def set(self, n: int) -> None:
        await self.redis.command("SET", f"k{n}", b"v" * 100)

    async def get(self, n: int) -> None:
        await self.redis.command("GET", f"k{n % 1000}")


async def cost(bench: Bench, operation: Operation, count: int, first: int) -> tuple[float, float]:
    """Operations per CPU-second of the server, and µs of client CPU per operation."""
    numbers = iter(range(first, first + count))

    async def worker() -> None:
        for n in numbers:
            await operation(n)

    server, client = bench.server.cpu_seconds(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))
    client = time.process_time() - client
    return count / max(bench.server.cpu_seconds() - server, 0.01), client / count * 1e6


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


async def rows(server: RedisServer, folder: Path, count: int, runs: int) -> list[Row]:
    bench = Bench(server, folder)
    await bench.open()
    kinds: dict[str, tuple[Operation, int]] = {
        "set": (bench.set, PLAIN * count), "bind": (bench.bind, count),
        "get": (bench.get, PLAIN * count), "route": (bench.route, count),
    }  # fmt: skip
    servers: dict[str, list[float]] = {name: [] for name in kinds}
    clients: dict[str, list[float]] = {name: [] for name in kinds}
    floor: list[float] = []
    for turn in range(runs):
        for name, (operation, operations) in kinds.items():
            per_cpu, client = await cost(bench, operation, operations, turn * operations)
            servers[name].append(per_cpu)
            clients[name].append(client)
        floor.append(blocking_pipeline(server, PLAIN * count))
    await bench.redis.close()
    return [
        row("bind", "binds/server-CPU-s", servers["bind"], "set", servers["set"], 0),
        row("route", "claims/server-CPU-s", servers["route"], "get", servers["get"], 0),
        row("redis-client", "us client CPU/op at 32", clients["get"], "blocking hiredis pipeline", floor),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a bind, a route and a client call.")
    parser.add_argument("--count", type=int, default=10_000, help="binds a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--server", choices=["embedded", "system"], default="embedded")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary:
        server = RedisServer(Path(temporary), asked.server)
        server.start()
        try:
            found = asyncio.run(rows(server, Path(temporary), asked.count, asked.runs))
        finally:
            server.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
