"""What a webhook endpoint is still owed: the archive's rows behind one endpoint's deliveries.

Events that were never tried are not copied: they are those after the endpoint's cursor. A row comes with the first
attempt, or because the event must wait for an earlier one of its lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sql

from masking import archive
from masking.courier.rows import insert

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from masking.webhooks import Kept, Replay

DELIVERED_KEPT: Final = 7 * 86_400.0  # seconds a delivery stays in the log
DEAD_KEPT: Final = 30 * 86_400.0
REPLAY_MOST: Final = 10_000  # events of one replay
IN_A_LANE: Final = 50  # rows of one lane at a time

deliveries = archive.webhook_deliveries
cursors = archive.webhook_cursors


class Owed(msgspec.Struct):
    """An event on its way to an endpoint. `attempts` and `first_at` (seconds since 1970) count those made so far."""

    event: str
    position: int
    lane: str
    type: str
    body: str
    attempts: int = 0
    first_at: float | None = None


async def cursor(connection: AsyncConnection, kept: Kept) -> int:
    """The position up to which the endpoint was told."""
    query = sql.select(cursors.c.position).where(cursors.c.endpoint == kept.endpoint.id)
    return max(int((await connection.execute(query)).scalar_one_or_none() or 0), kept.since)


async def move(connection: AsyncConnection, kept: Kept, position: int) -> None:
    """The endpoint has been told, or is owed in rows, all up to `position`."""
    await insert(connection, cursors, [{"endpoint": kept.endpoint.id, "position": position}], ["position"])


async def fresh(connection: AsyncConnection, kept: Kept, after: int, limit: int) -> tuple[list[Owed], int]:
    """Events after `after` that the endpoint wants, and the position of the last event looked at."""
    table = archive.events
    query = sql.select(table.c.position, table.c.id, table.c.session, table.c.type, table.c.body)
    query = query.where(table.c.tenant == kept.tenant, table.c.position > after).order_by(table.c.position)
    rows = (await connection.execute(query.limit(limit))).all()
    wanted = [
        Owed(row.id, int(row.position), row.session or row.id, row.type, row.body)
        for row in rows
        if (_tests(kept, row.body) if row.type == "webhook.test" else kept.wants(row.type, row.session))
    ]
    return wanted, int(rows[-1].position) if rows else after


def _tests(kept: Kept, body: str) -> bool:
    """A test event is for the endpoint it names alone."""
    return bool(msgspec.json.decode(body)["data"].get("endpoint") == kept.endpoint.id)


async def waiting_lanes(connection: AsyncConnection, endpoint: str) -> set[str]:
    """Lanes in which something is pending."""
    query = sql.select(deliveries.c.lane).distinct()
    query = query.where(deliveries.c.endpoint == endpoint, deliveries.c.state == "pending")
    return set((await connection.execute(query)).scalars())


async def due(connection: AsyncConnection, endpoint: str, now: float, limit: int) -> list[list[Owed]]:
    """Lanes whose first pending event may be tried again, each from that event on, in order."""
    pending = sql.and_(deliveries.c.endpoint == endpoint, deliveries.c.state == "pending")
    first = sql.select(sql.func.min(deliveries.c.position).label("position")).where(pending).group_by(deliveries.c.lane)
    query = sql.select(deliveries.c.lane).where(pending, deliveries.c.position.in_(first), deliveries.c.next_at <= now)
    lanes = list((await connection.execute(query.order_by(deliveries.c.next_at).limit(limit))).scalars())
    if not lanes:
        return []
    table = archive.events
    rows = await connection.execute(
        sql.select(deliveries, table.c.body)
        .join(table, table.c.id == deliveries.c.event)
        .where(pending, deliveries.c.lane.in_(lanes))
        .order_by(deliveries.c.position)
        .limit(IN_A_LANE * limit)
    )
    found: dict[str, list[Owed]] = {}
    for row in rows:
        owed = Owed(row.event, int(row.position), row.lane, row.type, row.body, row.attempts, row.first_at)
        found.setdefault(row.lane, []).append(owed)
    return [lane[:IN_A_LANE] for lane in found.values()]


async def next_due(connection: AsyncConnection, endpoint: str) -> float | None:
    """When the next pending event may be tried; seconds since 1970."""
    query = sql.select(sql.func.min(deliveries.c.next_at))
    query = query.where(deliveries.c.endpoint == endpoint, deliveries.c.state == "pending")
    found = (await connection.execute(query)).scalar_one_or_none()
    return float(found) if found is not None else None


async def write(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of deliveries as they are now: each with every column."""
    changed = [column.name for column in deliveries.columns if not column.primary_key]
    await insert(connection, deliveries, rows, changed)


async def replay(connection: AsyncConnection, wish: Replay, now: float) -> int:
    """Makes what the wish names pending once more, from its first attempt on; how many events."""
    table = archive.events
    query = sql.select(table.c.id, table.c.position, table.c.session, table.c.type)
    query = query.where(archive.matching(wish.tenant, wish.session, wish.since, wish.until))
    query = query.where(table.c.type != "webhook.test")
    if wish.only_dead:
        dead = sql.select(deliveries.c.event)
        dead = dead.where(deliveries.c.endpoint == wish.endpoint, deliveries.c.state == "dead")
        query = query.where(table.c.id.in_(dead))
    found = (await connection.execute(query.order_by(table.c.position).limit(REPLAY_MOST))).all()
    blank = dict.fromkeys((column.name for column in deliveries.columns), None)
    await write(
        connection,
        [
            blank
            | {
                "endpoint": wish.endpoint,
                "event": row.id,
                "position": int(row.position),
                "lane": row.session or row.id,
                "type": row.type,
                "state": "pending",
                "attempts": 0,
                "next_at": now,
            }
            for row in found
        ],
    )
    return len(found)


async def forget(connection: AsyncConnection, endpoints: Iterable[str] | None, now: float) -> None:
    """Drops what the log need not keep, and, given all endpoints there are, what removed ones were owed."""
    old = sql.or_(
        sql.and_(deliveries.c.state == "delivered", deliveries.c.last_at < now - DELIVERED_KEPT),
        sql.and_(deliveries.c.state == "dead", deliveries.c.last_at < now - DEAD_KEPT),
    )
    await connection.execute(deliveries.delete().where(old))
    if endpoints is not None:
        for table in (deliveries, cursors):
            await connection.execute(table.delete().where(table.c.endpoint.not_in(sorted(endpoints))))
