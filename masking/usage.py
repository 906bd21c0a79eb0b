"""What a tenant used: sessions, calls by the second and as billed, recordings made and kept, numbers held.

The courier adds it up by day (UTC) and service while it folds the events in (`masking.courier.metering`); this reads
it. A call counts on the day it ended. Everything is UTC days since 1970 inside, dates outside.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import sqlalchemy as sql

from masking import archive
from masking.refusals import Invalid

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from masking.house import House

DAY: Final = 86_400
LONGEST: Final = 366  # days of one report
EPOCH: Final = date(1970, 1, 1)
GIGABYTE: Final = 1_000_000_000
By = Literal["total", "day", "service", "day_service"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used `from` a day (included) `to` a day (excluded), UTC. `service`: null for all of them together.

    `calls` are those with `call_seconds` (the sum of their interactions' `billable`, measured); `billed_seconds` the
    same, each call rounded as the operator agreed with the tenant. `recording_seconds`: the length of the recordings
    that became available. `recording_gb_days`: what was kept, times how long (1 GB is 10^9 bytes). `number_days`: the
    virtual numbers held, day by day.
    """

    from_: date = msgspec.field(name="from")
    to: date
    service: str | None
    sessions: int
    calls: int
    call_seconds: float
    billed_seconds: int
    recordings: int
    recording_seconds: float
    recording_gb_days: float
    number_days: int


def day_of(at: float) -> int:
    """The day of a moment, both since 1970."""
    return int(at // DAY)


async def report(house: House, tenant: str, since: date | None, until: date | None, by: By) -> list[Usage]:
    """The tenant's usage from `since` (by default the first of the month) until before `until` (by default tomorrow),
    in the order of days and services; only days and services of which there is any, but always a total. `Invalid` for a
    span that is none."""
    today = EPOCH + timedelta(days=day_of(house.now()))
    since = since or today.replace(day=1)
    until = until or today + timedelta(days=1)
    if not since < until:
        raise Invalid.field("to", "is not after `from`", "a day after `from`, which is not counted itself")
    if until - since > timedelta(days=LONGEST):
        raise Invalid.field("from", "is too long before `to`", f"at most {LONGEST} days")
    assert house.archive is not None, "reports are the API's"
    async with house.archive.connect() as connection:
        found = await _read(connection, tenant, (since - EPOCH).days, _last(until, today))
    added: dict[tuple[int | None, str | None], Counter[str]] = defaultdict(Counter)
    if by == "total":
        added[None, None] = Counter()
    for (day, service), used in found.items():
        added[day if by in ("day", "day_service") else None, service if by in ("service", "day_service") else None] += (
            used
        )
    return [
        _usage(used, service, since if day is None else EPOCH + timedelta(days=day), until, day is not None)
        for (day, service), used in sorted(added.items(), key=lambda one: (one[0][0] or 0, one[0][1] or ""))
    ]


def _last(until: date, today: date) -> int:
    """The day before which to count: of what is kept, nobody knows tomorrow's."""
    return (min(until, today + timedelta(days=1)) - EPOCH).days


async def _read(connection: AsyncConnection, tenant: str, first: int, last: int) -> dict[tuple[int, str], Counter[str]]:
    """Of each day and service what was used; `kept` in byte seconds."""
    table = archive.usage
    before = sql.select(table.c.service, sql.func.sum(table.c.stored_bytes)).group_by(table.c.service)
    before = before.where(table.c.tenant == tenant, table.c.day < first)
    kept = {str(service): int(total) for service, total in await connection.execute(before)}
    query = sql.select(table).where(table.c.tenant == tenant, table.c.day >= first, table.c.day < last)
    rows = {(int(row.day), str(row.service)): row._mapping for row in await connection.execute(query)}
    found: dict[tuple[int, str], Counter[str]] = {}
    for day in range(first, last):
        for service in sorted({*kept, *(name for at, name in rows if at == day)}):
            row: Any = rows.get((day, service), dict.fromkeys(archive.USED, 0))
            held = kept.get(service, 0) * DAY + int(row["stored_bytes"]) * DAY - int(row["stored_byte_seconds"])
            kept[service] = kept.get(service, 0) + int(row["stored_bytes"])
            used = Counter({name: int(row[name]) for name in archive.USED}) + Counter({"kept": held})
            if used:
                found[day, service] = used
    return found


def _usage(used: Counter[str], service: str | None, first: date, until: date, one_day: bool) -> Usage:
    return Usage(
        from_=first,
        to=first + timedelta(days=1) if one_day else until,
        service=service,
        sessions=used["sessions"],
        calls=used["calls"],
        call_seconds=used["call_ms"] / 1000,
        billed_seconds=used["billed_seconds"],
        recordings=used["recordings"],
        recording_seconds=used["recorded_ms"] / 1000,
        recording_gb_days=round(used["kept"] / DAY / GIGABYTE, 9),
        number_days=used["numbers"],
    )
