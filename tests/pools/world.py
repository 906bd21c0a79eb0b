"""A pool with a clock of its own: what the tests of the leases stand on."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pools.grants import Ask, Bound, Channel, Entry, Fact, Policy, Route, holder_id
from pools.inventory import Inventory, Item, PhoneNumber
from pools.keyring import Keyring
from pools.leases import Fields, Leases
from pools.numbers import Number
from pools.redis import Redis
from pools.scripts import ShardScripts

# In the place of the server's TIME: a key that the test sets.
CLOCK = "local function server_time() return tonumber(redis.call('GET', 'test clock')) end\n"
SCRIPTS = ShardScripts(CLOCK)
START = 1_800_000_000_000
TTL = 3_600_000
QUARANTINE = 1_800_000

INITIATED: Fact = ("call.initiated", None, b'{"from":"$from","to":"$to"}')
REFUSED: Fact = ("call.refused", None, b'{"from":"$from","to":"$to","why":"$decision"}')


def pair(first: str, second: str) -> Ask:
    """A shared X: both dial the same number."""
    return Ask((Entry(first, f"par_{first}|par_{second}"), Entry(second, f"par_{second}|par_{first}")))


def one(caller: str, callee: str) -> Ask:
    """A per-party X: only `caller` dials it."""
    return Ask((Entry(caller, f"par_{caller}|par_{callee}"),))


class World:
    """One service of one tenant, its clock at `now` (ms). Parties are plain short names here, as good as any index."""

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        self.redis = redis
        self.inventory = Inventory(redis, keyring)
        self.leases = Leases(redis, SCRIPTS)
        self.now = START
        self._calls = 0

    async def at(self, now: int) -> None:
        self.now = now
        await self.redis.command("SET", "test clock", now)

    async def later(self, span: int) -> None:
        await self.at(self.now + span)

    async def pool(self, size: int, country: str = "VN", prefix: str = "+84240000") -> str:
        """Adds `size` numbers; the name of their shard."""
        items = [Item(f"{prefix}{place:04}", country) for place in range(size)]
        return (await self.inventory.add("t", "default", items))[0].shard

    async def bind(
        self,
        shard: str,
        *asks: Ask,
        holder: str | None = None,
        ttl: int = TTL,
        quarantine: int = QUARANTINE,
        fields: Fields | None = None,
        events: Sequence[Fact] = (),
        policy: Policy = "avoid_sticky",
        cap: int = 256,
    ) -> Bound:
        return await self.leases.bind(
            shard,
            holder or holder_id(shard, os.urandom(17)),
            asks,
            ttl_ms=ttl,
            quarantine_ms=quarantine,
            fields=fields or {},
            events=events,
            policy=policy,
            cap=cap,
        )

    async def number(self, x: str) -> PhoneNumber:
        found = await self.inventory.find(Number.parse(x))
        assert found is not None
        return found

    async def call(self, x: str, caller: str, call: str | None = None, channel: Channel = "voice") -> Route:
        self._calls += 1
        return await self.leases.route(
            await self.number(x),
            caller,
            call or f"call{self._calls}",
            "edge-1",
            b"facts",
            INITIATED,
            REFUSED,
            channel,
            want=["record", "nothing"],
        )

    async def events(self, holder: str) -> list[str]:
        return [entry.type for entry in await self.leases.journal(holder, limit=1000)]

    async def snapshot(self) -> dict[str, bytes]:
        """Everything in Redis but the clocks, to show that nothing was written."""
        keys = sorted(await self.redis.command("KEYS", "*"))
        dumps = {key.decode(): await self.redis.command("DUMP", key) for key in keys if key != b"test clock"}
        return {name: dump for name, dump in dumps.items() if dump is not None}
