"""Leases in two shards for one holder: per-party X in two countries."""

from __future__ import annotations

import os

import pytest

from pools.grants import Ask, Bound, Exhausted, holder_id
from tests.pools.world import QUARANTINE, START, TTL, World, one, pair


async def two_pools(world: World, vietnam: int = 1, singapore: int = 1) -> tuple[str, str]:
    return await world.pool(vietnam), await world.pool(singapore, "SG", "+6531000")


async def across(world: World, holder: str, *placed: tuple[str, Ask]) -> Bound:
    events = [("session.opened", None, b'["$x0","$x1"]')]
    return await world.leases.bind_across(
        holder, placed, ttl_ms=TTL, quarantine_ms=QUARANTINE, fields={"max_calls": 1}, events=events
    )


async def test_each_side_dials_a_number_of_its_own_country(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    bound = await across(world, holder, (other, one("sam", "an")), (home, one("an", "sam")))
    foreign, own = bound.numbers
    assert foreign.startswith("+65") and own.startswith("+84")
    journal = await world.leases.journal(holder)
    assert journal[0].data == f'["{foreign}","{own}"]'.encode()
    out = await world.call(foreign, "sam", call="one")
    assert (out.decision, out.holder, out.source, out.target) == ("routed", holder, "par_sam", "par_an")
    assert (await world.call(own, "an", call="two")).decision == "limit", "both numbers count on one slot"
    await world.leases.append(holder, [], end_call="one")
    back = await world.call(own, "an")
    assert (back.decision, back.source, back.target) == ("routed", "par_an", "par_sam")
    assert await world.events(holder) == ["session.opened", "call.initiated", "call.refused", "call.initiated"]


async def test_the_same_holder_again_gets_what_it_has_in_both(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    placed = (home, one("an", "sam")), (other, one("sam", "an"))
    first = await across(world, holder, *placed)
    before = await world.snapshot()
    again = await across(world, holder, *placed)
    assert (first.numbers, first.fresh, again.numbers, again.fresh) == (first.numbers, True, first.numbers, False)
    assert await world.snapshot() == before


async def test_when_the_holders_shard_is_full_the_other_one_is_freed(world: World) -> None:
    home, other = await two_pools(world)
    await world.bind(home, pair("an", "binh"))
    with pytest.raises(Exhausted) as refusal:
        await across(world, holder_id(home, os.urandom(17)), (home, one("an", "sam")), (other, one("sam", "an")))
    assert refusal.value.shard == home
    assert await world.redis.command("EXISTS", "{" + other + "}p:sam", "{" + other + "}due") == 0
    assert await world.redis.command("KEYS", "{" + other + "}s:*") == []


async def test_when_the_other_shard_is_full_nothing_is_written(world: World) -> None:
    home, other = await two_pools(world)
    await world.bind(other, pair("sam", "tan"))
    before = await world.snapshot()
    with pytest.raises(Exhausted) as refusal:
        await across(world, holder_id(home, os.urandom(17)), (home, one("an", "sam")), (other, one("sam", "an")))
    assert refusal.value.shard == other
    assert await world.snapshot() == before


async def test_extend_and_release_reach_every_shard(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    bound = await across(world, holder, (home, one("an", "sam")), (other, one("sam", "an")))
    later = START + 3 * TTL
    assert (await world.leases.extend(holder, expires=later)).outcome == "extended"
    await world.at(later - 1)
    assert (await world.call(bound.numbers[1], "sam", call="one")).decision == "routed"
    await world.leases.append(holder, [], end_call="one")
    assert (await world.leases.release(holder, reason="api")).outcome == "released"
    for number, caller in zip(bound.numbers, ["an", "sam"], strict=True):
        assert (await world.call(number, caller)).decision == "ended"
    await world.later(QUARANTINE)
    for number, caller in zip(bound.numbers, ["an", "sam"], strict=True):
        assert (await world.call(number, caller)).decision == "no_binding"


async def test_an_extension_that_reached_one_shard_alone_is_finished_by_the_next(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    bound = await across(world, holder, (home, one("an", "sam")), (other, one("sam", "an")))
    record = "{" + other + "}s:" + holder
    life = await world.redis.command("PTTL", record)
    await world.redis.command("HSET", "{" + home + "}s:" + holder, "expires", START + 3 * TTL)
    await world.at(START + TTL)
    assert (await world.call(bound.numbers[1], "sam")).decision == "ended"
    assert (await world.leases.extend(holder, expires=START + 4 * TTL)).outcome == "extended"
    assert (await world.call(bound.numbers[1], "sam")).decision == "routed"
    assert await world.redis.command("PTTL", record) > life


async def test_a_binding_made_shorter_at_home_is_shorter_everywhere(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    bound = await across(world, holder, (home, one("an", "sam")), (other, one("sam", "an")))
    await world.redis.command("HSET", "{" + home + "}s:" + holder, "expires", START + 10)
    await world.at(START + 10)
    assert (await world.call(bound.numbers[1], "sam")).decision == "ended", "its own shard was not reached"


async def test_a_holder_that_is_closed_at_home_is_closed_everywhere(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    bound = await across(world, holder, (home, one("an", "sam")), (other, one("sam", "an")))
    await world.redis.command("HSET", "{" + home + "}s:" + holder, "status", "closed")
    assert (await world.call(bound.numbers[1], "sam")).decision == "ended"
    await world.leases.release(holder, reason="api")
    entry = await world.redis.command("HGET", "{" + other + "}p:sam", 0)
    assert entry.startswith(str(START).encode()), "a repeated release finishes what the first one left"


async def test_a_lease_whose_holder_never_came_to_be_is_taken_back(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    await across(world, holder, (home, one("an", "sam")), (other, one("sam", "an")))
    await world.redis.command("DEL", "{" + home + "}s:" + holder)
    found = await world.inventory.find("+65310000000")
    assert found is not None
    assert (await world.call(found.number, "sam")).decision == "no_binding", "nobody is routed to half a binding"
    assert await world.leases.due(other, START + 59_999) == []
    assert await world.redis.command("EXISTS", "{" + other + "}p:sam") == 1
    assert await world.leases.due(other, START + 60_000) == []
    assert await world.redis.command("EXISTS", "{" + other + "}p:sam") == 0
    await world.bind(other, pair("sam", "tan"))


async def test_a_lease_whose_holder_lives_waits_for_its_end(world: World) -> None:
    home, other = await two_pools(world)
    holder = holder_id(home, os.urandom(17))
    await across(world, holder, (home, one("an", "sam")), (other, one("sam", "an")))
    mark = "~" + holder
    assert await world.leases.due(other, START + 60_000) == []
    assert await world.redis.command("ZSCORE", "{" + other + "}due", mark) == str(START + TTL).encode()
    await world.redis.command("HSET", "{" + home + "}s:" + holder, "status", "closed")
    assert await world.leases.due(other, START + TTL) == []
    assert await world.redis.command("ZSCORE", "{" + other + "}due", mark) is None
    entry = await world.redis.command("HGET", "{" + other + "}p:sam", 0)
    assert entry.startswith(str(START).encode()), "released there too"
