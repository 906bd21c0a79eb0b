"""Binds and routes of the usual size, one after the other: what the benchmark asks of the leases."""

from __future__ import annotations

from typing import Final

from pools.grants import Ask, Bound, Entry, Fact, Route, holder_id
from pools.inventory import Item, PhoneNumber
from pools.leases import Leases
from pools.redis import Redis
from pools.scripts import PLACE

TTL: Final = 3_600_000
QUARANTINE: Final = 1_800_000
RECORD: Final = b"s" * 400
FACTS: Final = b"f" * 120
OPENED: Final = b'{"participants":["par_a","par_b"]}'
INITIATED: Final = b'{"from":"$from","to":"$to"}'


def parties_of(n: int) -> tuple[str, str]:
    """Two people nobody else has, named as a keyring names them."""
    return f"p{n:08d}a" + "x" * 6, f"p{n:08d}b" + "x" * 6


def holder_of(shard: str, n: int) -> str:
    return holder_id(shard, n.to_bytes(17, "big"))


def call_of(n: int) -> str:
    return f"int_{n:022d}"


class Load:
    """One shard with `size` numbers."""

    def __init__(self, redis: Redis, shard: str = "bench0", size: int = 200) -> None:
        self.redis = redis
        self.shard = shard
        self.size = size
        self.leases = Leases(redis)
        self.bound: list[tuple[PhoneNumber, str, str]] = []
        self._by_number: dict[str, PhoneNumber] = {}

    async def open(self) -> None:
        items = [Item(f"+84247300{n:04d}", "VN", "") for n in range(self.size)]
        words: list[str | int] = []
        for place, item in enumerate(items):
            words += [place, item.number, "active", 1]
            self._by_number[item.number] = PhoneNumber(
                number=item.number, tenant="t", service="default", country="VN", trunk="", state="active",
                shard=self.shard, position=place,
            )  # fmt: skip
        await self.redis.script(PLACE, ["{" + self.shard + "}h"], words)

    async def bind(self, n: int) -> Bound:
        """A shared X for two new parties, with a session record of the usual size and its two first events."""
        bound = await self.bind_parties(n, *parties_of(n))
        self.bound.append((self._by_number[bound.numbers[0]], parties_of(n)[0], bound.holder))
        return bound

    async def bind_parties(self, n: int, *parties: str) -> Bound:
        """The same for these two."""
        entries = tuple(Entry(party, "par_a|par_b" if i == 0 else "par_b|par_a") for i, party in enumerate(parties))
        events: list[Fact] = [("session.opened", None, OPENED), ("number.leased", None, OPENED)]
        return await self.leases.bind(
            self.shard, holder_of(self.shard, n), [Ask(entries)], ttl_ms=TTL, quarantine_ms=QUARANTINE,
            fields={"record": RECORD}, events=events,
        )  # fmt: skip

    async def route(self, n: int) -> Route:
        """A route that claims a call slot and writes its first event; asked again it only reads."""
        number, party, _ = self.bound[n % len(self.bound)]
        found = await self.leases.route(
            number, party, call_of(n), "edge-1", FACTS,
            ("call.initiated", None, INITIATED), ("call.refused", None, INITIATED),
        )  # fmt: skip
        assert found.decision == "routed", found.decision
        return found

    async def lookup(self, n: int) -> bytes:
        """The entry of (X, caller) alone."""
        number, party, _ = self.bound[n % len(self.bound)]
        found: bytes = await self.redis.command("HGET", "{" + self.shard + "}p:" + party, number.position)
        return found
