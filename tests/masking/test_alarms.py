"""A pool that comes near its end says so before it is there."""

from __future__ import annotations

import msgspec
import pytest

from masking import alarms, services, sessions
from masking.events import LOOSE_OUTBOX
from masking.refusals import NumberPoolExhausted
from masking.routes import Refusal
from pools.inventory import Item
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, World


async def told(world: World) -> list[tuple[str, dict[str, object]]]:
    rows = await world.house.redis.command("XRANGE", LOOSE_OUTBOX, "-", "+")
    facts = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in rows]
    return [(fact[b"type"].decode(), msgspec.json.decode(fact[b"data"])) for fact in facts]


async def test_a_shard_says_that_it_is_low_before_it_is_exhausted(world: World) -> None:
    await world.pool(5)
    for opened in range(1, 3):
        session = await world.open()
        assert await told(world) == [], f"{2 * opened - 1} of 5"
    shard = session.id[4:10]
    assert not await alarms.are_low(world.house, [shard])
    await world.open(CUSTOMER, MERCHANT)
    await world.open()
    [(kind, data)] = await told(world)
    assert (kind, data) == (
        "number.low", {"service": "default", "country": "VN", "shard": shard, "used": 6, "active": 5}
    )  # fmt: skip
    assert await alarms.are_low(world.house, [shard])
    await world.open()
    with pytest.raises(NumberPoolExhausted):
        await world.open(CUSTOMER, DRIVER)
    assert [kind for kind, _ in await told(world)] == ["number.low", "number.exhausted"]


async def test_it_is_told_again_when_the_hour_is_over(world: World) -> None:
    await world.pool(1)
    first = await world.open()
    assert len(await told(world)) == 1
    await world.open(MERCHANT, "+84903333333")
    assert len(await told(world)) == 1
    await world.house.redis.command("PEXPIRE", alarms.key(first.id[4:10]), 1)
    await world.house.redis.command("DEL", alarms.key(first.id[4:10]))
    await world.open("+84904444444", "+84905555555")
    assert len(await told(world)) == 2


async def test_a_number_that_comes_back_still_rests_for_the_people_it_had(world: World) -> None:
    [number] = await world.pool(1)
    session = await world.open()
    await sessions.close(world.house, world.access, session.id)
    owner = (await services.get(world.house, "acme", "default")).id
    await world.house.inventory.set_state("acme", owner, number, "retired")
    await world.house.inventory.add("acme", owner, [Item(number, "VN", "carrier-vn")])
    refusal = await world.call(number, CUSTOMER)
    assert isinstance(refusal, Refusal) and refusal.decision == "ended", "never a stranger"
    with pytest.raises(NumberPoolExhausted):
        await world.open()
    await world.open(MERCHANT, "+84903333333")
    await world.later(1801)
    assert (await world.open()).participants[0].proxies[0].number == number


async def test_strangers_to_each_other_fill_no_pool(world: World) -> None:
    await world.pool(2)
    for place in range(20):
        await world.open(f"+849012300{place:02}", f"+849076500{place:02}")
    assert await told(world) == []
