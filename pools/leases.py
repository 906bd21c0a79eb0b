"""Leases: who holds which X until when, and the journal of every holder.

The routing key is (X, caller). A binding takes an X that none of its parties holds or has in quarantine; one entry per
(party, X) is at once the guard, the route and, after the end, the tombstone. Each method is one Lua script and one
round trip in the holder's shard (`scripts/*.lua` say what each reads and writes); only leases in further shards cost
more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from pools.amendments import Amending
from pools.amendments import Step as Step
from pools.grants import (
    Amended,
    Appended,
    Ask,
    Bound,
    Channel,
    Exhausted,
    Extended,
    Fact,
    Lease,
    Policy,
    Released,
    Reopened,
    Route,
    Standing,
    Take,
    Tight,
    shard_of,
)
from pools.inventory import PhoneNumber
from pools.journal import OWN_FIELDS, Journal, key
from pools.redis import Redis, Word
from pools.scripts import SHARD, ShardScripts

Fields = Mapping[str, str | bytes | int]

_SHARD: Final = re.compile(r"[a-z0-9]{6}", re.ASCII)
_PARTY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_TARGET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\|[A-Za-z0-9_-]{1,64}", re.ASCII)
_OWNER: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


def _counted_fields(fields: Fields | None) -> list[Word]:
    if fields is None:
        return [0]
    if not OWN_FIELDS.isdisjoint(fields):
        raise ValueError(f"pools keeps these fields itself: {sorted(OWN_FIELDS.intersection(fields))}")
    return [len(fields), *chain.from_iterable(fields.items())]


def _fact(fact: Fact) -> tuple[Word, Word, Word]:
    kind, at, data = fact
    return kind, "" if at is None else at, data


def _counted_events(events: Sequence[Fact]) -> list[Word]:
    return [len(events), *chain.from_iterable(map(_fact, events))]


def _number_list(text: bytes) -> tuple[str, ...]:
    return tuple(text.decode().split())


def _tight(shard: str, reply: Any) -> list[Tight]:
    return [Tight(shard, reply[6], reply[7])] if reply[0] == b"bound" else []


class Leases(Journal):
    """Grants and their journals. Of a holder's fields `wakes` (ms, or empty) is when `woken` names it. Every
    method raises `pools.redis.Unavailable` when Redis cannot answer in time."""

    def __init__(self, redis: Redis, scripts: ShardScripts = SHARD) -> None:
        super().__init__(redis, scripts)

    async def prepare(self) -> None:
        """Makes a call's scripts known to the server, so that what is asked in order is also done in order: one that
        the server does not know is sent a second time, behind what was asked after it."""
        for script in (self._scripts.route, self._scripts.append):
            await self._redis.command("SCRIPT", "LOAD", script.text)

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

        Idempotent by holder: bound before, it gets what it has and nothing is written. `fields` become the holder's
        fields (opaque here but for those `route` reads), `events` its first journal entries; in their data ``$x0``,
        ``$x1`` … stand for the X of ask 0, 1 … `Exhausted` when the shard has no X for an ask; `cap` bounds what one
        party may hold or have in quarantine in the shard. ValueError for an ask that makes no sense.

        A party may be a *secret* (`grants.secret`) instead of a person: of those of one length at most
        10^(digits - 4) live on an X, so that a guess opens something once in 10,000 at most.
        """
        return await self.bind_across(
            holder,
            [(shard, ask) for ask in asks],
            ttl_ms=ttl_ms,
            quarantine_ms=quarantine_ms,
            fields=fields,
            events=events,
            policy=policy,
            cap=cap,
        )

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
        """`bind` for asks in several shards, each named beside its ask (a per-party X in each of two countries).

        The other shards go first, the holder's own last, so that no route leads anywhere before all is decided. When a
        shard is exhausted, what the others gave is taken back. After `Unavailable` repeat with the same holder, or let
        it be: what other shards gave to a holder that never came to be, `due` takes back in a minute or so.
        """
        home = shard_of(holder)
        targets = _checked_targets(placed)
        others = sorted({shard for shard, _ in placed if shard != home})
        opening: list[Word] = [holder, ttl_ms, quarantine_ms, policy, cap]
        given: dict[int, str] = {}
        done: list[str] = []
        tight: list[Tight] = []
        try:
            for shard in others:
                words = [*opening, "", "", "", *_asks_of(shard, placed, None), 0, 0]
                reply = await self._bind_in(shard, words)
                done.append(shard)
                tight += _tight(shard, reply)
                mine = [i for i, (where, _) in enumerate(placed) if where == shard]
                given.update(zip(mine, _number_list(reply[1]), strict=True))
            words = [*opening, "1", targets, " ".join(others), *_asks_of(home, placed, given)]
            reply = await self._bind_in(home, words + _counted_fields(fields) + _counted_events(events))
            tight += _tight(home, reply)
        except Exhausted:
            for shard in done:
                await self._redis.script(self._scripts.undo, [key(shard, "h")], [holder])
            raise
        return Bound(
            holder=holder,
            numbers=_number_list(reply[1]),
            expires=int(reply[2]),
            status=reply[3].decode(),
            seq=int(reply[4]),
            rev=int(reply[5]),
            fresh=reply[0] == b"bound",
            tight=max(tight, key=lambda one: one.part, default=None),
        )

    async def _bind_in(self, shard: str, words: Sequence[Word]) -> Any:
        reply = await self._redis.script(self._scripts.bind, [key(shard, "h")], words)
        if reply[0] == b"exhausted":
            raise Exhausted(shard, needed=reply[1], retry_after=reply[2] / 1000 if reply[2] >= 0 else None)
        return reply

    async def extend(
        self,
        holder: str,
        *,
        expires: int | None = None,
        ttl_ms: int | None = None,
        events: Sequence[Fact] = (),
        fields: Fields | None = None,
    ) -> Extended:
        """Moves the end of every lease of the holder to `expires` (ms), or to now + `ttl_ms`; earlier is fine too."""
        if (expires is None) == (ttl_ms is None):
            raise ValueError("extend wants either expires or ttl_ms")
        when: list[Word] = ["" if expires is None else expires, "" if ttl_ms is None else ttl_ms]
        words = [holder, *when, "1", *_counted_fields(fields), *_counted_events(events)]
        reply = await self._redis.script(self._scripts.extend, [key(shard_of(holder), "h")], words)
        if reply[0] == b"gone":
            return Extended(outcome="ended", expires=0, seq=0)
        if reply[0] == b"extended":
            for shard in _number_list(reply[3]):
                await self._redis.script(self._scripts.extend, [key(shard, "h")], [holder, reply[1], "", "", 0, 0])
        return Extended(outcome=reply[0].decode(), expires=int(reply[1]), seq=int(reply[2]))

    async def release(
        self,
        holder: str,
        *,
        status: str = "closed",
        reason: str,
        events: Sequence[Fact] = (),
        only_lapsed: bool = False,
    ) -> Released:
        """Ends every lease of the holder; its entries are tombstones for the quarantine. Idempotent.

        `status`: ``closed`` or ``failed``. `only_lapsed` (the sweeper): only when its time is over by the shard.
        The holder stays readable, and its journal open to the calls that are still up, for hours after the tombstones.
        """
        if status not in ("closed", "failed"):
            raise ValueError("a holder ends closed or failed")
        ending: list[Word] = [holder, status, reason]
        words = [*ending, "1" if only_lapsed else "", *_counted_events(events)]
        reply = await self._redis.script(self._scripts.release, [key(shard_of(holder), "h")], words)
        if reply[0] == b"gone":
            return Released(outcome="gone", seq=0)
        if reply[0] != b"live":
            for shard in _number_list(reply[2]):
                await self._redis.script(self._scripts.release, [key(shard, "h")], [*ending, "", 0])
        return Released(outcome=reply[0].decode(), seq=int(reply[1]))

    async def reopen(
        self, holder: str, *, expires: int, events: Sequence[Fact] = (), fields: Fields | None = None
    ) -> Reopened:
        """Gives an ended holder its leases again until `expires` (ms), all or none, while its tombstones stand.

        The other shards go first; when one of them says no, or the holder's own does, the others' are ended again.
        """
        record = await self.read(holder)
        others = record.shards if record is not None else ()
        done: list[str] = []
        reply: Any = [b"gone"]
        for shard in others:
            reply = await self._redis.script(self._scripts.reopen, [key(shard, "h")], [holder, expires, "", 0, 0])
            if reply[0] != b"reopened":
                break
            done.append(shard)
        else:
            words = [holder, expires, "1", *_counted_fields(fields), *_counted_events(events)]
            reply = await self._redis.script(self._scripts.reopen, [key(shard_of(holder), "h")], words)
        if reply[0] not in (b"reopened", b"open"):
            for shard in done:
                await self._redis.script(self._scripts.release, [key(shard, "h")], [holder, "closed", "stray", "", 0])
        if reply[0] == b"gone":
            return Reopened(outcome="gone", expires=0, seq=0)
        return Reopened(outcome=reply[0].decode(), expires=int(reply[1]), seq=int(reply[2]))

    async def amend(
        self,
        holder: str,
        steps: Sequence[Step],
        *,
        targets: Sequence[str],
        expect_rev: int,
        fields: Fields,
        events: Sequence[Fact],
        elsewhere: Mapping[str, Sequence[Step]] | None = None,
    ) -> Amended:
        """Changes who of a live holder dials what, all steps or none: `steps` in its own shard, `elsewhere` in others
        (`pools.amendments`).

        `targets`: those it has, whose words may change, then the new ones the steps name. In the events ``$x<slot>``
        stands for the holder's numbers. `Exhausted` when there is no X for a `Lease`. ValueError for a target or a
        party that makes no sense.
        """
        every = [*steps, *chain.from_iterable((elsewhere or {}).values())]
        parties = [step.party for step in every if isinstance(step, Take)]
        parties += [party for step in every if isinstance(step, Lease) for _, party in step.entries]
        if not all(map(_PARTY.fullmatch, parties)) or not all(map(_TARGET.fullmatch, targets)):
            raise ValueError("an amendment names parties by their index, and targets as from|to")
        amending = Amending(self._redis, self._scripts, holder)
        more = [*_counted_fields(fields), *_counted_events(events)]
        if elsewhere:
            return await amending.across(expect_rev, steps, targets, more, elsewhere)
        return await amending.at_home(expect_rev, steps, targets, more)

    async def route(
        self,
        number: PhoneNumber,
        caller: str,
        call: str,
        owner: str,
        facts: bytes,
        event: Fact,
        refusal_event: Fact,
        channel: Channel = "voice",
        want: Sequence[str] = ("record",),
    ) -> Route:
        """Who is behind (X, `caller`)? One round trip; two when X is of another shard than its holder.

        Routed, `call` holds a slot, with `owner` and `facts` beside it, and `event` is in the holder's journal; refused
        (`ended`, `limit`, `mode`, `direction`, `blocked`), `refusal_event` is. In their data ``$from``, ``$to`` and
        ``$decision`` are filled in. `want` names the holder's fields to bring. Asked again with the same `call` while
        it is up, the answer is the same and nothing is written.

        Read here are the holder's fields `max_calls` (0 or absent: no limit), `mode` (``voice_only`` or
        ``message_only``), `denied` (``from|to`` pairs with spaces between), `stages` (of each ``begins:``, ms, and
        its denied pairs with commas between; the last that has begun counts instead), `paused` and `late` (any text).
        After `Unavailable` the slot may have been claimed: end the call with `append(end_call=…)` when Redis is back;
        the sweeper does when the owner is dead.
        """
        if _OWNER.fullmatch(owner) is None:
            raise ValueError("an owner is letters, digits and _ . : -")
        rest: list[Word] = [call, owner, facts, channel, *_fact(event), *_fact(refusal_event), *want]
        words: list[Word] = [number.position, caller, *rest]
        reply = await self._redis.script(self._scripts.route, [key(number.shard, "h")], words)
        if reply[0] == b"elsewhere":
            home = key(shard_of(reply[1].decode()), "h")
            reply = await self._redis.script(self._scripts.route, [home], [reply[2], "", *rest])
        if reply[0] == b"no_binding":
            return Route(decision="no_binding")
        return Route(
            decision=reply[0].decode(),
            holder=reply[1].decode(),
            source=reply[2].decode(),
            target=reply[3].decode(),
            expires=int(reply[4]),
            seq=int(reply[5]),
            repeated=reply[6] == b"1",
            fields={name: value for name, value in zip(want, reply[7:], strict=True) if value is not None},
        )

    async def bound(self, number: PhoneNumber, party: str, now: int) -> tuple[str, int] | None:
        """The holder that (X, `party`) is bound to at `now` (ms), and which of its targets is meant; None for nobody.
        Nothing is written, and `route` may know better."""
        found = await self.standing(number, party)
        return (found.holder, found.ordinal) if found is not None and found.expires > now else None

    async def standing(self, number: PhoneNumber, party: str) -> Standing | None:
        """What (X, `party`) says, lapsed or not; None for nothing. Nothing is written."""
        entry = await self._redis.command("HGET", key(number.shard, "p:" + party), number.position)
        if entry is None:
            return None
        expires, until, _, _, holder, ordinal = entry.decode().split(":")
        return Standing("ses_" + holder, int(ordinal), int(expires), int(until))

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
        """Journal, fields and call slot in one step, or nothing at all.

        `set_fields` raises `rev` by one; `expect_rev` makes it a compare-and-set. `end_call` frees the call's slot: the
        second end of a call writes nothing and says ``ended``. `call_facts` (call, owner, facts) replaces what stands
        beside a call that is still up, its owner too. `only_owner`: only while that is the call's owner.
        """
        if end_call is not None and call_facts is not None:
            raise ValueError("a call either ends or goes on")
        changed, owner, facts = call_facts or ("", "", b"")
        if call_facts is not None and _OWNER.fullmatch(owner) is None:
            raise ValueError("an owner is letters, digits and _ . : -")
        rev = "" if expect_rev is None else expect_rev
        words: list[Word] = [holder, rev, end_call or "", changed, owner, facts, only_owner or ""]
        words += [*_counted_fields(set_fields), *_counted_events(events)]
        reply = await self._redis.script(self._scripts.append, [key(shard_of(holder), "h")], words)
        if reply[0] == b"gone":
            return Appended(outcome="gone", seq=0, rev=0)
        return Appended(outcome=reply[0].decode(), seq=int(reply[1]), rev=int(reply[2]))


def _checked_targets(placed: Iterable[tuple[str, Ask]]) -> str:
    """The targets by ordinal. An ask that would corrupt an entry, or that no X can answer, is refused here."""
    targets = []
    for shard, ask in placed:
        if _SHARD.fullmatch(shard) is None:
            raise ValueError("a shard is six lower-case letters or digits")
        parties = set()
        for entry in ask.entries:
            if _PARTY.fullmatch(entry.party) is None:
                raise ValueError("an ask names one or more different parties by their index")
            if _TARGET.fullmatch(entry.target) is None:
                raise ValueError("a target is two participant ids, from|to")
            parties.add(entry.party)
            targets.append(entry.target)
        if not 0 < len(ask.entries) == len(parties):
            raise ValueError("an ask names one or more different parties by their index")
    return " ".join(targets)


def _asks_of(shard: str, placed: Sequence[tuple[str, Ask]], given: Mapping[int, str] | None) -> list[Word]:
    """The asks as `bind.lua` reads them. `given` (the holder's own shard) has the numbers other shards gave, by place;
    without it only the asks of `shard` are told."""
    words: list[Word] = []
    ordinal = count = 0
    for place, (where, ask) in enumerate(placed):
        if where == shard or given is not None:
            near = "~" + ask.near if ask.near else ""
            known = near if given is None else given.get(place, near)
            words += [known, ordinal, len(ask.entries), *[entry.party for entry in ask.entries]]
            count += 1
        ordinal += len(ask.entries)
    return [count, *words]
