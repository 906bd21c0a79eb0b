"""How numbers fare: what the calls on each came to over a sliding span of time, and which of them ail.

A number that ails is passed over by new leases while one that does well is free for them; no pool is exhausted by it.
What is kept of a number is one row of ten figures in its shard: the counts of this span and of the one before, which
counts by the part of it that is not yet past.

    {<sh>}fares hash   position -> its counts
    {<sh>}ail   hash   position -> what ails it (words); the position with a `t` behind it -> its trunk is silent
    {<sh>}h     hash   its field `well`: the positions open to new leases that nothing ails, where something ails others
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast

import msgspec

from pools.journal import key, pairs
from pools.redis import Redis, Word
from pools.scripts import SHARD, SILENCE, ShardScripts

Ailment = Literal["unanswered", "short_calls", "reports", "trunk"]


class Limits(msgspec.Struct, frozen=True):
    """What a number may come to in `span_ms` before it ails: `enough` calls say something, of which `answered` is the
    least part, and `short` the most of the answered; `reports` are too many (0: none are)."""

    span_ms: int
    enough: int
    answered: float
    short: float
    reports: int


class Tally(msgspec.Struct, frozen=True):
    """Calls that showed a number, how many of them were answered, how many of those were short; reports."""

    calls: int = 0
    answered: int = 0
    short: int = 0
    reports: int = 0

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Tally(*(one + more for one, more in zip(mine, theirs, strict=True)))


NOTHING: Final = Tally()


class Judgement(msgspec.Struct, frozen=True):
    """What a position is thought of from now on: the calls of the span, and what ails it."""

    position: int
    ails: tuple[Ailment, ...]
    tally: Tally


class Standing(msgspec.Struct, frozen=True):
    """How a number fares. `last`: when its last call was counted, ms; 0: none was in the last two spans."""

    tally: Tally = NOTHING
    ails: tuple[Ailment, ...] = ()
    last: int = 0


class Health:
    """The numbers' health in all shards. Every method raises `pools.redis.Unavailable` when Redis cannot answer."""

    def __init__(self, redis: Redis, scripts: ShardScripts = SHARD) -> None:
        self._redis = redis
        self._scripts = scripts

    async def count(self, shard: str, tallies: Mapping[int, Tally], limits: Limits) -> list[Judgement]:
        """Adds what calls on the shard's positions came to; gives those whose judgement changed."""
        words: list[Word] = list(msgspec.structs.astuple(limits))
        for position, tally in tallies.items():
            words += [position, *msgspec.structs.astuple(tally)]
        flat = await self._redis.script(self._scripts.health, [key(shard, "h")], words)
        return [
            Judgement(int(flat[at]), _ailments(flat[at + 1]), Tally(*map(int, flat[at + 2 : at + 6])))
            for at in range(0, len(flat), 6)
        ]

    async def review(self, shard: str, limits: Limits) -> list[Judgement]:
        """Judges those that ail anew: nobody calls on a number that is passed over, so only time makes it well."""
        rows = await self._redis.command("HKEYS", key(shard, "ail"))
        ailing = [int(row) for row in rows if row.isdigit()]
        return await self.count(shard, dict.fromkeys(ailing, NOTHING), limits) if ailing else []

    async def silence(self, shard: str, positions: Sequence[int], silent: bool) -> None:
        """The trunk that these numbers leave by is silent, or is not any more."""
        await self._redis.script(SILENCE, [key(shard, "h")], ["1" if silent else "", *positions])

    async def ailing(self, shard: str) -> dict[int, tuple[Ailment, ...]]:
        """The positions that ail, and of what."""
        found: dict[int, tuple[Ailment, ...]] = {}
        for name, words in pairs(await self._redis.command("HGETALL", key(shard, "ail"))).items():
            position = int(name.removesuffix("t"))
            found[position] = (*found.get(position, ()), *_ailments(words))
        return found

    async def of(self, shard: str, positions: Sequence[int], span_ms: int) -> list[Standing]:
        """How the numbers at these positions fare, in their order."""
        rows, ailing, (seconds, micros) = await asyncio.gather(
            self._redis.command("HMGET", key(shard, "fares"), *positions),
            self.ailing(shard),
            self._redis.command("TIME"),
        )
        now = int(seconds) * 1000 + int(micros) // 1000
        return [_standing(row, ailing.get(at, ()), now, span_ms) for at, row in zip(positions, rows, strict=True)]


def _standing(row: bytes | None, ails: tuple[Ailment, ...], now: int, span_ms: int) -> Standing:
    if row is None:
        return Standing(NOTHING, ails)
    began, *figures = map(int, row.split())
    age = max(0, now - began) / span_ms
    weights = (1.0, 1 - age) if age < 1 else (max(0.0, 2 - age), 0.0)
    counts = [
        round(here * weights[0] + before * weights[1]) for here, before in zip(figures[:4], figures[4:8], strict=True)
    ]
    return Standing(Tally(*counts), ails, figures[8])


def _ailments(words: bytes) -> tuple[Ailment, ...]:
    return cast("tuple[Ailment, ...]", tuple(words.decode().split()))
