"""An ended holder gets its leases again while its tombstones stand, and never later."""

from __future__ import annotations

import pytest

from pools.grants import Ask, Entry, Reopened, holder_id, secret
from tests.pools.world import QUARANTINE, START, TTL, World, one, pair

EVENT = ("session.reopened", None, b"{}")


async def test_a_reopened_holder_has_its_numbers_and_its_people_again(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"), fields={"record": b"{}"})
    await world.leases.release(bound.holder, reason="api")
    await world.later(QUARANTINE - 1)
    ends = world.now + TTL
    again = await world.leases.reopen(bound.holder, expires=ends, events=[EVENT], fields={"record": b"new"})
    assert again == Reopened("reopened", ends, seq=1)
    holder = await world.leases.read(bound.holder)
    assert holder is not None
    assert (holder.status, holder.reason, holder.expires, holder.numbers) == ("open", "", ends, bound.numbers)
    assert (holder.until, holder.rev, holder.fields) == (ends + QUARANTINE, 2, {"record": b"new"})
    assert (await world.call(bound.numbers[0], "an")).decision == "routed"
    assert await world.redis.command("PTTL", "{" + shard + "}s:" + bound.holder) == -1, (
        "an open holder is not forgotten"
    )
    assert await world.redis.command("PTTL", "{" + shard + "}e:" + bound.holder) == -1
    assert await world.leases.due(shard, ends) == [bound.holder]
    await world.at(ends)
    assert (await world.call(bound.numbers[0], "an")).decision == "ended"


async def test_after_the_quarantine_nothing_is_reopened_and_nothing_written(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.leases.release(bound.holder, reason="api")
    await world.later(QUARANTINE)
    stranger = await world.bind(shard, pair("an", "chi"))
    before = await world.snapshot()
    assert (await world.leases.reopen(bound.holder, expires=world.now + TTL)).outcome == "rested"
    assert await world.snapshot() == before
    assert (await world.call(stranger.numbers[0], "an")).holder == stranger.holder


async def test_a_tombstone_that_is_not_the_holders_any_more_is_not_revived(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.leases.release(bound.holder, reason="api")
    await world.redis.command("DEL", "{" + shard + "}p:binh")
    assert (await world.leases.reopen(bound.holder, expires=world.now + TTL)).outcome == "rested"


async def test_an_open_holder_stays_as_it_is_and_an_unknown_one_is_gone(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    assert await world.leases.reopen(bound.holder, expires=START + 9 * TTL) == Reopened("open", START + TTL, 0)
    assert await world.leases.reopen(holder_id(shard, bytes(17)), expires=START) == Reopened("gone", 0, 0)


async def test_a_holder_that_lapsed_by_itself_is_reopened_too(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.later(TTL)
    assert (await world.leases.reopen(bound.holder, expires=world.now + 5)).outcome == "reopened"
    await world.later(5)
    assert await world.leases.due(shard, world.now) == [bound.holder]


async def test_a_secret_comes_back_only_where_there_is_room_for_it(world: World) -> None:
    shard = await world.pool(1)
    keyed = Ask((Entry("an", "a|b"), Entry(secret(4, "one"), "a|b")))  # of four digits one lives on a number
    bound = await world.bind(shard, keyed)
    await world.leases.release(bound.holder, reason="api")
    other = await world.bind(shard, Ask((Entry("chi", "c|d"), Entry(secret(4, "two"), "c|d"))))
    assert (await world.leases.reopen(bound.holder, expires=world.now + TTL)).outcome == "crowded"
    await world.leases.release(other.holder, reason="api")
    assert (await world.leases.reopen(bound.holder, expires=world.now + TTL)).outcome == "reopened"
    assert (await world.call(bound.numbers[0], secret(4, "one"))).decision == "routed"


async def across(world: World) -> tuple[str, str, str, tuple[str, ...]]:
    home, other = await world.pool(2), await world.pool(2, "RU", "+74950000")
    holder = holder_id(home, b"x" * 17)
    asks = [(home, one("an", "binh")), (other, one("binh", "an"))]
    bound = await world.leases.bind_across(holder, asks, ttl_ms=TTL, quarantine_ms=QUARANTINE, fields={}, events=[])
    await world.leases.release(holder, reason="api")
    return home, other, holder, bound.numbers


async def test_leases_in_two_shards_come_back_together(world: World) -> None:
    _, _, holder, (x, y) = await across(world)
    assert (await world.leases.reopen(holder, expires=world.now + TTL)).outcome == "reopened"
    assert (await world.call(x, "an")).target == "par_binh"
    assert (await world.call(y, "binh")).target == "par_an"


@pytest.mark.parametrize("lost", [0, 1])
async def test_leases_in_two_shards_come_back_together_or_not_at_all(world: World, lost: int) -> None:
    home, other, holder, (x, y) = await across(world)
    shard, party = ((home, "an"), (other, "binh"))[lost]
    await world.redis.command("DEL", "{" + shard + "}p:" + party)
    assert (await world.leases.reopen(holder, expires=world.now + TTL)).outcome == "rested"
    decisions = {(await world.call(x, "an")).decision, (await world.call(y, "binh")).decision}
    assert decisions == {"ended", "no_binding"}
    await world.later(QUARANTINE)
    assert (await world.call(y, "binh")).decision == "no_binding", "what was revived has ended again"
