"""The bound that capacity plans stand on, held against the real scripts: a shard with Da + Db - 1 numbers open to new
leases (max(Da, Db) where each side has a number of its own) always has one for two people who, this session included,
hold or have in quarantine no more than Da and Db of its numbers, however many of them ail. With one number less it need
not."""

from __future__ import annotations

import asyncio
from itertools import combinations
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pools.grants import Ask, Exhausted
from pools.health import Health
from pools.inventory import State
from pools.keyring import Keyring
from pools.redis import Redis
from tests.pools.world import SCRIPTS, START, World, one, pair
from tests.redis_server import RedisServer

PEOPLE = ["an", "binh", "chi", "dung"]
SPARE = 2  # numbers that are drained and opened again meanwhile

DEGREES = st.fixed_dictionaries({person: st.integers(2, 4) for person in PEOPLE})
OPEN = st.tuples(
    st.just("open"),
    st.lists(st.sampled_from(PEOPLE), min_size=2, max_size=3, unique=True),
    st.sampled_from([0, 40, 100]),
)
STEPS = st.lists(
    st.one_of(
        OPEN,
        OPEN,
        OPEN,
        st.tuples(st.just("close"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("extend"), st.integers(0, 20), st.sampled_from([1, 50, 200])),
        st.tuples(st.just("wait"), st.sampled_from([1, 39, 40, 99, 100]), st.just(0)),
        st.tuples(st.just("ail"), st.integers(0, 6), st.sampled_from([0, 1, 1])),
        st.tuples(st.just("drain"), st.integers(0, SPARE - 1), st.sampled_from([0, 1, 1, 1])),
    ),
    min_size=30,
    max_size=60,
)


class Opened:
    """A session as the model knows it: how many numbers it takes from each person, and for how long."""

    def __init__(self, holder: str, takes: dict[str, int], expires: int, quarantine: int) -> None:
        self.holder, self.takes, self.expires, self.quarantine = holder, takes, expires, quarantine


class Story(NamedTuple):
    world: World
    shard: str
    degrees: dict[str, int]
    sessions: list[Opened]

    def degree(self, person: str) -> int:
        return sum(
            session.takes.get(person, 0)
            for session in self.sessions
            if session.expires + session.quarantine > self.world.now
        )

    async def open(self, people: list[str], quarantine: int, asks: list[Ask]) -> bool:
        """Opens a session unless it were more than somebody's degree; one that is not may not fail."""
        takes = {person: len(people) - 1 for person in people}
        if any(self.degree(person) + more > self.degrees[person] for person, more in takes.items()):
            return False
        bound = await self.world.bind(self.shard, *asks, ttl=100, quarantine=quarantine)
        self.sessions.append(Opened(bound.holder, takes, bound.expires, quarantine))
        return True

    async def step(self, what: str, which: int, span: int) -> None:
        if what == "wait":
            await self.world.later(which)
        elif what == "ail":  # passed over, and still there for who finds no other
            await Health(self.world.redis, SCRIPTS).silence(self.shard, [which], bool(span))
        elif what == "drain":
            state: State = "draining" if span else "active"
            await self.world.inventory.set_state("t", "default", f"+84240000{which:04}", state)
        elif self.sessions:
            session = self.sessions[which % len(self.sessions)]
            if session.expires <= self.world.now:
                return
            if what == "close":
                await self.world.leases.release(session.holder, reason="api")
                session.expires = self.world.now
            else:
                session.expires = (await self.world.leases.extend(session.holder, ttl_ms=span)).expires


async def story(redis: Redis, keyring: Keyring, degrees: dict[str, int], steps: list[tuple], *, shared: bool) -> int:  # type: ignore[type-arg]
    """Plays the steps on a shard that the bound calls big enough; how many sessions were opened."""
    world = World(redis, keyring)
    await world.at(START)
    most = sorted(degrees.values())[-2:]
    shard = await world.pool(SPARE + (sum(most) - 1 if shared else most[-1]))
    for place in range(SPARE):
        await world.inventory.set_state("t", "default", f"+84240000{place:04}", "draining")
    told = Story(world, shard, degrees, [])
    opened = 0
    for what, which, span in steps:
        if what == "open":
            pairs = list(combinations(which, 2))
            asks = (
                [pair(a, b) for a, b in pairs] if shared else [one(*way) for a, b in pairs for way in ((a, b), (b, a))]
            )
            opened += await told.open(which, span, asks)
        else:
            await told.step(what, which, span)
    return opened


@pytest.mark.parametrize("shared", [True, False])
def test_a_shard_as_big_as_the_bound_never_exhausts(redis_server: RedisServer, keyring: Keyring, shared: bool) -> None:
    opened: list[int] = []

    @settings(max_examples=120, deadline=None)
    @given(degrees=DEGREES, steps=STEPS)
    def holds(degrees: dict[str, int], steps: list[tuple]) -> None:  # type: ignore[type-arg]
        assert redis_server.ask("FLUSHALL") == b"+OK\r\n"

        async def play() -> int:
            redis = Redis(redis_server.url, budget=2)
            try:
                return await story(redis, keyring, degrees, steps, shared=shared)
            finally:
                await redis.close()

        opened.append(asyncio.run(play()))

    holds()
    assert sum(opened) > 300, "the property was put to the test"


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 4), (5, 1), (10, 10)])
async def test_with_one_number_less_two_people_can_find_none(world: World, first: int, second: int) -> None:
    enough = first + second - 1
    shard = await world.pool(enough)
    for other in range(first - 1):
        await world.bind(shard, pair("an", f"a{other}"))
    for other in range(second - 1):
        await world.bind(shard, pair("binh", f"b{other}"))
    await world.inventory.set_state("t", "default", f"+84240000{enough - 1:04}", "draining")
    with pytest.raises(Exhausted):
        await world.bind(shard, pair("an", "binh"))
    await world.inventory.set_state("t", "default", f"+84240000{enough - 1:04}", "active")
    await world.bind(shard, pair("an", "binh"))
    with pytest.raises(Exhausted):
        await world.bind(shard, pair("an", "binh"))
