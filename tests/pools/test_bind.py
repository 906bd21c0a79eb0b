"""Which X a binding gets, and what is written when it gets one."""

from __future__ import annotations

import os

import pytest

from pools.grants import Ask, Entry, Exhausted, Tight, holder_id, shard_of
from tests.pools.world import QUARANTINE, START, TTL, World, one, pair


async def test_both_sides_of_a_shared_number_reach_each_other(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"), fields={"record": b"{}"})
    assert bound.fresh and bound.status == "open" and bound.expires == START + TTL and bound.rev == 1
    there = await world.call(bound.numbers[0], "an")
    back = await world.call(bound.numbers[0], "binh")
    assert (there.decision, there.source, there.target) == ("routed", "par_an", "par_binh")
    assert (back.decision, back.source, back.target) == ("routed", "par_binh", "par_an")
    assert there.holder == bound.holder
    assert there.fields == {"record": b"{}"}


async def test_the_opening_events_name_the_numbers_and_are_in_the_outbox_too(world: World) -> None:
    shard = await world.pool(3)
    events = [("session.opened", None, b'{"all":["$x0","$x1"],"price":"$5 $y0"}'), ("number.leased", START - 5, b"{}")]
    bound = await world.bind(shard, pair("an", "binh"), pair("an", "chi"), events=events)
    first, second = bound.numbers
    journal = await world.leases.journal(bound.holder)
    assert [(entry.seq, entry.type, entry.at) for entry in journal] == [
        (1, "session.opened", START),
        (2, "number.leased", START - 5),
    ]
    assert journal[0].data == f'{{"all":["{first}","{second}"],"price":"$5 $y0"}}'.encode()
    assert bound.seq == 2
    outbox = await world.leases.outbox(shard)
    assert [(entry.holder, entry.seq, entry.type, entry.data) for entry in outbox] == [
        (bound.holder, entry.seq, entry.type, entry.data) for entry in journal
    ]


async def test_the_same_holder_again_gets_what_it_has(world: World) -> None:
    shard = await world.pool(3)
    bound = await world.bind(shard, pair("an", "binh"), events=[("session.opened", None, b"{}")])
    before = await world.snapshot()
    await world.later(5)
    again = await world.bind(shard, pair("an", "binh"), holder=bound.holder, events=[("session.opened", None, b"{}")])
    assert not again.fresh
    assert (again.numbers, again.expires, again.seq) == (bound.numbers, bound.expires, bound.seq)
    assert await world.snapshot() == before


async def test_a_pair_with_two_bindings_holds_two_numbers(world: World) -> None:
    shard = await world.pool(3)
    numbers = [(await world.bind(shard, pair("an", "binh"))).numbers[0] for _ in range(3)]
    assert len(set(numbers)) == 3


async def test_strangers_to_each_other_share_a_number(world: World) -> None:
    shard = await world.pool(1)
    first = await world.bind(shard, pair("an", "binh"))
    second = await world.bind(shard, pair("chi", "dung"))
    assert first.numbers == second.numbers
    assert (await world.call(first.numbers[0], "an")).holder == first.holder
    assert (await world.call(first.numbers[0], "chi")).holder == second.holder
    assert (await world.call(first.numbers[0], "em")).decision == "no_binding"


async def test_one_common_party_keeps_two_bindings_apart(world: World) -> None:
    shard = await world.pool(2)
    first = await world.bind(shard, pair("an", "binh"))
    second = await world.bind(shard, pair("chi", "binh"))
    assert first.numbers != second.numbers


async def test_all_pairs_of_a_session_get_numbers_that_none_of_them_meets_twice(world: World) -> None:
    shard = await world.pool(8)
    people = ["an", "binh", "chi", "dung"]
    asks = [pair(a, b) for place, a in enumerate(people) for b in people[place + 1 :]]
    bound = await world.bind(shard, *asks)
    seen = [(entry.party, x) for ask, x in zip(asks, bound.numbers, strict=True) for entry in ask.entries]
    assert len(seen) == len(set(seen))
    for ask, x in zip(asks, bound.numbers, strict=True):
        for entry in ask.entries:
            route = await world.call(x, entry.party)
            assert f"{route.source}|{route.target}" == entry.target


async def test_a_per_party_number_is_dialled_by_one_side_alone(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, one("an", "binh"))
    assert (await world.call(bound.numbers[0], "an")).target == "par_binh"
    assert (await world.call(bound.numbers[0], "binh")).decision == "no_binding"


async def test_a_holder_without_asks_has_a_journal_all_the_same(world: World) -> None:
    shard = await world.pool(1)
    bound = await world.bind(shard, events=[("session.opened", None, b"{}")])
    assert bound.numbers == ()
    assert await world.events(bound.holder) == ["session.opened"]


async def test_exhaustion_says_how_many_are_missing_and_when_one_is_free_and_writes_nothing(world: World) -> None:
    shard = await world.pool(2)
    await world.bind(shard, pair("an", "binh"), ttl=60_000, quarantine=5_000)
    await world.bind(shard, pair("an", "chi"), ttl=30_000, quarantine=5_000)
    before = await world.snapshot()
    with pytest.raises(Exhausted) as refusal:
        await world.bind(shard, pair("dung", "an"))
    assert (refusal.value.shard, refusal.value.needed, refusal.value.retry_after) == (shard, 1, 35.0)
    with pytest.raises(Exhausted) as refusal:
        await world.bind(shard, pair("dung", "em"), pair("an", "dung"), pair("an", "em"))
    assert refusal.value.needed == 2
    assert await world.snapshot() == before


async def test_a_pool_without_an_open_number_has_nothing_to_wait_for(world: World) -> None:
    shard = await world.pool(1)
    await world.inventory.set_state("t", "default", "+842400000000", "draining")
    with pytest.raises(Exhausted) as refusal:
        await world.bind(shard, pair("an", "binh"))
    assert (refusal.value.needed, refusal.value.retry_after) == (1, None)


async def test_a_lapsed_entry_is_free_again_to_the_millisecond(world: World) -> None:
    shard = await world.pool(1)
    first = await world.bind(shard, pair("an", "binh"))
    await world.at(START + TTL + QUARANTINE - 1)
    with pytest.raises(Exhausted) as refusal:
        await world.bind(shard, pair("an", "binh"))
    assert refusal.value.retry_after == 0.001
    assert (await world.call(first.numbers[0], "an")).decision == "ended"
    await world.later(1)
    assert (await world.call(first.numbers[0], "an")).decision == "no_binding"
    second = await world.bind(shard, pair("an", "binh"))
    assert second.numbers == first.numbers
    entry = await world.redis.command("HGET", "{" + shard + "}p:an", 0)
    expires, until, epoch, generation, holder, ordinal = entry.decode().split(":")
    assert (int(expires), int(until)) == (second.expires, second.expires + QUARANTINE)
    assert (epoch, generation, "ses_" + holder, ordinal) == ("1", "2", second.holder, "0")


async def test_an_index_entry_stays_packed_and_small(world: World) -> None:
    shard = await world.pool(2)
    keyring_like = "A" * 16, "B" * 16
    await world.bind(shard, pair(*keyring_like))
    sizes = []
    for party in keyring_like:
        name = "{" + shard + "}p:" + party
        assert await world.redis.command("OBJECT", "ENCODING", name) in (b"listpack", b"ziplist")
        sizes.append(await world.redis.command("MEMORY", "USAGE", name))
    assert sum(sizes) <= 500


async def test_avoid_sticky_gives_a_pair_another_number_next_time(world: World) -> None:
    shard = await world.pool(4)
    first = await world.bind(shard, pair("an", "binh"), quarantine=0)
    await world.leases.release(first.holder, reason="api")
    second = await world.bind(shard, pair("an", "binh"))
    assert second.numbers != first.numbers


async def test_avoid_sticky_gives_the_number_that_both_people_had_longest_ago(world: World) -> None:
    shard = await world.pool(4)
    order = []
    for turn in range(10):
        # Others' sessions turn the cursor to wherever they like.
        for other in range(turn % 3):
            await world.bind(shard, pair(f"o{turn}-{other}", f"p{turn}-{other}"))
        bound = await world.bind(shard, pair("an", "binh" if turn % 2 else "chi"), ttl=500, quarantine=0)
        await world.later(1000)
        order.append(bound.numbers[0])
    assert len(set(order[:4])) == 4, "none twice while one is new to them"
    assert all(len(set(order[turn : turn + 3])) == 3 for turn in range(8))


async def test_prefer_sticky_gives_a_pair_the_number_it_had(world: World) -> None:
    shard = await world.pool(4)
    first = await world.bind(shard, pair("an", "binh"), ttl=1000, quarantine=0)
    await world.bind(shard, pair("an", "chi"), ttl=2000, quarantine=0)
    await world.bind(shard, pair("binh", "dung"), ttl=2000, quarantine=0)
    await world.later(5000)
    second = await world.bind(shard, pair("an", "binh"), policy="prefer_sticky")
    assert second.numbers == first.numbers
    third = await world.bind(shard, pair("an", "binh"), policy="prefer_sticky")
    assert third.numbers != first.numbers


async def test_prefer_sticky_takes_the_latest_and_only_what_is_open(world: World) -> None:
    shard = await world.pool(4)
    older = await world.bind(shard, pair("an", "binh"), ttl=1000, quarantine=0)
    newer = await world.bind(shard, pair("an", "binh"), ttl=2000, quarantine=0)
    await world.later(5000)
    again = await world.bind(shard, pair("an", "binh"), policy="prefer_sticky", ttl=1000, quarantine=0)
    assert again.numbers == newer.numbers
    await world.later(5000)
    await world.inventory.set_state("t", "default", newer.numbers[0], "suspended")
    assert (await world.bind(shard, pair("an", "binh"), policy="prefer_sticky")).numbers == older.numbers


async def test_a_party_at_its_cap_is_refused_though_numbers_are_free(world: World) -> None:
    shard = await world.pool(10)
    for other in range(4):
        await world.bind(shard, pair("an", f"p{other}"), ttl=1000 + other, quarantine=0, cap=4)
    before = await world.snapshot()
    with pytest.raises(Exhausted) as refusal:
        await world.bind(shard, pair("an", "binh"), cap=4)
    assert refusal.value.retry_after == 1.0
    assert await world.snapshot() == before
    await world.later(1000)
    await world.bind(shard, pair("an", "binh"), cap=4)


async def test_the_asks_of_one_bind_count_towards_the_cap(world: World) -> None:
    shard = await world.pool(10)
    with pytest.raises(Exhausted):
        await world.bind(shard, *(pair("an", f"p{other}") for other in range(4)), cap=3)


async def test_a_full_shard_serves_a_party_up_to_its_last_number(world: World) -> None:
    shard = await world.pool(256)
    for other in range(256):
        await world.bind(shard, pair("an", f"p{other}"), ttl=10_000)
    held = await world.redis.command("HLEN", "{" + shard + "}p:an")
    assert held == 256
    with pytest.raises(Exhausted):
        await world.bind(shard, pair("an", "binh"))
    await world.later(10_000 + QUARANTINE)
    await world.bind(shard, pair("an", "binh"))
    assert await world.redis.command("HLEN", "{" + shard + "}p:an") == 1, "lapsed entries of a busy party are swept"


async def test_a_clock_stepped_back_revives_nothing(world: World) -> None:
    shard = await world.pool(1)
    first = await world.bind(shard, pair("an", "binh"), ttl=1000, quarantine=0)
    await world.at(START + 1000)
    second = await world.bind(shard, pair("an", "binh"), ttl=1000, quarantine=0)
    await world.at(START)
    assert (await world.call(first.numbers[0], "an")).holder == second.holder
    with pytest.raises(Exhausted) as refusal:
        await world.bind(shard, pair("an", "chi"))
    assert refusal.value.retry_after == 1.0
    third = await world.bind(shard, pair("chi", "dung"))
    assert third.expires == START + 1000 + TTL


async def test_redis_forgets_a_party_only_long_after_its_entries_lapsed(world: World) -> None:
    shard = await world.pool(2)
    party = "{" + shard + "}p:an"
    await world.bind(shard, pair("an", "binh"))
    long = await world.redis.command("PTTL", party)
    assert TTL + QUARANTINE + 2 * 3_600_000 < long <= TTL + QUARANTINE + 3 * 3_600_000
    await world.bind(shard, pair("an", "chi"), ttl=1000, quarantine=0)
    assert long - 60_000 < await world.redis.command("PTTL", party) <= long, (
        "a shorter lease never shortens the key's life"
    )


@pytest.mark.parametrize(
    "ask",
    [
        Ask(()),
        Ask((Entry("an", "par_a|par_b"), Entry("an", "par_b|par_a"))),
        Ask((Entry("a:n", "par_a|par_b"),)),
        Ask((Entry("an", "par_a par_b"),)),
        Ask((Entry("an", "par_a|par_b|par_c"),)),
    ],
)
async def test_an_ask_that_would_break_an_entry_is_refused(world: World, ask: Ask) -> None:
    shard = await world.pool(1)
    with pytest.raises(ValueError):
        await world.bind(shard, ask)


async def test_a_shard_and_a_field_of_no_ones_are_refused(world: World) -> None:
    shard = await world.pool(1)
    with pytest.raises(ValueError):
        await world.bind("x}y{z1", pair("an", "binh"), holder=holder_id(shard, os.urandom(17)))
    with pytest.raises(ValueError, match="grants"):
        await world.bind(shard, pair("an", "binh"), fields={"grants": "1:0:an"})


def test_a_holders_id_names_its_shard() -> None:
    holder = holder_id("abc123", bytes(range(17)))
    assert shard_of(holder) == "abc123"
    assert len(holder) == 32
    with pytest.raises(ValueError):
        holder_id("ABC123", bytes(17))
    with pytest.raises(ValueError):
        holder_id("abc123", bytes(16))
    for text in (
        "",
        "ses_abc123",
        "ses_abc12_0000000000000000000000",
        "int_abc1230000000000000000000000",
        holder + "\n",
    ):
        with pytest.raises(ValueError):
            shard_of(text)


async def test_a_bind_tells_how_near_its_people_came_to_the_last_number(world: World) -> None:
    shard = await world.pool(5)
    first = await world.bind(shard, pair("an", "binh"))
    assert first.tight == Tight(shard, 1, 5)
    await world.bind(shard, pair("an", "chi"))
    await world.bind(shard, pair("dung", "binh"))
    second = await world.bind(shard, pair("an", "binh"))
    assert second.tight is not None and second.tight.part == 1
    assert second.tight == Tight(shard, 2 + 2 + 1, 5), "what each held, and this one"
    again = await world.bind(shard, pair("an", "binh"), holder=second.holder)
    assert again.tight is None
