"""Changing who of a live holder dials what: another person, another number, all of it or nothing."""

from __future__ import annotations

import pytest

from pools.grants import Ask, Drop, End, Entry, Exhausted, Lease, Retarget, Take, holder_id, secret
from pools.leases import Step
from tests.pools.world import QUARANTINE, START, TTL, World, pair

TARGETS = ["par_an|par_binh", "par_binh|par_an", "par_an|par_chi", "par_chi|par_an"]
SWAP: list[Step] = [Retarget(0, 2), End(1), Take(1, 3, "chi")]
EVENT = ("session.updated", None, b'{"numbers":"$x0 $x1"}')


async def amend(world: World, holder: str, steps: list[Step], targets: list[str] = TARGETS) -> tuple[str, ...] | str:
    known = await world.leases.read(holder)
    told = await world.leases.amend(
        holder, steps, targets=targets, expect_rev=known.rev if known else 1, fields={"record": b"new"}, events=[EVENT]
    )
    return told.numbers if told.outcome == "amended" else told.outcome


async def test_another_person_takes_over_the_number_and_the_one_before_has_a_tombstone(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    assert await amend(world, bound.holder, SWAP) == bound.numbers
    (x,) = bound.numbers
    called, calling, gone = await world.call(x, "an"), await world.call(x, "chi"), await world.call(x, "binh")
    assert (called.target, calling.source, calling.target) == ("par_chi", "par_chi", "par_an")
    assert (gone.decision, gone.source) == ("ended", "par_binh")
    assert await world.leases.release(bound.holder, reason="api")
    assert (await world.call(x, "chi")).decision == "ended"
    await world.later(QUARANTINE)
    assert {(await world.call(x, party)).decision for party in ("an", "binh", "chi")} == {"no_binding"}


async def test_a_person_who_holds_the_number_with_somebody_else_cannot_take_it(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    await world.bind(shard, pair("chi", "dung"))
    before = await world.snapshot()
    assert await amend(world, bound.holder, SWAP) == "taken"
    assert await world.snapshot() == before


async def test_a_new_number_stands_beside_or_in_the_place_of_one(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"))
    numbers = await amend(world, bound.holder, [Retarget(0, 2), End(1), Lease(1, ((3, "chi"),))])
    assert len(numbers) == 2 and numbers[0] == bound.numbers[0] != numbers[1]
    assert (await world.call(numbers[1], "chi")).target == "par_an"
    assert (await world.call(numbers[0], "chi")).decision == "no_binding"
    entries = await world.leases.journal(bound.holder)
    assert entries[0].data == f'{{"numbers":"{numbers[0]} {numbers[1]}"}}'.encode()
    again = await amend(world, bound.holder, [End(2, 5000), Lease(0, ((2, "an"),))])
    assert again[0] not in numbers
    assert (await world.call(numbers[0], "an")).decision == "routed", "both work for a while"
    assert (await world.call(again[0], "an")).decision == "routed"
    await world.later(5000)
    assert (await world.call(numbers[0], "an")).decision == "ended"
    assert (await world.call(again[0], "an")).decision == "routed"


async def test_without_a_free_number_nothing_changes(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    before = await world.snapshot()
    with pytest.raises(Exhausted) as caught:
        await amend(world, bound.holder, [End(0), Lease(0, ((0, "an"),))])
    assert (caught.value.needed, caught.value.retry_after) == (1, (TTL + QUARANTINE) / 1000)
    assert await world.snapshot() == before
    empty = await world.bind(shard, pair("chi", "dung"))
    await world.redis.command("HSET", "{" + shard + "}h", "open", "")
    with pytest.raises(Exhausted) as caught:
        await amend(world, empty.holder, [Lease(1, ((0, "chi"),))])
    assert caught.value.retry_after is None


async def test_two_leases_of_one_amendment_are_two_numbers(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"))
    numbers = await amend(world, bound.holder, [Lease(1, ((2, "chi"),)), Lease(2, ((3, "chi"),))])
    assert len(set(numbers)) == 3


async def test_what_has_ended_or_changed_meanwhile_is_not_amended(world: World) -> None:
    shard = await world.pool(2)
    bound = await world.bind(shard, pair("an", "binh"))
    told = await world.leases.amend(bound.holder, SWAP, targets=TARGETS, expect_rev=7, fields={}, events=[])
    assert told.outcome == "conflict"
    await world.at(START + TTL)
    assert await amend(world, bound.holder, SWAP) == "ended"
    await world.leases.release(bound.holder, reason="api")
    assert await amend(world, bound.holder, SWAP) == "ended"
    assert await amend(world, holder_id(shard, bytes(17)), SWAP) == "ended"


async def test_a_secret_goes_with_its_person(world: World) -> None:
    shard = await world.pool(2)
    old, new = secret(4, "old"), secret(4, "new")
    bound = await world.bind(shard, Ask((Entry("an", "a|b"), Entry(old, "a|b"))))
    steps: list[Step] = [End(0), End(1), Take(0, 2, "chi"), Take(1, 2, new)]
    assert await amend(world, bound.holder, steps, ["a|b", "a|b", "c|b"]) == bound.numbers
    assert (await world.call(bound.numbers[0], new)).source == "c"
    assert (await world.call(bound.numbers[0], old)).decision == "ended"
    assert await world.redis.command("ZRANGE", "{" + shard + "}k:1:4", 0, -1) in ([new.encode()], [])
    other = await world.bind(shard, Ask((Entry("an", "a|b"), Entry(secret(4, "x"), "a|b"))))
    assert other.numbers != bound.numbers, "of four digits one lives on a number"
    with pytest.raises(Exhausted):
        await amend(world, other.holder, [Lease(1, ((0, secret(4, "y")),))], ["a|b", "a|b"])


async def test_without_quarantine_the_one_before_leaves_nothing(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"), quarantine=0)
    await amend(world, bound.holder, SWAP)
    assert (await world.call(bound.numbers[0], "binh")).decision == "no_binding"


@pytest.mark.parametrize(("party", "target"), [("a b", "a|b"), ("an", "a b")])
async def test_what_would_corrupt_an_entry_is_refused(world: World, party: str, target: str) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, pair("an", "binh"))
    with pytest.raises(ValueError):
        await amend(world, bound.holder, [Take(0, 2, party)], [*TARGETS[:2], target])


async def test_people_come_and_go_one_by_one(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard)
    assert bound.numbers == ()
    await amend(world, bound.holder, [Lease(0, ((0, "an"),))], TARGETS[:1])
    x, y = tuple(await amend(world, bound.holder, [Lease(1, ((1, "binh"),))], TARGETS[:2]))
    assert (await world.call(x, "an")).target == "par_binh" and (await world.call(y, "binh")).target == "par_an"
    assert await amend(world, bound.holder, [End(0), Drop(0)], TARGETS[:2]) == (y,)
    assert (await world.call(x, "an")).decision == "ended"
    assert (await world.call(y, "binh")).decision == "routed"


async def test_a_number_that_is_wished_for_is_given_or_the_amendment_is_none(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard)
    number = (await world.inventory.list("t", "default"))[2]
    await world.inventory.set_state("t", "default", number.number, "draining")
    wish = Lease(0, ((0, "an"),), wish=number.position)
    assert await amend(world, bound.holder, [wish], TARGETS[:1]) == (number.number,)
    other = await world.bind(shard)
    before = await world.snapshot()
    assert await amend(world, other.holder, [wish], TARGETS[:1]) == "taken"
    assert await world.snapshot() == before


async def test_a_person_who_sticks_gets_the_number_they_had_last(world: World) -> None:
    shard = await world.pool(5)
    stays = Lease(0, ((0, "an"),), wish="sticky")
    had: list[str] = []
    for _ in range(3):
        bound = await world.bind(shard)
        had += await amend(world, bound.holder, [stays], TARGETS[:1])
        await world.leases.release(bound.holder, reason="api")
        await world.later(QUARANTINE)
    assert len(set(had)) == 1
    held = await world.bind(shard)
    await amend(world, held.holder, [stays], TARGETS[:1])
    beside = await world.bind(shard)
    assert await amend(world, beside.holder, [stays], TARGETS[:1]) != (had[0],), "another one while it is held"
