"""The peers of the leases: scripts that are told every key and value, write them, and decide nothing.

They write what `Load`'s binds and routes write, byte for byte as many, into a shard of their own
(`test_bench.py` compares the two).
"""

from __future__ import annotations

from typing import Final

from pools.redis import Redis, Script, Word
from tests.pools.load import FACTS, INITIATED, OPENED, QUARANTINE, RECORD, TTL, call_of, holder_of, parties_of

NOW: Final = 1_800_000_000_000
MARGIN: Final = 3 * 3_600_000

# KEYS: two parties, head, journal, outbox, due, holder. ARGV: position, two entries, ms to keep them, clock, cursor,
# holder, its end, the rows and events of the journal, then the fields of the holder.
BIND: Final = Script("bare bind", """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[3], 'clock', ARGV[5], 'cursor', ARGV[6])
redis.call('RPUSH', KEYS[4], ARGV[9], ARGV[12])
redis.call('XADD', KEYS[5], '*', 'holder', ARGV[7], 'seq', '1', 'type', ARGV[10], 'at', ARGV[5], 'data', ARGV[11])
redis.call('XADD', KEYS[5], '*', 'holder', ARGV[7], 'seq', '2', 'type', ARGV[13], 'at', ARGV[5], 'data', ARGV[14])
redis.call('ZADD', KEYS[6], ARGV[8], ARGV[7])
redis.call('HSET', KEYS[7], unpack(ARGV, 15))
return {'bound', ARGV[1], ARGV[8], 'open', 2, 1}
""")  # fmt: skip

# KEYS: live, journal, outbox, holder. ARGV: call, its fact, journal's row, holder, seq, type, at, data, calls.
ROUTE: Final = Script("bare route", """
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('XADD', KEYS[3], '*', 'holder', ARGV[4], 'seq', ARGV[5], 'type', ARGV[6], 'at', ARGV[7], 'data', ARGV[8])
redis.call('HSET', KEYS[4], 'seq', ARGV[5], 'calls', ARGV[9])
return {'routed', ARGV[4], 'par_a', 'par_b', ARGV[7], ARGV[5], ''}
""")  # fmt: skip

READ: Final = Script("bare read", "return redis.call('GET', KEYS[1])")


class Bare:
    """A shard that holds what it is told."""

    SHARD: Final = "bare00"

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.routed: dict[str, int] = {}

    def _key(self, rest: str) -> str:
        return "{" + self.SHARD + "}" + rest

    def _value(self, n: int) -> str:
        return self._key("k:" + parties_of(n)[0])

    async def bind(self, n: int) -> None:
        parties, holder, position = parties_of(n), holder_of(self.SHARD, n), n % 200
        ends = f"{NOW + TTL}:{NOW + TTL + QUARANTINE}"
        keys = [self._key(rest) for rest in (*("p:" + party for party in parties), "h", "e:" + holder, "o", "due")]
        words: list[Word] = [position, *(f"{ends}:1:1:{holder[4:]}:{which}" for which in (0, 1))]
        words += [TTL + QUARANTINE + MARGIN, NOW, position, holder, NOW + TTL]
        for kind in (b"session.opened", b"number.leased"):
            words += [b"%b %d %b" % (kind, NOW, OPENED), kind, OPENED]
        words += ["status", "open", "expires", NOW + TTL, "until", NOW + TTL + QUARANTINE, "quarantine", QUARANTINE]
        words += ["rev", 1, "calls", 0, "numbers", f"+84247300{position:04d}", "targets", "par_a|par_b par_b|par_a"]
        words += ["shards", "", "grants", f"{position}:0:{parties[0]} {position}:1:{parties[1]}"]
        words += ["record", RECORD, "seq", 2]
        await self.redis.script(BIND, [*keys, self._key("s:" + holder)], words)

    async def route(self, n: int) -> None:
        holder = holder_of(self.SHARD, n)
        seq = self.routed[holder] = self.routed.get(holder, 2) + 1
        data = INITIATED.replace(b"$from", b"par_a").replace(b"$to", b"par_b")
        fact = b"%b|edge-1|%d|%b" % (holder.encode(), NOW, FACTS)
        event: list[Word] = [holder, seq, "call.initiated", NOW, data, seq - 2]
        words = [call_of(n), fact, b"call.initiated %d %b" % (NOW, data), *event]
        keys = [self._key(rest) for rest in ("live", "e:" + holder, "o", "s:" + holder)]
        await self.redis.script(ROUTE, keys, words)

    async def read(self, n: int) -> None:
        """One GET in a script."""
        await self.redis.script(READ, [self._value(n)], [])

    async def set(self, n: int) -> None:
        """What the others get: as long as an entry, under a name as long as a party's."""
        await self.redis.command("SET", self._value(n), b"v" * 62)

    async def get(self, n: int) -> bytes | None:
        """A plain GET."""
        found: bytes | None = await self.redis.command("GET", self._value(n))
        return found
