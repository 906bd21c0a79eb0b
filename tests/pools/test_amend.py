"""Changing who of a live holder dials what: another person, another number, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest

from pools.amendments import NOWHERE, Amending
from pools.grants import Amended, Ask, Bound, Drop, End, Entry, Exhausted, Lease, Take, Tight, holder_id, secret
from pools.leases import Step
from pools.redis import Unavailable
from tests.pools.world import QUARANTINE, START, TTL, World, one, pair

TARGETS = ["par_an|par_binh", "par_binh|par_an", "par_an|par_chi", "par_chi|par_an"]
SWAPPED = ["par_an|par_chi", *TARGETS[1:]]
SWAP: list[Step] = [End(1), Take(1, 3, "chi")]
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
    assert await amend(world, bound.holder, SWAP, SWAPPED) == bound.numbers
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
    assert await amend(world, bound.holder, SWAP, SWAPPED) == "taken"
    assert await world.snapshot() == before


async def test_a_new_number_stands_beside_or_in_the_place_of_one(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"))
    numbers = await amend(world, bound.holder, [End(1), Lease(1, ((3, "chi"),))], SWAPPED)
    assert len(numbers) == 2 and numbers[0] == bound.numbers[0] != numbers[1]
    assert (await world.call(numbers[1], "chi")).target == "par_an"
    assert (await world.call(numbers[0], "chi")).decision == "no_binding"
    entries = await world.leases.journal(bound.holder)
    assert entries[0].data == f'{{"numbers":"{numbers[0]} {numbers[1]}"}}'.encode()
    again = await amend(world, bound.holder, [End(0, 5000), Lease(0, ((2, "an"),))], SWAPPED)
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
    assert await amend(world, bound.holder, SWAP, SWAPPED) == "ended"
    await world.leases.release(bound.holder, reason="api")
    assert await amend(world, bound.holder, SWAP, SWAPPED) == "ended"
    assert await amend(world, holder_id(shard, bytes(17)), SWAP, SWAPPED) == "ended"


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
    await amend(world, bound.holder, SWAP, SWAPPED)
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


class Border:
    """A holder with a per-party X in each of two shards: an dials x at home, binh dials y there."""

    def __init__(self, world: World, home: str, there: str, bound: Bound) -> None:
        self.world = world
        self.home = home
        self.there = there
        self.holder = bound.holder
        self.x, self.y = bound.numbers
        self.targets = ["par_an|par_chi", "par_binh|par_an", "par_chi|par_an"]  # chi is to come in binh's place

    @classmethod
    async def made(cls, world: World) -> Border:
        home, there = await world.pool(2), await world.pool(1, "RU", "+74951000")
        placed = [(home, one("an", "binh")), (there, one("binh", "an"))]
        holder = holder_id(home, bytes(17))
        bound = await world.leases.bind_across(
            holder, placed, ttl_ms=TTL, quarantine_ms=QUARANTINE, fields={"denied": ""}, events=[]
        )
        return cls(world, home, there, bound)

    async def swap(self, *steps: Step, rev: int = 1, home: Sequence[Step] = ()) -> Amended:
        return await self.world.leases.amend(
            self.holder, home, targets=self.targets, expect_rev=rev, fields={"denied": "par_binh|par_an"},
            events=[EVENT], elsewhere={self.there: steps or [End(1), Take(1, 2, "chi")]},
        )  # fmt: skip

    async def means(self, x: str, party: str) -> str:
        """Whom the party reaches over x; or what it meets."""
        route = await self.world.call(x, party)
        if route.decision != "routed":
            return route.decision
        await self.world.leases.append(self.holder, [], end_call=f"call{self.world._calls}")
        return route.target


async def test_over_two_shards_another_person_takes_over_in_one_decision(world: World) -> None:
    border = await Border.made(world)
    whole = await world.leases.read_whole(border.holder)
    assert whole is not None and {grant.shard for grant in whole.grants} == {"", border.there}
    told = await border.swap()
    assert told == Amended(outcome="amended", numbers=(border.x, border.y))
    found = [await border.means(border.y, party) for party in ("chi", "binh")]
    assert (found, await border.means(border.x, "an")) == (["par_an", "ended"], "par_chi")
    assert await world.events(border.holder) == ["session.updated", *["call.initiated"] * 1, "call.refused",
        "call.initiated"]  # fmt: skip
    await world.leases.release(border.holder, reason="api")
    assert await border.means(border.y, "chi") == "ended"
    alone = await world.bind(border.home, pair("an", "binh"))
    assert (await world.leases.read_whole(alone.holder)) == await world.leases.read(alone.holder)
    assert await world.leases.read_whole(holder_id(border.home, bytes(range(17)))) is None


async def test_over_two_shards_a_new_number_of_each_has_its_slot(world: World) -> None:
    border = await Border.made(world)
    await world.pool(1, "RU", "+74952000")
    border.targets = ["par_an|par_binh", "par_binh|par_an", "par_an|par_binh", "par_binh|par_an"]
    home: list[Step] = [End(0, 5000), Lease(0, ((2, "an"),))]
    told = await border.swap(End(1, 5000), Lease(1, ((3, "binh"),)), home=home)
    x, y = told.numbers
    assert x != border.x and y != border.y and y.startswith("+7")
    for after in (0, 5000):
        await world.later(after)
        assert await border.means(border.x, "an") == ("ended" if after else "par_binh")
        assert (await border.means(x, "an"), await border.means(y, "binh")) == ("par_binh", "direction")


@pytest.mark.parametrize("why", ["taken", "exhausted", "conflict", "ended", "decided"])
async def test_over_two_shards_a_no_of_any_leaves_all_as_it_was(world: World, why: str) -> None:
    border = await Border.made(world)
    rev, home, outcome = 1, list[Step](), why
    if why in ("taken", "exhausted"):
        await world.bind(border.there, one("chi", "dung"))
    if why == "conflict":
        rev = 7
    if why == "ended":
        await world.leases.release(border.holder, reason="api")
    if why == "decided":  # its own shard has no X for a step of its own
        await world.bind(border.home, pair("an", "em"))
        home, outcome = [Lease(0, ((0, "an"),))], "exhausted"
    elsewhere: list[Step] = [Lease(1, ((2, "chi"),))] if why == "exhausted" else []
    try:
        told = (await border.swap(*elsewhere, rev=rev, home=home)).outcome
    except Exhausted:
        told = "exhausted"  # type: ignore[assignment]
    assert told == outcome
    ended = why == "ended"
    assert await border.means(border.y, "binh") == ("ended" if ended else "par_an")
    assert await border.means(border.y, "chi") in ("no_binding", "par_dung")
    assert await border.means(border.x, "an") == ("ended" if ended else "par_binh")
    if why == "decided":  # what was given meanwhile has left no tombstone, so another try may have it
        assert (await border.swap(rev=2)).outcome == "amended"
        assert await border.means(border.y, "chi") == "par_an"


async def test_who_dies_before_the_decision_leaves_an_entry_that_means_nobody_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    border = await Border.made(world)
    at_home, calls = Amending.at_home, count()

    async def dies(self: Amending, *words: Any) -> Amended:
        if next(calls) == 1:
            raise Unavailable("died")
        return await at_home(self, *words)

    monkeypatch.setattr(Amending, "at_home", dies)
    with pytest.raises(Unavailable):
        await border.swap()
    assert await border.means(border.y, "chi") == "no_binding"
    assert await border.means(border.y, "binh") == "par_an"
    border.targets = ["par_an|par_binh", "par_binh|par_an", NOWHERE, "par_em|par_an"]
    told = await border.swap(Take(1, 3, "em"), rev=2)
    assert told.outcome == "amended"
    assert (await border.means(border.y, "em"), await border.means(border.y, "chi")) == ("par_an", "no_binding")


async def test_a_holder_leases_in_a_shard_where_it_had_nothing(world: World) -> None:
    home, there = await world.pool(1), await world.pool(1, "RU", "+74951000")
    bound = await world.bind(home)
    targets = ["par_an|par_binh", "par_binh|par_an"]

    async def leased(party: str, ordinal: int, rev: int, elsewhere: bool) -> Amended:
        lease: list[Step] = [Lease(ordinal, ((ordinal, party),))]
        return await world.leases.amend(
            bound.holder, [] if elsewhere else lease, targets=targets[: ordinal + 1], expect_rev=rev, fields={},
            events=[EVENT], elsewhere={there: lease} if elsewhere else None,
        )  # fmt: skip

    assert (await leased("an", 0, 1, True)).numbers[0].startswith("+7")
    x, y = (await leased("binh", 1, 3, False)).numbers
    whole = await world.leases.read_whole(bound.holder)
    assert whole is not None and whole.shards == (there,) and whole.numbers == (x, y)
    assert (await world.call(x, "an")).target == "par_binh" and (await world.call(y, "binh")).target == "par_an"
    await world.leases.extend(bound.holder, ttl_ms=2 * TTL)
    await world.later(TTL)
    assert (await world.call(x, "an")).decision == "routed"
    await world.leases.release(bound.holder, reason="api")
    assert (await world.call(x, "an")).decision == "ended"
    await world.later(QUARANTINE)
    again = await world.bind(home)
    taken = await world.bind(there, one("an", "chi"))
    assert (await world.call(taken.numbers[0], "an")).holder == taken.holder
    with pytest.raises(Exhausted):
        await world.leases.amend(
            again.holder, [], targets=targets, expect_rev=1, fields={}, events=[],
            elsewhere={there: [Lease(0, ((0, "an"),))]},
        )  # fmt: skip
    unheard = await world.leases.amend(
        holder_id(home, bytes(17)), [], targets=targets, expect_rev=1, fields={}, events=[],
        elsewhere={there: [Lease(0, ((0, "an"),))]},
    )  # fmt: skip
    assert unheard.outcome == "ended"


async def test_an_amendment_says_how_near_its_shard_came_to_its_end(world: World) -> None:
    home, there = await world.pool(4), await world.pool(1, "RU", "+74951000")
    for _ in range(2):
        await world.bind(home, one("an", "binh"))
    bound = await world.bind(home)
    told = await world.leases.amend(
        bound.holder, [Lease(0, ((0, "an"),))], targets=TARGETS[:1], expect_rev=1, fields={}, events=[]
    )
    assert told.tight == Tight(home, 3, 4)
    told = await world.leases.amend(
        bound.holder, [], targets=TARGETS[:2], expect_rev=2, fields={}, events=[],
        elsewhere={there: [Lease(1, ((1, "binh"),))]},
    )  # fmt: skip
    assert told.tight == Tight(there, 1, 1) and told.tight.part == 1.0
