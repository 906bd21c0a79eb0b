"""The archive: what happened, kept in SQL (SQLite or PostgreSQL) long after Redis forgot it.

The courier alone writes it (`masking.courier.outbox`); this file holds its tables and the questions others ask. A row
keeps the words it is searched by as columns and the whole shape the API shows as JSON, so a page is one query without
joins. Times are seconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from masking.evidence import Checkpoint, Entry

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

COUNTED = 1000  # sessions of a number that are looked through
BETWEEN = 200  # sessions that are looked at for one question about the past

metadata = sql.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)

# What is added up of a day's usage. `stored_bytes`: what came less what went; `stored_byte_seconds`: the same, times
# the second of the day at which it did, so that bytes times time come out for any span of days (`masking.usage`).
USED = (
    "sessions", "calls", "call_ms", "billed_seconds", "recordings", "recorded_ms",
    "stored_bytes", "stored_byte_seconds", "numbers",
)  # fmt: skip

sessions = sql.Table(
    "sessions",
    metadata,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("unique_name", sql.String(255)),
    sql.Column("status", sql.String(16), nullable=False),
    sql.Column("created_at", sql.Double, nullable=False),
    sql.Column("expires_at", sql.Double, nullable=False),
    sql.Column("seq", sql.BigInteger, nullable=False),  # of the newest event folded in: an older one never overwrites
    sql.Column("body", sql.Text, nullable=False),
    sql.Index(None, "tenant", "created_at", "id"),
    sql.Index(None, "tenant", "unique_name", "created_at"),
)

session_numbers = sql.Table(
    "session_numbers",
    metadata,
    sql.Column("session", sql.String(64), primary_key=True),
    sql.Column("number", sql.String(16), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("created_at", sql.Double, nullable=False),  # the session's, so that a page reads one index, in order
    sql.Index(None, "tenant", "number", "created_at", "session"),
)

# Who took part, by the blind index of their number (`pools.keyring`): what a search by a person goes by.
session_parties = sql.Table(
    "session_parties",
    metadata,
    sql.Column("session", sql.String(64), primary_key=True),
    sql.Column("participant", sql.String(64), primary_key=True),
    sql.Column("party", sql.String(64), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("created_at", sql.Double, nullable=False),
    sql.Index(None, "tenant", "party", "created_at", "session"),
)

interactions = sql.Table(
    "interactions",
    metadata,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("session", sql.String(64)),
    sql.Column("started_at", sql.Double),
    sql.Column("body", sql.Text, nullable=False),
    sql.Index(None, "session", "started_at"),
)

events = sql.Table(
    "events",
    metadata,
    # SQLite counts rows up only for INTEGER; one writer means that a position, once seen, has no unseen smaller one.
    sql.Column("position", sql.BigInteger().with_variant(sql.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("id", sql.String(64), nullable=False),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("session", sql.String(64)),
    sql.Column("seq", sql.BigInteger, nullable=False),
    sql.Column("type", sql.String(64), nullable=False),
    sql.Column("occurred_at", sql.Double, nullable=False),
    sql.Column("body", sql.Text, nullable=False),
    sql.UniqueConstraint("id"),
    sql.Index(None, "session", "seq"),
    sql.Index(None, "tenant", "position"),
)

# The last `seq` of a tenant's events that belong to no session.
loose_counts = sql.Table(
    "loose_counts",
    metadata,
    sql.Column("tenant", sql.String(64), primary_key=True),
    sql.Column("seq", sql.BigInteger, nullable=False),
)

# How far each outbox has been taken in: written in the transaction of the rows themselves.
positions = sql.Table(
    "outbox_positions",
    metadata,
    sql.Column("stream", sql.String(64), primary_key=True),
    sql.Column("entry", sql.String(64), nullable=False),
)

# How far each webhook endpoint has been told of its tenant's events.
webhook_cursors = sql.Table(
    "webhook_cursors",
    metadata,
    sql.Column("endpoint", sql.String(64), primary_key=True),
    sql.Column("position", sql.BigInteger, nullable=False),
)

# An event that was sent to an endpoint, is still owed to it, or was given up: log, queue and dead letters in one.
webhook_deliveries = sql.Table(
    "webhook_deliveries",
    metadata,
    sql.Column("endpoint", sql.String(64), primary_key=True),
    sql.Column("event", sql.String(64), primary_key=True),
    sql.Column("position", sql.BigInteger, nullable=False),
    sql.Column("lane", sql.String(64), nullable=False),  # what must stay in order: a session's id, else the event's
    sql.Column("type", sql.String(64), nullable=False),
    sql.Column("state", sql.String(16), nullable=False),  # pending, delivered, dead
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("first_at", sql.Double),
    sql.Column("last_at", sql.Double),
    sql.Column("next_at", sql.Double),
    sql.Column("status", sql.Integer),
    sql.Column("error", sql.String(32)),
    sql.Column("took", sql.Double),
    sql.Index(None, "endpoint", "state", "position"),
    sql.Index(None, "state", "last_at"),
)

# The chain of evidence of each tenant: which event, and the hash over it and all before it (`masking.evidence`).
evidence = sql.Table(
    "evidence",
    metadata,
    sql.Column("tenant", sql.String(64), primary_key=True),
    sql.Column("seq", sql.BigInteger, primary_key=True),
    sql.Column("event", sql.String(64), nullable=False),
    sql.Column("hash", sql.String(64), nullable=False),
    sql.UniqueConstraint("event"),
)

# What a tenant used on a day (days since 1970, UTC) in a service: the courier adds to it in the outbox's transaction.
usage = sql.Table(
    "usage",
    metadata,
    sql.Column("tenant", sql.String(64), primary_key=True),
    sql.Column("day", sql.Integer, primary_key=True),
    sql.Column("service", sql.String(255), primary_key=True),
    *(sql.Column(name, sql.BigInteger, nullable=False, server_default="0") for name in USED),
)

# Which recordings are counted among what is stored, and until when (seconds since 1970; None: still).
usage_stored = sql.Table(
    "usage_stored",
    metadata,
    sql.Column("recording", sql.String(80), primary_key=True),
    sql.Column("tenant", sql.String(64), nullable=False),
    sql.Column("service", sql.String(255), nullable=False),
    sql.Column("bytes", sql.BigInteger, nullable=False),
    sql.Column("since", sql.BigInteger, nullable=False),
    sql.Column("until", sql.BigInteger),
)


def engine(url: str) -> AsyncEngine:
    """The archive at `url`. SQLite writes ahead, so that readers never wait for the courier; what is committed outlives
    a power cut (a recording's data key is nowhere else), and what is deleted is overwritten."""
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_pre_ping=True)
    found = create_async_engine(url, connect_args={"timeout": 15})

    @sql.event.listens_for(found.sync_engine, "connect")
    def _write_ahead(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    return found


def described(url: str) -> str:
    """The address without its password, for messages."""
    return re.sub(r"//[^@/]*@", "//…@", url)


async def session_body(connection: AsyncConnection, tenant: str, session: str) -> str | None:
    row = await connection.execute(
        sql.select(sessions.c.body).where(sessions.c.id == session, sessions.c.tenant == tenant)
    )
    return row.scalar_one_or_none()


async def session_page(
    connection: AsyncConnection,
    tenant: str,
    *,
    unique_name: str | None,
    status: str | None,
    number: str | None,
    at: float,
    before: tuple[float, str] | None,
    limit: int,
    letters: str | None = None,
) -> list[str]:
    """Session bodies, newest first, older than `before` (created_at, id). A session past its time counts as closed."""
    query = sql.select(sessions.c.body).where(sessions.c.tenant == tenant)
    created_at, session = sessions.c.created_at, sessions.c.id
    if unique_name is not None:
        query = query.where(sessions.c.unique_name == unique_name)
    if number is not None:
        held = session_numbers.c
        created_at, session = held.created_at, held.session
        query = query.join(session_numbers, session == sessions.c.id).where(
            held.tenant == tenant, held.number == number
        )
    if letters is not None:
        query = query.where(sql.func.substr(sessions.c.id, 11, len(letters)) == letters)
    if status == "closed":
        query = query.where(sql.or_(sessions.c.status == "closed", sessions.c.expires_at <= at))
    elif status is not None:
        query = query.where(sessions.c.status == status, sessions.c.expires_at > at)
    return await _newest(connection, query, created_at, session, before, limit)


async def person_page(
    connection: AsyncConnection,
    tenant: str,
    party: str,
    *,
    since: float | None,
    until: float | None,
    before: tuple[float, str] | None,
    limit: int,
) -> list[str]:
    """Bodies of the sessions of a person, newest first: opened before `until`, to live until `since` or longer."""
    held = session_parties.c
    query = sql.select(sessions.c.body).join(session_parties, held.session == sessions.c.id)
    query = query.where(held.tenant == tenant, held.party == party)
    if since is not None:
        query = query.where(sessions.c.expires_at >= since)
    if until is not None:
        query = query.where(held.created_at < until)
    return await _newest(connection, query, held.created_at, held.session, before, limit)


async def parties_of(connection: AsyncConnection, of_sessions: Collection[str]) -> list[tuple[str, str, str]]:
    """Who took part in these sessions: (session, participant, blind index of one of its phones)."""
    table = session_parties.c
    query = sql.select(table.session, table.participant, table.party).where(table.session.in_(sorted(of_sessions)))
    return [(row.session, row.participant, row.party) for row in await connection.execute(query)]


async def _newest(
    connection: AsyncConnection,
    query: sql.Select[Any],
    at: sql.ColumnElement[float],
    key: sql.ColumnElement[str],
    before: tuple[float, str] | None,
    limit: int,
) -> list[str]:
    if before is not None:
        query = query.where(sql.or_(at < before[0], sql.and_(at == before[0], key < before[1])))
    return list((await connection.execute(query.order_by(at.desc(), key.desc()).limit(limit))).scalars())


async def first_and_last_calls(
    connection: AsyncConnection, of_sessions: Collection[str]
) -> dict[str, tuple[float | None, float | None]]:
    """When the first and the last interaction of each of these sessions began; nothing of those without."""
    table = interactions.c
    query = sql.select(table.session, sql.func.min(table.started_at), sql.func.max(table.started_at))
    query = query.where(table.session.in_(sorted(of_sessions))).group_by(table.session)
    return {row[0]: (row[1], row[2]) for row in await connection.execute(query)}


async def open_sessions_on(connection: AsyncConnection, tenant: str, number: str, at: float) -> int:
    """How many of the tenant's open sessions have, or had, the virtual number: of the `COUNTED` newest of it."""
    held = session_numbers.c
    newest = sql.select(held.session).where(held.tenant == tenant, held.number == number)
    newest = newest.order_by(held.created_at.desc(), held.session.desc()).limit(COUNTED)
    query = sql.select(sql.func.count()).select_from(sessions).where(sessions.c.id.in_(newest.subquery().select()))
    query = query.where(sessions.c.status.in_(("open", "in_progress")), sessions.c.expires_at > at)
    return int((await connection.execute(query)).scalar_one())


async def interaction_body(connection: AsyncConnection, tenant: str, interaction: str) -> str | None:
    query = sql.select(interactions.c.body).where(interactions.c.id == interaction, interactions.c.tenant == tenant)
    return (await connection.execute(query)).scalar_one_or_none()


async def interactions_of(connection: AsyncConnection, tenant: str, session: str) -> list[str]:
    """Bodies of a session's interactions, oldest first."""
    table = interactions.c
    query = sql.select(table.body).where(table.tenant == tenant, table.session == session)
    return list((await connection.execute(query.order_by(table.started_at, table.id))).scalars())


async def events_of(connection: AsyncConnection, tenant: str, session: str) -> list[str]:
    """Bodies of a session's events in `seq` order."""
    query = (
        sql.select(events.c.body).where(events.c.tenant == tenant, events.c.session == session).order_by(events.c.seq)
    )
    return list((await connection.execute(query)).scalars())


async def sessions_between(
    connection: AsyncConnection, tenant: str, number: str, party: str, at: float
) -> list[tuple[str, set[str]]]:
    """The sessions opened by `at` that had the number and the person, newest first, each with who of its participants
    the person was."""
    there, who = session_numbers.c, session_parties.c
    query = sql.select(who.session, who.participant).join(
        session_numbers, sql.and_(there.session == who.session, there.number == number)
    )
    query = query.where(who.tenant == tenant, who.party == party, who.created_at <= at)
    found: dict[str, set[str]] = {}
    for row in await connection.execute(query.order_by(who.created_at.desc()).limit(BETWEEN)):
        found.setdefault(row.session, set()).add(row.participant)
    return list(found.items())


async def events_after(
    connection: AsyncConnection, tenant: str, position: int, limit: int, types: tuple[str, ...] = ()
) -> list[tuple[int, str]]:
    """The tenant's events after `position` (0: from the beginning), oldest first, as (position, body)."""
    query = sql.select(events.c.position, events.c.body).where(events.c.tenant == tenant, events.c.position > position)
    if types:
        query = query.where(events.c.type.in_(types))
    rows = await connection.execute(query.order_by(events.c.position).limit(limit))
    return [(int(row.position), str(row.body)) for row in rows]


async def last_position(connection: AsyncConnection, tenant: str) -> int:
    """Of the tenant's newest event; 0 before the first."""
    query = sql.select(sql.func.max(events.c.position)).where(events.c.tenant == tenant)
    return int((await connection.execute(query)).scalar_one_or_none() or 0)


async def delivery_page(
    connection: AsyncConnection, endpoint: str, *, state: str | None, before: int | None, limit: int
) -> list[sql.Row[Any]]:
    """Rows of `webhook_deliveries`, newest event first, of events before the position `before`."""
    table = webhook_deliveries
    query = sql.select(table, events.c.session).join(events, events.c.id == table.c.event)
    query = query.where(table.c.endpoint == endpoint)
    if state is not None:
        query = query.where(table.c.state == state)
    if before is not None:
        query = query.where(table.c.position < before)
    return list((await connection.execute(query.order_by(table.c.position.desc()).limit(limit))).all())


async def count_events(
    connection: AsyncConnection, tenant: str, *, session: str | None, since: float | None, until: float | None
) -> int:
    """How many of the tenant's events match everything said."""
    query = sql.select(sql.func.count()).select_from(events).where(matching(tenant, session, since, until))
    return int((await connection.execute(query)).scalar_one())


def matching(tenant: str, session: str | None, since: float | None, until: float | None) -> sql.ColumnElement[bool]:
    """The tenant's events of that session, that happened at `since` or later and before `until`."""
    wanted = [events.c.tenant == tenant]
    if session is not None:
        wanted.append(events.c.session == session)
    if since is not None:
        wanted.append(events.c.occurred_at >= since)
    if until is not None:
        wanted.append(events.c.occurred_at < until)
    return sql.and_(*wanted)


async def evidence_heads(connection: AsyncConnection, tenants: Collection[str] | None = None) -> dict[str, Entry]:
    """The last entry of each chain; of all tenants, or of these."""
    last = sql.select(evidence.c.tenant, sql.func.max(evidence.c.seq).label("seq")).group_by(evidence.c.tenant)
    if tenants is not None:
        last = last.where(evidence.c.tenant.in_(sorted(tenants)))
    newest = last.subquery()
    query = sql.select(evidence).join(
        newest, sql.and_(newest.c.tenant == evidence.c.tenant, newest.c.seq == evidence.c.seq)
    )
    return {row.tenant: Entry(int(row.seq), row.event, row.hash) for row in await connection.execute(query)}


async def evidence_page(
    connection: AsyncConnection, tenant: str, after: int, limit: int
) -> list[tuple[Entry, str | None]]:
    """Entries after `after`, in their order, each with its event's text (None: the event is gone)."""
    query = sql.select(evidence, events.c.body).outerjoin(events, events.c.id == evidence.c.event)
    query = query.where(evidence.c.tenant == tenant, evidence.c.seq > after).order_by(evidence.c.seq).limit(limit)
    return [(Entry(int(row.seq), row.event, row.hash), row.body) for row in await connection.execute(query)]


async def sealed_rows(connection: AsyncConnection, tenant: str, after: int, limit: int) -> list[sql.Row[Any]]:
    """As `evidence_page`, with the columns of the entry's event (None: the event is gone) beside its text."""
    told = (events.c.id, events.c.tenant, events.c.session, events.c.seq, events.c.type, events.c.body)
    columns = [column.label(f"told_{column.name}") for column in told]
    query = sql.select(evidence, *columns).outerjoin(events, events.c.id == evidence.c.event)
    query = query.where(evidence.c.tenant == tenant, evidence.c.seq > after).order_by(evidence.c.seq).limit(limit)
    return list((await connection.execute(query)).all())


async def first_evidence_of(connection: AsyncConnection, tenant: str, of_sessions: Collection[str]) -> int:
    """The place of the first entry of the tenant's chain that is about these sessions; 1 when there is none."""
    query = sql.select(sql.func.min(evidence.c.seq)).join(events, events.c.id == evidence.c.event)
    query = query.where(evidence.c.tenant == tenant, events.c.session.in_(sorted(of_sessions)))
    return int((await connection.execute(query)).scalar_one_or_none() or 1)


async def newest_checkpoint(connection: AsyncConnection, tenant: str) -> Checkpoint | None:
    """The tenant's last signed head."""
    query = sql.select(events.c.body).where(events.c.tenant == tenant, events.c.type == "evidence.checkpoint")
    query = query.order_by(events.c.position.desc()).limit(1)
    body = (await connection.execute(query)).scalar_one_or_none()
    return msgspec.convert(msgspec.json.decode(body)["data"], Checkpoint) if body is not None else None
