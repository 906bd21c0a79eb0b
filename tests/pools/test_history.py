"""The checker of histories, on planted faults, on the real allocator, and on one that is broken on purpose."""

from __future__ import annotations

import asyncio
import os
import random
import time

from hypothesis import given
from hypothesis import strategies as st

from pools.grants import Ask, Entry, Exhausted, holder_id
from pools.inventory import Inventory, Item
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis
from tests.pools.history import Overlap, Tenure, overlaps

CREATORS = 32
PARTIES = [f"party{n}" for n in range(6)]


def test_tenures_that_follow_each_other_do_not_overlap() -> None:
    assert overlaps([Tenure("x", "a", "h1", 0, 5), Tenure("x", "a", "h2", 5, 9), Tenure("x", "a", "h3", 9, 9)]) == []


def test_other_numbers_other_callers_and_the_same_holder_do_not_overlap() -> None:
    history = [("x", "a", "h1"), ("y", "a", "h2"), ("x", "b", "h3"), ("x", "a", "h1")]
    assert overlaps([Tenure(*place, 0, 5) for place in history]) == []


def test_every_planted_pair_is_found_however_far_apart_it_started() -> None:
    long = Tenure("x", "a", "h1", 0, 100)
    short, other = Tenure("x", "a", "h2", 10, 20), Tenure("x", "a", "h3", 50, 60)
    assert overlaps([other, short, long]) == [Overlap(long, short), Overlap(long, other)]


TENURES = st.builds(
    lambda place, holder, start, span: Tenure(place, "a", holder, start, start + span),
    st.sampled_from("xy"),
    st.sampled_from("ghi"),
    st.integers(0, 12),
    st.integers(0, 6),
)


@given(st.lists(TENURES, max_size=12))
def test_the_checker_agrees_with_comparing_everything_with_everything(history: list[Tenure]) -> None:
    alive = [tenure for tenure in history if tenure.start < tenure.end]
    pairs = sum(
        first.x == second.x and first.holder != second.holder and first.start < second.end and second.start < first.end
        for place, first in enumerate(alive)
        for second in alive[place + 1 :]
    )
    assert len(overlaps(history)) == pairs


async def run_leases(redis: Redis, keyring: Keyring, rounds: int) -> list[Tenure]:
    """Creators that bind pairs of a few parties in a small pool and release or let lapse, all at once."""
    numbers = await Inventory(redis, keyring).add("t", "s", [Item(f"+8424000{n:04}", "VN") for n in range(8)])
    shard, leases, dice = numbers[0].shard, Leases(redis), random.Random(7)
    history: list[Tenure] = []

    async def creator() -> None:
        for _ in range(rounds):
            callers = dice.sample(PARTIES, 2)
            ask = Ask(tuple(Entry(caller, "par_a|par_b") for caller in callers))
            holder = holder_id(shard, os.urandom(17))
            try:
                bound = await leases.bind(
                    shard, holder, [ask], ttl_ms=dice.choice([3, 1000]), quarantine_ms=0, fields={}, events=[]
                )
            except Exhausted:
                continue
            start = time.time() * 1000
            await asyncio.sleep(0)
            end = min(time.time() * 1000, bound.expires)
            history.extend(Tenure(bound.numbers[0], caller, holder, start, end) for caller in callers)
            if bound.expires - start > 100:
                await leases.release(holder, reason="api")

    await asyncio.gather(*(creator() for _ in range(CREATORS)))
    return history


async def run_broken(redis: Redis, rounds: int) -> list[Tenure]:
    """The same creators on an allocator that looks first and takes afterwards, in two round trips."""
    dice = random.Random(7)
    history: list[Tenure] = []

    async def creator(name: int) -> None:
        for turn in range(rounds):
            caller, holder = dice.choice(PARTIES), f"h{name}.{turn}"
            for x in dice.sample(range(8), 8):
                if await redis.command("GET", f"used:{x}:{caller}") is None:
                    await redis.command("SET", f"used:{x}:{caller}", holder)
                    start = time.time() * 1000
                    await asyncio.sleep(0)
                    history.append(Tenure(str(x), caller, holder, start, time.time() * 1000))
                    await redis.command("DEL", f"used:{x}:{caller}")
                    break

    await asyncio.gather(*(creator(name) for name in range(CREATORS)))
    return history


async def test_the_leases_pass_and_a_look_then_take_allocator_is_caught(redis: Redis, keyring: Keyring) -> None:
    sound = await run_leases(redis, keyring, rounds=30)
    assert len(sound) > 300, "the run was long enough to mean something"
    assert overlaps(sound) == []
    assert overlaps(await run_broken(redis, rounds=30)) != []
