"""Changing a live holder's leases in the shards where they are: all of it, or nothing that anybody could notice.

In one shard that is one script. Over several, the holder's own shard has the last word, as when a holder is bound:

    reserve   its own shard keeps places among the targets, which lead nowhere and are never given twice
    put       every other shard gives what is asked of it, each entry with such a place: nobody gets through yet. One
              where the holder has nothing yet gets to know it first
    decide    its own shard changes its own entries, and says what the places mean: from here on all of it holds
    end       the other shards end what is to end

Whoever dies before `decide` has changed nothing that is dialled (an entry that leads nowhere keeps an X from one person
until the holder ends). After it, an entry that should have ended has a target whose source the holder's `denied` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from pools.grants import Amended, Drop, End, Exhausted, Given, Lease, Reach, Take, Tight, shard_of
from pools.journal import key, record_key

if TYPE_CHECKING:
    from pools.redis import Redis, Word
    from pools.scripts import ShardScripts

Step = End | Take | Lease | Drop | Given | Reach
ENTERING: Final = 60_000  # ms that a holder lives in a shard, until it is told how long it really does
UNTOLD: Final = -1_000_000_000  # ms: an end longer ago than anything rests, so that no tombstone is left
NOWHERE: Final = "nowhere|nowhere"  # the target of a place that is kept


class Amending:
    """Amends one holder."""

    def __init__(self, redis: Redis, scripts: ShardScripts, holder: str) -> None:
        self._redis = redis
        self._scripts = scripts
        self._holder = holder

    async def at_home(
        self, rev: int, steps: Sequence[Step], targets: Sequence[str], more: Sequence[Word] = (0, 0)
    ) -> Amended:
        """In the holder's own shard; `more` are counted fields and events."""
        return await self._amend(shard_of(self._holder), rev, steps, " ".join(targets), more)

    async def across(
        self,
        rev: int,
        steps: Sequence[Step],
        targets: Sequence[str],
        more: Sequence[Word],
        elsewhere: Mapping[str, Sequence[Step]],
    ) -> Amended:
        """With steps `elsewhere` (`Take`, `Lease` and `End`), by shard."""
        known, shards = await self._redis.command("HMGET", record_key(self._holder), "targets", "shards")
        new = [shard for shard in elsewhere if shard not in (shards or b"").decode().split()]
        reserved = (known or b"").decode().split()
        reserved += [NOWHERE] * (len(targets) - len(reserved))
        told = await self.at_home(rev, (), reserved)
        put: dict[str, list[Step]] = {}
        tight: list[Tight] = []
        try:
            given: list[Step] = []
            for shard, theirs in elsewhere.items():
                if told.outcome == "amended":
                    if shard in new:
                        await self._enter(shard)
                    told = await self._put(shard, theirs, given)
                    tight += [told.tight] if told.tight is not None else []
                    undone = _new(theirs) if told.outcome == "amended" else []
                    put[shard] = [End(ordinal, UNTOLD) for ordinal in undone]
            if told.outcome == "amended":
                told = await self.at_home(rev + 1, [*map(Reach, new), *given, *steps], targets, more)
        except Exhausted:
            await self._there(put)
            raise
        ends = {shard: [step for step in theirs if isinstance(step, End)] for shard, theirs in elsewhere.items()}
        await self._there(ends if told.outcome == "amended" else put)
        tight += [told.tight] if told.tight is not None else []
        return msgspec.structs.replace(told, tight=max(tight, key=lambda one: one.part, default=None))

    async def _enter(self, shard: str) -> None:
        """Makes the holder known in a shard where it has nothing yet. Should nothing come of it, the sweeper meets it
        at its end."""
        span: list[bytes | None] = await self._redis.command("HMGET", record_key(self._holder), "expires", "quarantine")
        words: list[Word] = [self._holder, ENTERING, span[1] or 0, "avoid_sticky", 1, "", "", "", 0, 0, 0]
        await self._redis.script(self._scripts.bind, [key(shard, "h")], words)
        await self._redis.script(self._scripts.extend, [key(shard, "h")], [self._holder, span[0] or 0, "", "", 0, 0])

    async def _put(self, shard: str, steps: Sequence[Step], given: list[Step]) -> Amended:
        """What the shard is to give; its numbers go into `given`, by their slots."""
        puts: list[Step] = []
        slots: list[int] = []
        for step in steps:
            if isinstance(step, Lease):
                puts.append(Lease(len(slots), step.entries, step.wish))
                slots.append(step.slot)
            elif isinstance(step, Take):
                puts.append(step)
        told = await self._there_now(shard, puts)
        given += [Given(slot, number) for slot, number in zip(slots, told.numbers, strict=False)]
        return told

    async def _there(self, steps: Mapping[str, Sequence[Step]]) -> None:
        for shard, theirs in steps.items():
            if theirs:
                await self._there_now(shard, theirs)

    async def _there_now(self, shard: str, steps: Sequence[Step]) -> Amended:
        rev = await self._redis.command("HGET", key(shard, "s:" + self._holder), "rev")
        return await self._amend(shard, int(rev or 0), steps, "", (0, 0))

    async def _amend(self, shard: str, rev: int, steps: Sequence[Step], targets: str, more: Sequence[Word]) -> Amended:
        words: list[Word] = [self._holder, rev, targets, len(steps)]
        for step in steps:
            words += step.words()
        reply = await self._redis.script(self._scripts.amend, [key(shard, "h")], [*words, *more])
        if reply[0] == b"exhausted":
            raise Exhausted(shard, needed=reply[1], retry_after=reply[2] / 1000 if reply[2] >= 0 else None)
        if reply[0] != b"amended":
            return Amended(outcome=reply[0].decode())
        tight = Tight(shard, reply[4], reply[5]) if reply[4] else None
        return Amended(outcome="amended", numbers=tuple(reply[1].decode().split()), tight=tight)


def _new(steps: Iterable[Step]) -> list[int]:
    """The ordinals of the entries that the steps make."""
    taken = [step.to for step in steps if isinstance(step, Take)]
    return taken + [ordinal for step in steps if isinstance(step, Lease) for ordinal, _ in step.entries]
