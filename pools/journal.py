"""What the shards tell: holders, journals, outboxes, live calls; and the sweeper's and courier's housekeeping."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pools.grants import Grant, Holder, JournalEntry, LiveCall, OutboxEntry, shard_of
from pools.redis import Redis, Word
from pools.scripts import SHARD, ShardScripts

# Fields of a holder's hash that pools writes itself; everything else in it belongs to whoever bound it.
OWN_FIELDS = frozenset("status reason expires until quarantine grants numbers targets shards seq rev calls".split())


def key(shard: str, rest: str) -> str:
    """A key of the shard: `rest` behind its hash tag."""
    return "{" + shard + "}" + rest


def record_key(holder: str) -> str:
    """The key of the holder's hash in its own shard."""
    return key(shard_of(holder), "s:" + holder)


def pairs(flat: Sequence[Any]) -> dict[str, bytes]:
    """A HGETALL or stream entry as a dict."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _words(text: bytes) -> tuple[str, ...]:
    return tuple(text.decode().split())


def _grant(text: str) -> Grant:
    position, ordinal, party = text.split(":")
    return Grant(int(position), int(ordinal), party)


def _journal_entry(seq: int, row: bytes) -> JournalEntry:
    kind, at, data = row.split(b" ", 2)
    return JournalEntry(seq=seq, type=kind.decode(), at=int(at), data=data)


def _outbox_entry(shard: str, row: Any) -> OutboxEntry:
    facts = pairs(row[1])
    return OutboxEntry(
        id=row[0].decode(),
        shard=shard,
        holder=facts["holder"].decode(),
        seq=int(facts["seq"]),
        type=facts["type"].decode(),
        at=int(facts["at"]),
        data=facts["data"],
    )


class Journal:
    """Reading side of `pools.leases.Leases`. Every method raises `pools.redis.Unavailable` when Redis cannot answer."""

    def __init__(self, redis: Redis, scripts: ShardScripts = SHARD) -> None:
        self._redis = redis
        self._scripts = scripts

    async def read(self, holder: str) -> Holder | None:
        """The holder; None when there is none, or when it ended so long ago that Redis has forgotten it."""
        facts = pairs(await self._redis.command("HGETALL", record_key(holder)))
        if not facts:
            return None
        return Holder(
            holder=holder,
            status=facts["status"].decode(),
            reason=facts.get("reason", b"").decode(),
            expires=int(facts["expires"]),
            until=int(facts["until"]),
            rev=int(facts["rev"]),
            seq=int(facts["seq"]),
            calls=int(facts["calls"]),
            numbers=_words(facts["numbers"]),
            targets=_words(facts["targets"]),
            shards=_words(facts["shards"]),
            grants=tuple(map(_grant, _words(facts["grants"]))),
            fields={name: value for name, value in facts.items() if name not in OWN_FIELDS},
        )

    async def read_whole(self, holder: str) -> Holder | None:
        """As `read`, with what it has in other shards among its grants."""
        found = await self.read(holder)
        if found is None or not found.shards:
            return found
        grants = list(found.grants)
        for shard in found.shards:
            theirs: bytes = await self._redis.command("HGET", key(shard, "s:" + holder), "grants") or b""
            grants += [msgspec.structs.replace(_grant(text), shard=shard) for text in _words(theirs)]
        return msgspec.structs.replace(found, grants=tuple(grants))

    async def ends(self, holder: str) -> int | None:
        """When the holder's time is over, or was (ms); None for one that Redis has forgotten."""
        found: bytes | None = await self._redis.command("HGET", record_key(holder), "expires")
        return int(found) if found is not None else None

    async def journal(self, holder: str, after_seq: int = 0, limit: int = 100) -> list[JournalEntry]:
        """The holder's journal after `after_seq`, oldest first."""
        entries = key(shard_of(holder), "e:" + holder)
        rows = await self._redis.command("LRANGE", entries, after_seq, after_seq + limit - 1)
        return [_journal_entry(after_seq + place, row) for place, row in enumerate(rows, 1)]

    async def outbox(self, shard: str, after: str = "0", limit: int = 500) -> list[OutboxEntry]:
        """Entries of the shard's outbox after the id `after`, oldest first."""
        rows = await self._redis.command("XRANGE", key(shard, "o"), "(" + _full(after), "+", "COUNT", limit)
        return [_outbox_entry(shard, row) for row in rows]

    async def outboxes(self, after: Mapping[str, str], block_ms: int, limit: int = 500) -> list[OutboxEntry]:
        """Entries of many outboxes, `limit` of each, after the id beside its shard; waits up to `block_ms` for any.

        Wants a client of its own, `Redis(url, budget=…, blocking=True)` with a budget well above `block_ms`.
        """
        streams = [key(shard, "o") for shard in after]
        words: list[Word] = ["XREAD", "COUNT", limit, "BLOCK", block_ms, "STREAMS", *streams, *after.values()]
        found = await self._redis.command(*words)
        return [_outbox_entry(name[1:7].decode(), row) for name, rows in found or [] for row in rows]

    async def trim(self, shard: str, upto: str) -> int:
        """Drops the outbox entries up to and with the id `upto`; how many."""
        time, _, count = _full(upto).partition("-")
        dropped: int = await self._redis.command("XTRIM", key(shard, "o"), "MINID", f"{time}-{int(count) + 1}")
        return dropped

    async def live_calls(self, shard: str) -> list[LiveCall]:
        """Every call that holds a slot in the shard."""
        calls = []
        for call, fact in pairs(await self._redis.command("HGETALL", key(shard, "live"))).items():
            holder, owner, since, facts = fact.split(b"|", 3)
            calls.append(LiveCall(call, holder.decode(), owner.decode(), int(since), facts))
        return calls

    async def beat(self, owner: str, ttl_ms: int) -> None:
        """The owner of calls is alive for another `ttl_ms`."""
        await self._redis.command("SET", "w:" + owner, 1, "PX", ttl_ms)

    async def alive(self, owners: Sequence[str]) -> set[str]:
        """Those of `owners` whose last beat still counts."""
        found = await asyncio.gather(*(self._redis.command("EXISTS", "w:" + owner) for owner in owners))
        return {owner for owner, there in zip(owners, found, strict=True) if there}

    async def due(self, shard: str, now: int, limit: int = 100) -> list[str]:
        """Holders of the shard whose time was over at `now` (ms) and that nobody has released yet, earliest first.

        On the way it looks after leases that belong to holders of other shards: those whose holder never came to be are
        taken back, the others wait for their holder's end.
        """
        waiting = key(shard, "due")
        rows = await self._redis.command("ZRANGEBYSCORE", waiting, "-inf", now, "LIMIT", 0, limit)
        names = [row.decode() for row in rows]
        for stray in [name for name in names if name.startswith("~")]:
            await self._adopt(shard, stray[1:], now)
        return [name for name in names if not name.startswith("~")]

    async def woken(self, shard: str, now: int, limit: int = 100) -> list[str]:
        """Holders of the shard that wanted to be looked at by `now` (ms, their field `wakes`), earliest first. Each is
        named again until that field changes, or `rest`."""
        rows = await self._redis.command("ZRANGEBYSCORE", key(shard, "w"), "-inf", now, "LIMIT", 0, limit)
        return [row.decode() for row in rows]

    async def rest(self, holder: str) -> None:
        """The holder has ended: nobody looks at it any more."""
        await self._redis.command("ZREM", key(shard_of(holder), "w"), holder)

    async def _adopt(self, shard: str, holder: str, now: int) -> None:
        owner = await self._redis.command("HMGET", record_key(holder), "status", "expires")
        if owner[1] is None:
            await self._redis.script(self._scripts.undo, [key(shard, "h")], [holder])
        elif owner[0] in (b"closed", b"failed"):
            await self._redis.script(self._scripts.release, [key(shard, "h")], [holder, owner[0], "stray", "", 0])
        else:
            # Open: looked at again when its time is over, or in a minute while its own sweeper is late.
            await self._redis.command("ZADD", key(shard, "due"), "XX", max(int(owner[1]), now + 60_000), "~" + holder)


def _full(stream_id: str) -> str:
    return stream_id if "-" in stream_id else stream_id + "-0"
