"""Leases: who holds which X until when, and the journal of every holder. Each method is one Lua script, one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pools.grants import (
    Appended,
    Ask,
    Bound,
    Extended,
    Fact,
    Holder,
    JournalEntry,
    LiveCall,
    OutboxEntry,
    Policy,
    Released,
    Route,
)
from pools.inventory import PhoneNumber
from pools.keyring import Keyring
from pools.redis import Redis

Fields = Mapping[str, str | bytes | int]


class Leases:
    """All methods raise `pools.redis.Unavailable` when Redis cannot answer within its budget."""

    def __init__(self, redis: Redis, keyring: Keyring) -> None:
        raise NotImplementedError

    async def bind(
        self,
        shard: str,
        holder: str,
        asks: Sequence[Ask],
        *,
        ttl_ms: int,
        quarantine_ms: int,
        fields: Fields,
        events: Sequence[Fact],
        policy: Policy = "avoid_sticky",
        cap: int = 256,
    ) -> Bound:
        """One X per ask, all or none, in the holder's own shard (``shard_of(holder) == shard``).

        Idempotent by holder: bound before, it gets what it has and nothing is written. `fields` become the holder's fields (opaque
        here, except `max_calls`, `mode`, `denied`, `paused`, see `route`), `events` its first journal entries; in their data
        ``$x0``, ``$x1`` … stand for the number of ask 0, 1 … `Exhausted` when the shard has no X for an ask; `cap` bounds what one party
        may hold or have in quarantine here.
        """
        raise NotImplementedError

    async def bind_across(
        self,
        holder: str,
        placed: Sequence[tuple[str, Ask]],
        *,
        ttl_ms: int,
        quarantine_ms: int,
        fields: Fields,
        events: Sequence[Fact],
        policy: Policy = "avoid_sticky",
        cap: int = 256,
    ) -> Bound:
        """`bind` for asks in several shards, each named beside its ask (per-party X in two countries). The other shards first, the
        holder's own last; when one fails, those already bound are freed again. `Bound.numbers` in the order of `placed`."""
        raise NotImplementedError

    async def extend(
        self,
        holder: str,
        *,
        expires: int | None = None,
        ttl_ms: int | None = None,
        events: Sequence[Fact] = (),
        fields: Fields | None = None,
    ) -> Extended:
        """Moves the end of every lease of the holder to `expires` (ms), or to now + `ttl_ms`."""
        raise NotImplementedError

    async def release(
        self,
        holder: str,
        *,
        status: str = "closed",
        reason: str,
        events: Sequence[Fact] = (),
        only_lapsed: bool = False,
    ) -> Released:
        """Ends every lease of the holder: its entries are tombstones for the quarantine. Idempotent. `only_lapsed` (the sweeper): only
        when its time is over by the shard's clock."""
        raise NotImplementedError

    async def route(
        self,
        number: PhoneNumber,
        caller: str,
        call: str,
        owner: str,
        facts: bytes,
        event: Fact,
        refusal_event: Fact,
        channel: str = "voice",
        want: Sequence[str] = ("record",),
    ) -> Route:
        """Who is behind (X, `caller`), in one round trip; when routed, `call` holds a slot and `event` is in the holder's journal,
        when refused (`ended`, `limit`, `mode`, `direction`, `blocked`) `refusal_event` is. In their data ``$from``, ``$to`` and
        ``$decision`` are filled in. `want` names the holder's fields to bring.

        Fields of the holder that are read here: `max_calls` (0 or absent: no limit), `mode`, `denied` (``from|to`` pairs with spaces
        between), `paused`, `status` (anything but ``closed`` and ``failed`` is live). After `Unavailable` the slot may have been claimed:
        end the call with `append(end_call=…)` when Redis is back, and the sweeper does when the owner's heartbeat is gone.
        """
        raise NotImplementedError

    async def append(
        self,
        holder: str,
        events: Sequence[Fact],
        set_fields: Fields | None = None,
        expect_rev: int | None = None,
        end_call: str | None = None,
        call_facts: tuple[str, str, bytes] | None = None,
        only_owner: str | None = None,
    ) -> Appended:
        """Journal, fields and call slot in one step. `set_fields` raises `rev` by one; `end_call` frees the call's slot, the second end of
        a call writes nothing; `call_facts` (call, owner, facts) replaces the facts of a call that is still live."""
        raise NotImplementedError

    async def read(self, holder: str) -> Holder | None:
        """The holder, readable until well after its tombstones are gone; None then."""
        raise NotImplementedError

    async def journal(self, holder: str, after_seq: int = 0, limit: int = 100) -> list[JournalEntry]:
        """The holder's journal after `after_seq`."""
        raise NotImplementedError

    async def outbox(self, shard: str, after: str = "0", limit: int = 500) -> list[OutboxEntry]:
        """Entries of the shard's outbox after the id `after`."""
        raise NotImplementedError

    async def outboxes(self, after: Mapping[str, str], block_ms: int, limit: int = 500) -> list[OutboxEntry]:
        """Entries of many outboxes, each after its own id; waits up to `block_ms` for the first. Needs a `Redis(blocking=True)`."""
        raise NotImplementedError

    async def trim(self, shard: str, upto: str) -> int:
        """Drops the outbox entries up to and with the id `upto`; how many."""
        raise NotImplementedError

    async def live_calls(self, shard: str) -> list[LiveCall]:
        """Every call that holds a slot in the shard."""
        raise NotImplementedError

    async def beat(self, owner: str, ttl_ms: int) -> None:
        """The owner is alive for another `ttl_ms`."""
        raise NotImplementedError

    async def alive(self, owners: Sequence[str]) -> set[str]:
        """Those of `owners` whose last beat still counts."""
        raise NotImplementedError

    async def due(self, shard: str, now: int, limit: int = 100) -> list[str]:
        """Holders of the shard whose time was over at `now`, and that nobody has released yet."""
        raise NotImplementedError
