"""How much a tenant may have, where the operator says so (`[[tenant]]`): open sessions, numbers, recordings, requests.

Of open sessions there is never one too many, whichever process is asked: each is noted, in one script that counts,
before it is bound. A note ends when its session does, at the latest at the session's end. Nothing is asked for tenants
without a quota.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from masking import records
from masking.budgets import Budget
from masking.house import script
from masking.refusals import FieldError, QuotaExceeded, Refused
from pools.inventory import TooMany

if TYPE_CHECKING:
    from masking.house import House
    from pools.grants import Holder
    from pools.inventory import Item, PhoneNumber, State
    from pools.numbers import Number

NOTE: Final = script("quota")
SHARD: Final = len("ses_aaaaaa")  # of a session's id: what stands before its letters
GIGABYTE: Final = 1_000_000_000
REMEMBERED: Final = 10.0  # seconds for which what is stored is not counted again
SEEDED: Final = 500  # notes a command


@asynccontextmanager
async def one_session_more(house: House, tenant: str, letters: str, ends_ms: int) -> AsyncIterator[None]:
    """Around the opening of a session with these letters: `QuotaExceeded` when it would be one too many. What is
    refused inside is not noted; where nobody knows whether it was opened, it stays so until its end."""
    most = house.config.tenant_named(tenant).max_open_sessions
    if not most:
        yield
        return
    wait: int | None = await house.redis.script(NOTE, [_key(tenant)], [house.now_ms, most, letters, ends_ms])
    if wait is not None:
        raise QuotaExceeded(
            f"The tenant may have {most} open sessions, and has them.",
            [FieldError("max_open_sessions", "is reached", f"at most {most} open sessions")],
            retry_after=max(1, min(3600, -(-wait // 1000))),
        )
    try:
        yield
    except Refused:
        await house.redis.command("ZREM", _key(tenant), letters)
        raise


async def session_moved(house: House, tenant: str, session: str, ends_ms: int) -> None:
    """An open session's end is another one."""
    if house.config.tenant_named(tenant).max_open_sessions:
        await house.redis.command("ZADD", _key(tenant), "XX", ends_ms, letters_of(session))


async def session_ended(house: House, holder: Holder) -> None:
    """A session ended before its time."""
    if any(tenant.max_open_sessions for tenant in house.config.tenant) and "record" in holder.fields:
        tenant = records.unpacked(holder.fields["record"]).tenant
        await house.redis.command("ZREM", _key(tenant), letters_of(holder.holder))


async def note_open_sessions(house: House) -> None:
    """Notes what is open already, for tenants whose quota is new; needs the archive."""
    import sqlalchemy as sql  # not at the top: an edge, which has no archive, does without

    from masking import archive

    assert house.archive is not None, "the courier's house has one"
    table = archive.sessions.c
    for tenant in house.config.tenant:
        if not tenant.max_open_sessions:
            continue
        query = sql.select(table.id, table.expires_at)
        query = query.where(table.tenant == tenant.name, table.status != "closed", table.expires_at > house.now())
        async with house.archive.connect() as connection:
            rows = (await connection.execute(query)).all()
        for first in range(0, len(rows), SEEDED):
            notes = [(round(row.expires_at * 1000), letters_of(row.id)) for row in rows[first : first + SEEDED]]
            await house.redis.command("ZADD", _key(tenant.name), "NX", *(word for note in notes for word in note))


async def room_for_recordings(house: House, tenant: str) -> None:
    """`QuotaExceeded` when as much is stored as may be. It is asked when a session is opened that is to be recorded,
    and looked at every few seconds: what a session may record, is recorded."""
    most = house.config.tenant_named(tenant).max_recordings_gb
    if most and await _stored(house, tenant) >= most * GIGABYTE:
        raise QuotaExceeded(
            f"The tenant may keep {most} GB of recordings, and does.",
            [FieldError("max_recordings_gb", "is reached", "record: never, or fewer recordings kept")],
            retry_after=60,
        )


async def _stored(house: House, tenant: str) -> int:
    if house.archive is None:  # opened while its call rings, by whoever may not wait
        return 0
    import sqlalchemy as sql

    from masking import archive

    key = f"stored by {tenant}"
    known = cast("tuple[float, int] | None", house.seen.get(key))
    if known is None or abs(house.now() - known[0]) >= REMEMBERED:
        query = sql.select(sql.func.sum(archive.usage.c.stored_bytes)).where(archive.usage.c.tenant == tenant)
        async with house.archive.connect() as connection:
            known = (house.now(), int((await connection.execute(query)).scalar_one() or 0))
        house.seen[key] = known
    return known[1]


async def add_numbers(
    house: House, tenant: str, service: str, items: Sequence[Item], ageing_ms: int = 0
) -> list[PhoneNumber]:
    """`Inventory.add`; `QuotaExceeded` when the tenant would hold more numbers than it may, those retired left out."""
    most = house.config.tenant_named(tenant).max_numbers
    try:
        return await house.inventory.add(tenant, service, items, most, ageing_ms)
    except TooMany as full:
        raise _too_many("phone_numbers", most, full.held) from None


async def set_state(
    house: House, tenant: str, service: str, number: Number | str, state: State, ageing_ms: int = 0
) -> PhoneNumber:
    """`Inventory.set_state`; `QuotaExceeded` for a number out of retirement that would be one too many."""
    most = house.config.tenant_named(tenant).max_numbers
    try:
        return await house.inventory.set_state(tenant, service, number, state, most, ageing_ms)
    except TooMany as full:
        raise _too_many("state", most, full.held) from None


def _too_many(field: str, most: int, held: int) -> QuotaExceeded:
    wrong = FieldError(field, "is more than the tenant may hold", f"at most {max(0, most - held)} numbers more")
    return QuotaExceeded(f"The tenant may hold {most} numbers that are not retired, and holds {held}.", [wrong])


async def one_request_more(house: House, tenant: str) -> bool:
    """May the tenant be answered another request in this second?"""
    most = house.config.tenant_named(tenant).max_requests_per_second
    return not most or await Budget(f"{{quota:{tenant}}}requests", most, 1).spend(house)


def letters_of(session: str) -> str:
    """What a session's id has behind its shard, which is known before the shard is."""
    return session[SHARD:]


def _key(tenant: str) -> str:
    return f"{{quota:{tenant}}}"
