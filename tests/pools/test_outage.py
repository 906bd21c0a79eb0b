"""Leases while Redis stops, stalls and dies: told within the budget, and nothing half-written."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pools.grants import Bound, holder_id
from pools.inventory import Inventory, Item
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis, Unavailable
from tests.conftest import redis_kind
from tests.pools.world import INITIATED, REFUSED, TTL, pair
from tests.redis_server import RedisServer

OPENED = ("session.opened", None, b"{}")


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, with an append-only file."""
    server = RedisServer(tmp_path, redis_kind(), durable=True)
    server.start()
    yield server
    server.stop()


async def bind(leases: Leases, shard: str, holder: str, *parties: str) -> Bound:
    ask = pair(*parties)
    return await leases.bind(shard, holder, [ask], ttl_ms=TTL, quarantine_ms=1000, fields={}, events=[OPENED])


async def test_a_bind_into_a_stalled_redis_fails_in_time_and_happens_once_or_never(
    durable: RedisServer, keyring: Keyring
) -> None:
    redis = Redis(durable.url, budget=0.4)
    number = (await Inventory(redis, keyring).add("t", "s", [Item("+842400000000", "VN")]))[0]
    leases = Leases(redis)
    holders = [holder_id(number.shard, os.urandom(17)) for _ in range(8)]
    durable.pause()
    started = time.monotonic()
    results = await asyncio.gather(
        *(bind(leases, number.shard, holder, f"a{n}", f"b{n}") for n, holder in enumerate(holders)),
        return_exceptions=True,
    )
    assert all(isinstance(result, Unavailable) for result in results)
    assert time.monotonic() - started < 0.8
    durable.resume()
    patient = Leases(Redis(durable.url, budget=5))
    for n, holder in enumerate(holders):
        bound = await bind(patient, number.shard, holder, f"a{n}", f"b{n}")
        assert bound.numbers == (number.number,)
        assert [entry.type for entry in await patient.journal(holder)] == ["session.opened"]
    outbox = await patient.outbox(number.shard)
    assert sorted(entry.holder for entry in outbox) == sorted(holders)
    route = await patient.route(number, "a3", "call", "edge", b"", INITIATED, REFUSED)
    assert route.holder == holders[3]
    await patient._redis.close()
    await redis.close()


async def test_what_was_acknowledged_is_back_after_kill_9(durable: RedisServer, keyring: Keyring) -> None:
    redis = Redis(durable.url, budget=5)
    inventory, leases = Inventory(redis, keyring), Leases(redis)
    numbers = await inventory.add("t", "s", [Item(f"+84240000000{n}", "VN") for n in range(2)])
    shard = numbers[0].shard
    acknowledged: dict[str, Bound] = {}

    async def creator(name: int) -> None:
        for turn in range(1000):
            holder = holder_id(shard, os.urandom(17))
            acknowledged[holder] = await bind(leases, shard, holder, f"a{name}_{turn}", f"b{name}_{turn}")

    creators = [asyncio.create_task(creator(name)) for name in range(8)]
    while len(acknowledged) < 200 and not any(task.done() for task in creators):
        await asyncio.sleep(0.005)
    durable.kill()
    outcomes = await asyncio.gather(*creators, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    durable.start()
    for holder, bound in acknowledged.items():
        found = await leases.read(holder)
        assert found is not None
        assert (found.numbers, found.expires, found.seq) == (bound.numbers, bound.expires, 1)
    await redis.close()
