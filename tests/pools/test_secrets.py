"""What a caller keys in instead of being known: which secrets live on an X together, and for how long."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from pools.grants import Ask, Bound, Entry, Exhausted, holder_id, secret
from tests.pools.world import QUARANTINE, TTL, World


def guarded(digits: int, first: str, second: str, *keyed: str) -> Ask:
    """A shared X on which each side is also reached by whoever keys its secret."""
    ways = (f"par_{first}|par_{second}", f"par_{second}|par_{first}")
    people = tuple(Entry(party, way) for party, way in zip((first, second), ways, strict=True))
    return Ask(people + tuple(Entry(secret(digits, one), way) for one, way in zip(keyed, ways, strict=False)))


async def bind(world: World, shard: str, digits: int, number: int, *keyed: str, ttl: int = TTL) -> Bound:
    """A binding between two people nobody else meets."""
    return await world.bind(shard, guarded(digits, f"a{number}", f"b{number}", *keyed), ttl=ttl)


async def test_whoever_keys_a_secret_is_who_it_was_given_to(world: World) -> None:
    shard = await world.pool(2)
    bound = await bind(world, shard, 8, 1, "one", "two")
    first, second = [await world.call(bound.numbers[0], secret(8, key)) for key in ("one", "two")]
    assert (first.decision, first.source, first.target) == ("routed", "par_a1", "par_b1")
    assert (second.decision, second.source, second.target) == ("routed", "par_b1", "par_a1")
    assert (await world.call(bound.numbers[0], secret(8, "three"))).decision == "no_binding"
    assert (await world.call(bound.numbers[0], secret(9, "one"))).decision == "no_binding"


async def test_the_same_secret_takes_another_number_until_its_tombstone_has_gone(world: World) -> None:
    shard = await world.pool(2)
    first = await bind(world, shard, 8, 1, "same", "x1")
    second = await bind(world, shard, 8, 2, "same", "x2")
    assert first.numbers != second.numbers
    with pytest.raises(Exhausted):
        await bind(world, shard, 8, 3, "same", "x3")
    await world.leases.release(first.holder, reason="api")
    with pytest.raises(Exhausted):
        await bind(world, shard, 8, 3, "same", "x3")
    await world.later(QUARANTINE + 1)
    assert (await bind(world, shard, 8, 3, "same", "x3")).numbers == first.numbers


async def test_four_digits_live_alone_on_a_number(world: World) -> None:
    shard = await world.pool(2)
    held = [await bind(world, shard, 4, number, f"k{number}") for number in range(2)]
    assert held[0].numbers != held[1].numbers
    with pytest.raises(Exhausted):
        await bind(world, shard, 4, 2, "k2")
    assert await bind(world, shard, 5, 2, "k2"), "a longer one has room"
    await world.leases.release(held[0].holder, reason="api")
    assert (await bind(world, shard, 4, 3, "k3")).numbers == held[0].numbers


async def test_a_binding_that_is_extended_still_counts_and_one_that_lapsed_does_not(world: World) -> None:
    shard = await world.pool(1)
    held = await bind(world, shard, 4, 1, "k1", ttl=1000)
    await world.leases.extend(held.holder, ttl_ms=60_000)
    await world.later(30_000)
    with pytest.raises(Exhausted):
        await bind(world, shard, 4, 2, "k2")
    await world.later(31_000)
    assert await bind(world, shard, 4, 2, "k2")


async def test_a_pair_gets_its_last_number_again_with_other_secrets(world: World) -> None:
    shard = await world.pool(5)
    first = await world.bind(shard, guarded(4, "an", "binh", "k1"), quarantine=1000)
    await world.leases.release(first.holder, reason="api")
    await world.later(1001)
    again = await world.bind(shard, guarded(4, "an", "binh", "k2"), policy="prefer_sticky", quarantine=1000)
    assert again.numbers == first.numbers
    await world.leases.release(again.holder, reason="api")
    await world.later(1001)
    taken = [await bind(world, shard, 4, number, f"t{number}") for number in range(5)]
    assert first.numbers in [one.numbers for one in taken]
    away = next(one for one in taken if one.numbers != first.numbers)
    await world.leases.release(away.holder, reason="api")
    other = await world.bind(shard, guarded(4, "an", "binh", "k3"), policy="prefer_sticky", quarantine=1000)
    assert other.numbers != first.numbers, "another PIN of four digits lives there now"


async def test_secrets_of_one_binding_count_together(world: World) -> None:
    shard = await world.pool(1)
    with pytest.raises(Exhausted):
        await bind(world, shard, 4, 1, "k1", "k2")
    pairs = [guarded(5, f"a{number}", f"b{number}", f"k{number}", f"l{number}") for number in range(6)]
    with pytest.raises(Exhausted):
        await world.bind(shard, *pairs)
    assert await world.bind(shard, *pairs[:5])


async def test_who_is_bound_can_be_asked_without_a_trace(world: World) -> None:
    shard = await world.pool(1)
    held = await bind(world, shard, 8, 1, "one", "two")
    number, before = await world.number(held.numbers[0]), await world.snapshot()
    assert await world.leases.bound(number, secret(8, "two"), world.now) == (held.holder, 3)
    assert await world.leases.bound(number, "b1", world.now) == (held.holder, 1)
    assert await world.leases.bound(number, "nobody", world.now) is None
    assert await world.leases.bound(number, "b1", held.expires) is None
    assert await world.snapshot() == before


async def test_what_is_undone_makes_room_again(world: World) -> None:
    home, other = await world.pool(1), await world.pool(1, "RU", "+74950000")
    held = await world.bind(home, Ask((Entry("an", "par_an|par_binh"),)))
    holder = holder_id(home, os.urandom(17))
    away = Ask((Entry("binh", "par_binh|par_an"), Entry(secret(4, "k"), "par_binh|par_an")))
    with pytest.raises(Exhausted):  # the other shard gave its number before the holder's own had none
        await world.leases.bind_across(
            holder,
            [(home, Ask((Entry("an", "par_an|par_binh"),))), (other, away)],
            ttl_ms=TTL,
            quarantine_ms=QUARANTINE,
            fields={},
            events=[],
        )
    assert held.fresh and (await world.bind(other, away)).fresh


@pytest.mark.parametrize("seed", range(3))
async def test_no_number_ever_holds_a_secret_twice_or_more_than_one_in_ten_thousand(world: World, seed: int) -> None:
    dice = random.Random(seed)
    shard = await world.pool(3)
    living: dict[str, tuple[int, str, int, list[str]]] = {}  # holder -> end, X, digits, secrets
    for step in range(250):
        await world.later(dice.randrange(0, 400))
        living = {holder: one for holder, one in living.items() if one[0] > world.now}
        match dice.choice(["bind", "bind", "bind", "release", "extend"]):
            case "bind":
                digits, keyed = dice.choice([4, 5]), dice.sample(range(40), 2)
                names = [f"s{one}" for one in keyed[: 1 if digits == 4 else 2]]
                try:
                    bound = await world.bind(
                        shard,
                        guarded(digits, f"a{step}", f"b{step}", *names),
                        ttl=dice.randrange(1, 20_000),
                        quarantine=0,
                    )
                except Exhausted:
                    counts = Counter((x, d) for _, x, d, held in living.values() for _ in held)
                    taken = Counter(x for _, x, d, held in living.values() if d == digits and set(held) & set(names))
                    numbers = {(await world.inventory.list("t", "default", limit=9))[n].number for n in range(3)}
                    for x in numbers:
                        assert taken[x] or counts[x, digits] + len(names) > 10 ** (digits - 4)
                    continue
                living[bound.holder] = (bound.expires, bound.numbers[0], digits, names)
            case "release" if living:
                holder = dice.choice(sorted(living))
                await world.leases.release(holder, reason="api")
                del living[holder]
            case "extend" if living:
                holder = dice.choice(sorted(living))
                extended = await world.leases.extend(holder, ttl_ms=dice.randrange(1, 20_000))
                living[holder] = (extended.expires, *living[holder][1:])
        each = Counter((x, digits, one) for _, x, digits, held in living.values() for one in held)
        assert max(each.values(), default=0) <= 1
        on = Counter((x, digits) for _, x, digits, held in living.values() for _ in held)
        assert all(count / 10**digits <= 1e-4 for (_, digits), count in on.items())
