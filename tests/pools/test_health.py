"""Numbers that ail: counted over a sliding span, passed over while others are free, and never missing."""

from __future__ import annotations

import pytest

from pools.grants import Exhausted, Lease, Policy
from pools.health import Health, Limits, Standing, Tally
from pools.redis import Redis
from tests.pools.world import SCRIPTS, World, pair

DAY = 86_400_000
LIMITS = Limits(DAY, enough=10, answered=0.2, short=0.5, reports=3)
POOR = Tally(calls=10, answered=1)


@pytest.fixture
async def health(redis: Redis, world: World) -> Health:
    return Health(redis, SCRIPTS)


async def given(world: World, shard: str, *people: str, policy: Policy = "avoid_sticky") -> int:
    """The position that a session of these people got."""
    bound = await world.bind(shard, pair(*people), policy=policy)
    return int(bound.numbers[0][-4:])


async def test_a_number_is_judged_by_what_its_calls_came_to(world: World, health: Health) -> None:
    shard = await world.pool(8)
    assert await health.count(shard, {0: Tally(9, 0), 1: Tally(9, 9, 9), 2: Tally(reports=2)}, LIMITS) == []
    judged = await health.count(
        shard, {0: Tally(1), 1: Tally(1, 1, 0), 2: Tally(reports=1), 3: Tally(10, 2, 2), 4: Tally(10, 10, 5)}, LIMITS
    )
    assert {one.position: one.ails for one in judged} == {0: ("unanswered",), 1: ("short_calls",), 2: ("reports",)}
    assert judged[0].tally == Tally(10, 0, 0, 0)
    assert await health.count(shard, {0: Tally(1), 1: Tally(20, 20, 0)}, LIMITS) != []
    assert await health.ailing(shard) == {0: ("unanswered",), 2: ("reports",)}
    assert await health.count(shard, {3: Tally(1) + Tally(reports=9)}, Limits(DAY, 10, 0.0, 1.0, 0)) == [], "no limit"


async def test_new_leases_pass_an_ailing_number_over_while_another_is_free(world: World, health: Health) -> None:
    shard = await world.pool(3)
    await health.count(shard, {0: POOR, 1: POOR}, LIMITS)
    for person in ("an", "binh", "chi"):
        assert await given(world, shard, person, person + "2") == 2
    assert sorted([await given(world, shard, "an", "dung"), await given(world, shard, "an", "em")]) == [0, 1]
    with pytest.raises(Exhausted):
        await given(world, shard, "an", "giang")
    figures = (await world.inventory.figures("t", "default", world.now))[0]
    assert (figures.open, figures.ailing) == (3, 2)
    await health.count(shard, {2: POOR}, LIMITS)
    assert {await given(world, shard, "x", f"x{place}") for place in range(3)} == {0, 1, 2}, "all ail: all are as good"
    assert (await world.inventory.figures("t", "default", world.now))[0].ailing == 0


async def test_what_two_people_had_last_is_not_kept_for_them_while_it_ails(world: World, health: Health) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"), quarantine=0)
    had = int(bound.numbers[0][-4:])
    await world.leases.release(bound.holder, reason="api")
    await world.bind(shard, pair("an", "binh"), quarantine=0, policy="prefer_sticky", ttl=1)
    await world.later(2)
    await health.count(shard, {had: POOR}, LIMITS)
    assert await given(world, shard, "an", "binh", policy="prefer_sticky") != had


async def test_a_number_that_is_replaced_gives_way_to_one_that_does_well(world: World, health: Health) -> None:
    shard = await world.pool(4)
    bound = await world.bind(shard, pair("an", "binh"))
    await health.count(shard, {1: POOR, 2: POOR}, LIMITS)
    targets = ["par_an|par_binh", "par_binh|par_an"]
    got = []
    for slot in (1, 2):
        step = Lease(slot, ((2 * slot, "an"), (2 * slot + 1, "binh")))
        amended = await world.leases.amend(
            bound.holder, [step], targets=targets * (slot + 1), expect_rev=slot, fields={}, events=()
        )
        got.append(int(amended.numbers[slot][-4:]))
    assert got[0] == 3 and got[1] in (1, 2)


async def test_time_makes_a_number_well_that_nobody_calls_on(world: World, health: Health) -> None:
    shard = await world.pool(2)
    await health.count(shard, {0: POOR}, LIMITS)
    await world.later(DAY + DAY // 2)
    (judged,) = await health.review(shard, LIMITS)
    assert (judged.position, judged.ails, judged.tally) == (0, (), Tally(5, 1))
    assert await health.review(shard, LIMITS) == []
    await health.count(shard, {0: Tally()}, LIMITS)
    await world.later(2 * DAY)
    await health.count(shard, {0: Tally()}, LIMITS)
    assert await world.redis.command("HLEN", f"{{{shard}}}fares") == 0, "nothing is kept of a number without calls"


async def test_a_silent_trunk_makes_its_numbers_ail_until_it_is_back(world: World, health: Health) -> None:
    shard = await world.pool(3)
    await health.silence(shard, [0, 2], True)
    await health.count(shard, {0: POOR}, LIMITS)
    assert await health.ailing(shard) == {0: ("trunk", "unanswered"), 2: ("trunk",)}
    assert await given(world, shard, "an", "binh") == 1
    await world.inventory.set_state("t", "default", "+842400000001", "draining")
    assert await given(world, shard, "an", "chi") in (0, 2), "the one that did well takes no new leases now"
    await world.inventory.set_state("t", "default", "+842400000001", "active")
    await health.silence(shard, [0, 2], False)
    assert await health.ailing(shard) == {0: ("unanswered",)}
    assert {await given(world, shard, "x", f"x{place}") for place in range(2)} == {1, 2}


async def test_how_a_number_fares_is_read_as_of_now(world: World, redis: Redis) -> None:
    shard = await world.pool(3)
    seconds, _ = await redis.command("TIME")
    now = int(seconds) * 1000
    await world.at(now - DAY // 2)
    health = Health(redis, SCRIPTS)
    await health.count(shard, {0: Tally(10, 8, 2, 1)}, LIMITS)
    young, none = await health.of(shard, [0, 1], DAY)
    assert (young.tally, young.ails, young.last) == (Tally(10, 8, 2, 1), (), now - DAY // 2)
    assert none == Standing()
    assert (await health.of(shard, [0], DAY // 3))[0].tally == Tally(5, 4, 1, 0), "half of the span before is past"
    assert (await health.of(shard, [0], DAY // 8))[0].tally == Tally()
