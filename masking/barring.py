"""Blocks: who may not reach whom any more, whatever session connects them.

A block is on a pair, on a person within a service, or on a person's number everywhere in the tenant; both ways, or one.
Redis knows people by their blind index. A call asks in one more round trip, and only in a tenant that has blocks; an
edge learns within a second that it has.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import Meta

from masking import checks, numbering, records, services
from masking.disputes import Reason, check_texts
from masking.events import append_loose, moment
from masking.house import Unavailable, script
from masking.refusals import FieldError, Invalid, InvalidPhoneNumber, NotFound
from masking.sessions import Identifier

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.records import Person, Record

REMEMBERED: Final = 1.0  # seconds for which a process trusts that a tenant has no blocks
BLOCK: Final = script("block")

Scope = Literal["pair", "service", "number"]
Direction = Literal["both", "outbound", "inbound"]


class Someone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person: `participant` of `session`, with all their phones, or the number itself, E.164. Its repr does not show
    it."""

    session: Annotated[str, Meta(max_length=64)] | None = None
    participant: Annotated[str, Meta(max_length=64)] | None = None
    identifier: Identifier | None = None

    def __repr__(self) -> str:
        return "<Someone>"


class NewBlock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/blocks`. `direction`: may `who` not call (`outbound`), not be called (`inbound`), or neither. `to`: the
    other one of a `pair`; `service`: where a block of `scope: service` holds."""

    scope: Scope
    who: Someone
    to: Someone | None = None
    service: Annotated[str, Meta(min_length=1, max_length=191)] | None = None
    direction: Direction = "both"
    reason: Reason


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block as the API shows it; `who` and `to` are masked (`+8490…67`), `service` is its id."""

    id: str
    scope: Scope
    who: str
    to: str | None
    service: str | None
    direction: Direction
    reason: str
    created_at: datetime


class _Kept(msgspec.Struct, frozen=True):
    """A block as Redis holds it, with what it blocks."""

    block: Block
    words: list[str]


async def create(house: House, access: Access, new: NewBlock, id: str | None = None) -> Block:
    """A new block, in force within a second; made again with the same `id` it is the same block. `Invalid` and its kin,
    `NotFound` for a session or a service."""
    check_texts(house, {"reason": new.reason})
    if (new.scope == "pair") != (new.to is not None):
        raise Invalid.field("to", "does not go with the scope", "the other person of a pair, and of a pair alone")
    if new.scope != "service" and new.service is not None:
        raise Invalid.field("service", "does not go with the scope", "scope service")
    parties, who = await _person(house, access, "who", new.who)
    others, to = ([""], None) if new.to is None else await _person(house, access, "to", new.to)
    service = None
    if new.scope == "service":
        service = (await services.get(house, access.tenant, new.service or "default")).id
    block = Block(
        id=id or house.token("blk_"),
        scope=new.scope,
        who=who,
        to=to,
        service=service,
        direction=new.direction,
        reason=new.reason,
        created_at=moment(house.now()),
    )
    words = [word for one, other in product(parties, others) for word in _words(block, one, other)]
    kept = msgspec.json.encode(_Kept(block, words))
    await house.redis.script(BLOCK, _keys(access.tenant), [1, block.id, kept, *words])
    house.seen.pop(_seen(access.tenant), None)
    people = {name: one.participant for name, one in (("who", new.who), ("to", new.to)) if one is not None}
    await _tell(house, access, "abuse.blocked", block, {"session": new.who.session} | people)
    return block


async def listing(house: House, tenant: str) -> list[Block]:
    """The tenant's blocks, oldest first."""
    rows = await house.redis.command("HVALS", _keys(tenant)[0])
    found = [msgspec.json.decode(raw, type=_Kept).block for raw in rows]
    return sorted(found, key=lambda block: (block.created_at, block.id))


async def remove(house: House, access: Access, block: str) -> None:
    """Takes the block back; `NotFound`."""
    raw = await house.redis.command("HGET", _keys(access.tenant)[0], block)
    kept = msgspec.json.decode(raw, type=_Kept) if raw is not None else None
    if kept is None or not await house.redis.script(BLOCK, _keys(access.tenant), [-1, block, "", *kept.words]):
        raise NotFound("No such block.")
    await _tell(house, access, "abuse.unblocked", kept.block, {})


async def between(house: House, record: Record, caller: Person, callee: Person) -> bool:
    """May `caller` not reach `callee`? Raises `pools.redis.Unavailable`."""
    if not await _any(house, record.tenant):
        return False
    words = [f"pair {one} {other}" for one, other in product(caller.parties, callee.parties)]
    for place in (f"service {record.service}", "number"):
        words += [f"{place} outbound {party}" for party in caller.parties]
        words += [f"{place} inbound {party}" for party in callee.parties]
    found = await house.redis.command("HMGET", _keys(record.tenant)[1], *words)
    return any(one is not None for one in found)


def look(house: House, tenant: str) -> Awaitable[Any]:
    """Asks, once a second at most, whether the tenant has blocks. It is on its way when this returns, so that it
    travels with what a call asks next."""
    now = house.now()
    at, asked = house.seen.get(_seen(tenant), (0.0, None))
    if asked is None or abs(now - at) >= REMEMBERED:
        asked = house.ahead("EXISTS", _keys(tenant)[1])
        house.seen[_seen(tenant)] = (now, asked)
    return cast("Awaitable[Any]", asked)


async def _any(house: House, tenant: str) -> bool:
    try:
        return bool(await look(house, tenant))
    except Unavailable:
        house.seen.pop(_seen(tenant), None)  # the next call asks anew
        raise


async def _person(house: House, access: Access, field: str, someone: Someone) -> tuple[list[str], str]:
    """The blind indexes of a person's phones, and how they are shown."""
    named = someone.session is not None and someone.participant is not None
    if named == (someone.identifier is not None) or (someone.session is None) != (someone.participant is None):
        raise Invalid.field(field, "names nobody, or two", "`session` and `participant`, or `identifier`")
    if someone.identifier is not None:
        number = numbering.person(someone.identifier)
        if number is None:
            error = FieldError(f"{field}.identifier", "is not a valid phone number", checks.E164)
            raise InvalidPhoneNumber(f"{field}.identifier is not a valid phone number.", [error])
        return [house.keyring.index(number)], str(number)
    found = await records.held(house, access.tenant, str(someone.session))
    if found is None:
        raise NotFound("No such session, or one that ended so long ago that its people are forgotten.")
    person = next((one for one in found[1].people if one.id == someone.participant), None)
    if person is None:
        raise Invalid.field(f"{field}.participant", "is no participant of the session", "the id of one, par_…")
    return list(person.parties), person.display


def _words(block: Block, who: str, to: str) -> list[str]:
    """What the block blocks, as `between` asks."""
    ways = ("outbound", "inbound") if block.direction == "both" else (block.direction,)
    if block.scope == "pair":
        return [f"pair {who} {to}" if way == "outbound" else f"pair {to} {who}" for way in ways]
    place = f"service {block.service}" if block.scope == "service" else "number"
    return [f"{place} {way} {who}" for way in ways]


async def _tell(
    house: House,
    access: Access,
    kind: Literal["abuse.blocked", "abuse.unblocked"],
    block: Block,
    said: dict[str, str | None],
) -> None:
    data = {"block": block.id, "scope": block.scope, "direction": block.direction, "service": block.service}
    known = {"reason": block.reason, "key": access.key}
    await append_loose(house, access.tenant, kind, house.now(), data | known | said)


def _keys(tenant: str) -> list[str]:
    return [f"blocks:{{{tenant}}}", f"blocked:{{{tenant}}}"]


def _seen(tenant: str) -> str:
    return f"blocks of {tenant}"
