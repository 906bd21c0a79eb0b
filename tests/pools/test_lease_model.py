"""The leases against a model: any order of binds, extensions, ends, calls and clock steps, at the boundaries too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pools.grants import Ask, Exhausted, holder_id
from pools.keyring import Keyring
from pools.redis import Redis
from tests.pools.world import START, World, one, pair
from tests.redis_server import RedisServer

PEOPLE = ["an", "binh", "chi", "dung"]
POOL = 3
TTL = 100
QUARANTINE = 40

PLACES = st.integers(0, 30)
ASKS = st.lists(
    st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE), st.booleans()).filter(lambda ask: ask[0] != ask[1]),
    min_size=1,
    max_size=3,
    unique_by=lambda ask: frozenset(ask[:2]),
)


@dataclass
class Lease:
    """What the model knows of one (caller, X)."""

    holder: str
    target: str
    expires: int
    until: int


@dataclass
class Owner:
    """What the model knows of a holder."""

    places: list[tuple[str, str]]
    expires: int
    open: bool = True
    seq: int = 1


class Leasing(RuleBasedStateMachine):
    """Every rule does one thing to the real leases and to the model and compares what they say."""

    def __init__(self, server: RedisServer, keyring: Keyring) -> None:
        super().__init__()
        assert server.ask("FLUSHALL") == b"+OK\r\n"
        self.runner = asyncio.Runner()
        self.redis = Redis(server.url, budget=2)
        self.world = World(self.redis, keyring)
        self.leases: dict[tuple[str, str], Lease] = {}
        self.owners: dict[str, Owner] = {}
        self.order: list[str] = []
        self.calls: dict[str, str] = {}
        self.open: set[str] = set()
        self.seen = 0
        self.shard = ""

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(story)

    def teardown(self) -> None:
        self.run(self.redis.close())
        self.runner.close()

    @property
    def now(self) -> int:
        """The shard's time: the clock, but never earlier than it has seen."""
        return max(self.world.now, self.seen)

    def free(self, caller: str, x: str) -> bool:
        lease = self.leases.get((caller, x))
        return lease is None or lease.until <= self.now

    def some(self, place: int) -> str | None:
        return self.order[place % len(self.order)] if self.order else None

    @initialize()
    def fill(self) -> None:
        self.run(self.world.at(START))
        self.shard = self.run(self.world.pool(POOL))
        self.open = {f"+84240000{place:04}" for place in range(POOL)}

    @rule(
        people=ASKS,
        policy=st.sampled_from(["avoid_sticky", "prefer_sticky"]),
        quarantine=st.sampled_from([0, QUARANTINE]),
    )
    def bind(self, people: list[tuple[str, str, bool]], policy: Any, quarantine: int) -> None:
        asks = [pair(a, b) if shared else one(a, b) for a, b, shared in people]
        holder = holder_id(self.shard, os.urandom(17))
        event = ("session.opened", None, b"{}")
        story = self.world.bind(
            self.shard, *asks, holder=holder, ttl=TTL, quarantine=quarantine, policy=policy, events=[event],
            fields={"max_calls": 2, "record": holder},
        )  # fmt: skip
        try:
            bound = self.run(story)
        except Exhausted as refusal:
            self.check_refusal(asks, refusal)
            return
        assert bound.fresh and bound.expires == self.now + TTL
        self.owners[holder] = Owner([], bound.expires)
        self.order.append(holder)
        for ask, x in zip(asks, bound.numbers, strict=True):
            assert x in self.open
            assert all(self.free(entry.party, x) for entry in ask.entries)
            for entry in ask.entries:
                self.leases[entry.party, x] = Lease(holder, entry.target, bound.expires, bound.expires + quarantine)
                self.owners[holder].places.append((entry.party, x))
        self.seen = self.now

    def check_refusal(self, asks: list[Ask], refusal: Exhausted) -> None:
        """For one ask the model knows exactly whether, and until when, there is nothing."""
        assert 1 <= refusal.needed <= len(asks)
        if len(asks) > 1:
            return
        callers = [entry.party for entry in asks[0].entries]
        ends = [max(self.until(caller, x) for caller in callers) for x in self.open]
        assert all(end > self.now for end in ends)
        assert refusal.retry_after == ((min(ends) - self.now) / 1000 if ends else None)

    def until(self, caller: str, x: str) -> int:
        lease = self.leases.get((caller, x))
        return lease.until if lease is not None else 0

    @rule(place=PLACES)
    def bind_again(self, place: int) -> None:
        holder = self.some(place)
        if holder is not None:
            bound = self.run(self.world.bind(self.shard, pair("an", "em"), holder=holder))
            owner = self.owners[holder]
            assert not bound.fresh
            assert set(bound.numbers) == {x for _, x in owner.places}
            assert (bound.expires, bound.seq) == (owner.expires, owner.seq)

    @rule(place=PLACES, ttl=st.sampled_from([0, 1, TTL, 3 * TTL]))
    def extend(self, place: int, ttl: int) -> None:
        holder = self.some(place)
        if holder is None:
            return
        owner = self.owners[holder]
        told = self.run(self.world.leases.extend(holder, ttl_ms=ttl))
        if not owner.open or owner.expires <= self.now:
            assert told.outcome == "ended"
            return
        assert (told.outcome, told.expires) == ("extended", self.now + ttl)
        self.move(holder, told.expires)

    def move(self, holder: str, expires: int) -> None:
        owner = self.owners[holder]
        owner.expires = expires
        self.seen = self.now
        for place in owner.places:
            lease = self.leases.get(place)
            if lease is not None and lease.holder == holder:
                lease.until += expires - lease.expires
                lease.expires = expires
                if lease.until <= self.now:
                    del self.leases[place]

    @rule(place=PLACES, only_lapsed=st.booleans())
    def release(self, place: int, only_lapsed: bool) -> None:
        holder = self.some(place)
        if holder is None:
            return
        owner = self.owners[holder]
        event = ("session.closed", None, b"{}")
        told = self.run(self.world.leases.release(holder, reason="api", events=[event], only_lapsed=only_lapsed))
        if not owner.open:
            assert told.outcome == "already"
        elif only_lapsed and owner.expires > self.now:
            assert told.outcome == "live"
        else:
            assert told.outcome == "released"
            owner.open = False
            owner.seq += 1
            self.move(holder, min(owner.expires, self.now))

    @rule(caller=st.sampled_from(PEOPLE), place=st.integers(0, POOL - 1), call=st.integers(0, 5))
    def call(self, caller: str, place: int, call: int) -> None:
        x, name = f"+84240000{place:04}", f"call{call}"
        route = self.run(self.world.call(x, caller, call=name))
        lease = self.leases.get((caller, x))
        if lease is None or lease.until <= self.now:
            assert route.decision == "no_binding"
            return
        owner = self.owners[lease.holder]
        assert (route.holder, f"{route.source}|{route.target}") == (lease.holder, lease.target)
        assert route.fields == {"record": lease.holder.encode()}
        mine = [held for held in self.calls.values() if held == lease.holder]
        if not owner.open or lease.expires <= self.now:
            expected = "ended"
        elif name in self.calls:
            expected = "routed"
        else:
            expected = "limit" if len(mine) >= 2 else "routed"
        assert route.decision == expected
        repeated = expected == "routed" and name in self.calls
        assert route.repeated == repeated
        owner.seq += not repeated
        assert route.seq == owner.seq
        if expected == "routed" and not repeated:
            self.calls[name] = lease.holder

    @rule(call=st.integers(0, 5), place=PLACES)
    def hang_up(self, call: int, place: int) -> None:
        name = f"call{call}"
        holder = self.calls.get(name) or self.some(place)
        if holder is None:
            return
        event = ("call.ended", None, b"{}")
        told = self.run(self.world.leases.append(holder, [event], end_call=name))
        assert told.outcome == ("appended" if name in self.calls else "ended")
        self.owners[holder].seq += self.calls.pop(name, None) is not None

    @rule(span=st.sampled_from([1, 10, TTL - 1, TTL, QUARANTINE, -1, -50]))
    def pass_time(self, span: int) -> None:
        self.run(self.world.later(span))

    @rule(place=PLACES, edge=st.sampled_from([-1, 0]), quarantine=st.booleans())
    def pass_time_to_an_edge(self, place: int, edge: int, quarantine: bool) -> None:
        """To the instant something ends, or just before."""
        if self.leases:
            lease = list(self.leases.values())[place % len(self.leases)]
            self.run(self.world.at((lease.until if quarantine else lease.expires) + edge))

    @rule(
        place=st.integers(0, POOL - 1), state=st.sampled_from(["active", "active", "draining", "suspended", "retired"])
    )
    def set_state(self, place: int, state: Any) -> None:
        x = f"+84240000{place:04}"
        self.run(self.world.inventory.set_state("t", "default", x, state))
        (self.open.add if state == "active" else self.open.discard)(x)

    @invariant()
    def every_journal_is_whole(self) -> None:
        for holder in self.order[-2:]:
            found = self.run(self.world.leases.read(holder))
            journal = self.run(self.world.leases.journal(holder, limit=1000))
            owner = self.owners[holder]
            assert found is not None
            assert [entry.seq for entry in journal] == list(range(1, owner.seq + 1))
            assert (found.seq, found.expires) == (owner.seq, owner.expires)
            assert found.status == ("open" if owner.open else "closed")
            assert found.calls == sum(held == holder for held in self.calls.values())

    @invariant()
    def the_sweeper_sees_exactly_what_lapsed(self) -> None:
        if self.shard:
            due = self.run(self.world.leases.due(self.shard, self.now))
            assert set(due) == {name for name, owner in self.owners.items() if owner.open and owner.expires <= self.now}


def test_the_leases_do_what_the_model_says(redis_server: RedisServer, keyring: Keyring) -> None:
    class Machine(Leasing):
        def __init__(self) -> None:
            super().__init__(redis_server, keyring)

    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
