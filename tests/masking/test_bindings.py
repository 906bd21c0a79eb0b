"""Many shards: where a session lives, and how far it is looked for a number."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from masking import bindings
from masking.bindings import SHARDS_TRIED
from masking.records import Line
from masking.refusals import GeoUnavailable, NumberPoolExhausted
from masking.services import default_id
from pools.grants import shard_of
from pools.inventory import SHARD_SIZE, Inventory, Item
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, World, numbers_of


async def test_sessions_spread_over_the_shards_and_no_pair_shares_a_number(world: World) -> None:
    await world.pool(SHARD_SIZE + 40)
    held: set[str] = set()
    homes: Counter[str] = Counter()
    for _ in range(60):
        session = await world.open()
        [number] = numbers_of(session)
        assert number not in held
        held.add(number)
        homes[shard_of(session.id)] += 1
    assert len(homes) == 2 and min(homes.values()) > 5


async def test_a_full_shard_sends_the_session_to_another(world: World) -> None:
    await world.pool(SHARD_SIZE + 3)
    opened = 0
    with pytest.raises(NumberPoolExhausted):
        for _ in itertools.count():
            await world.open()
            opened += 1
    assert opened == SHARD_SIZE + 3, "every number of both shards"


async def test_a_pool_that_another_process_adds_is_found_when_no_number_is_free(world: World) -> None:
    await world.pool(1)
    await world.open()
    elsewhere = Inventory(world.house.redis, world.house.keyring)
    service = default_id("acme")
    await elsewhere.add("acme", service, [Item("+84247100900", "VN", "carrier-vn")])
    assert numbers_of(await world.open()) == ["+84247100900"]
    with pytest.raises(GeoUnavailable):
        await world.open(CUSTOMER, MUSCOVITE, geo_match="strict")
    await elsewhere.add("acme", service, [Item("+74951000900", "RU", "carrier-ru")])
    session = await world.open(MERCHANT, MUSCOVITE, geo_match="strict")
    assert "+74951000900" in numbers_of(session)


def test_at_most_three_shards_are_tried() -> None:
    line = Line((("a", "b"), ("b", "a")))
    plan = bindings.Plan((line,), ("VN",))
    ground = bindings.Ground((lambda: plan,), {"VN": [f"shard{n}" for n in range(9)]}, "VN")
    assert len(list(ground.attempts())) == SHARDS_TRIED
    assert len(ground.holders("a" * 22)) == SHARDS_TRIED


async def test_a_failed_crossing_leaves_nothing_behind(world: World) -> None:
    await world.pool(1, "VN")
    await world.pool(1, "RU")
    await world.open(CUSTOMER, DRIVER)
    with pytest.raises(NumberPoolExhausted):
        await world.open(CUSTOMER, "+79161234567")
    session = await world.open("+84912345678", "+79161234567", pair_quarantine=0)
    assert len(numbers_of(session)) == 2, "the Russian number was given back"
