"""From the shards' outboxes to the archive, exactly once.

One transaction takes in a batch: it moves each outbox's position from where this courier read it (compare-and-set, so a
second courier fails here and writes nothing), appends the events, and writes the sessions, interactions and recordings
they fold into. Only after its commit are the outboxes trimmed. A courier killed between the two reads on from the
position, not from what is left in the outbox.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sql
import structlog

from masking import archive, evidence, interactions, records, routes, sessions
from masking.courier import folding, metering
from masking.courier.rows import insert
from masking.events import LOOSE_OUTBOX, Event, Loose, loose_outbox, seconds
from masking.interactions import Interaction
from masking.number_health import Outcome
from masking.sessions import Session
from pools.grants import OutboxEntry
from recordings import catalogue

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from masking.house import House
    from pools.leases import Leases

log = structlog.get_logger("masking.courier")

BATCH: Final = 500  # of each outbox
BEGINNING: Final = "0-0"
JOINING: Final = frozenset({"session.opened", "session.updated"})  # events that say who takes part from then on
UNREADABLE: Final = (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError)


class Displaced(Exception):
    """Another courier has taken this batch in: start again from the positions."""


class Outbox:
    """One a courier. `waiting` reads with XREAD BLOCK on a connection of its own; `tell` hears after each commit whose
    events they were, `count` what their calls came to."""

    def __init__(
        self,
        house: House,
        engine: AsyncEngine,
        waiting: Leases,
        tell: Callable[[Collection[str]], None] = lambda _: None,
        count: Callable[[Sequence[Outcome]], Awaitable[int]] | None = None,
    ) -> None:
        self._count = count
        self._tell = tell
        self._house = house
        self._engine = engine
        self._waiting = waiting
        self._positions: dict[str, str] | None = None
        self._tenants: dict[str, tuple[float, str]] = {}

    async def round(self, wait_ms: int = 100) -> int:
        """Takes in one batch of everything there is, waiting up to `wait_ms` for the first; how many entries.

        Raises `Displaced`, `pools.redis.Unavailable` and SQLAlchemy's errors; nothing is half done then, and the next
        round begins by reading how far the archive is.
        """
        seen, self._positions = self._positions, None
        if seen is None:
            seen = await self._read_positions()
        done, self._positions = await self._take(seen, wait_ms)
        return done

    async def _take(self, seen: dict[str, str], wait_ms: int) -> tuple[int, dict[str, str]]:
        after = {shard: seen.get(shard, BEGINNING) for shard in await self._house.inventory.shard_names()}
        entries = await self._waiting.outboxes(after, wait_ms, BATCH) if after else []
        loose = await loose_outbox(self._house, seen.get(LOOSE_OUTBOX, BEGINNING), BATCH)
        if not entries and not loose:
            return 0, seen
        moved = {entry.shard: entry.id for entry in entries}
        if loose:
            moved[LOOSE_OUTBOX] = loose[-1].id
        tenants = {one.id: await self._tenant_of(one) for one in loose}
        async with self._engine.begin() as connection:
            await _move(connection, seen, moved)
            batch = Batch(self._house, connection)
            await batch.take(entries)
            await batch.take_loose(loose, tenants)
            await batch.write()
        self._tell(batch.tenants)
        await self._trim(moved)
        if self._count is not None and batch.outcomes:
            await self._count(batch.outcomes)
        return len(entries) + len(loose), seen | moved

    async def _read_positions(self) -> dict[str, str]:
        async with self._engine.connect() as connection:
            rows = await connection.execute(sql.select(archive.positions.c.stream, archive.positions.c.entry))
            return {str(row.stream): str(row.entry) for row in rows}

    async def _trim(self, moved: dict[str, str]) -> None:
        for stream, entry in moved.items():
            if stream == LOOSE_OUTBOX:
                time, _, count = entry.partition("-")
                await self._house.redis.command("XTRIM", LOOSE_OUTBOX, "MINID", f"{time}-{int(count) + 1}")
            else:
                await self._house.leases.trim(stream, entry)

    async def _tenant_of(self, loose: Loose) -> str:
        """Whose an event of no session is: the entry says it, or else the numbers that leave by its trunk."""
        if loose.tenant:
            return loose.tenant
        trunk = str(msgspec.json.decode(loose.data).get("trunk", ""))
        known = self._tenants.get(trunk)
        if known is None or self._house.now() - known[0] > 60:
            known = (self._house.now(), await routes.tenant_of_trunk(self._house, trunk))
            self._tenants[trunk] = known
        return known[1]


async def _move(connection: AsyncConnection, seen: dict[str, str], moved: dict[str, str]) -> None:
    """First of all, so that SQLite's write lock or PostgreSQL's row lock is held from here on."""
    table = archive.positions
    for stream, entry in sorted(moved.items()):
        if stream in seen:
            query = table.update().where(table.c.stream == stream, table.c.entry == seen[stream]).values(entry=entry)
            done = (await connection.execute(query)).rowcount
        else:
            done = await insert(connection, table, [{"stream": stream, "entry": entry}])
        if done != 1:
            raise Displaced(stream)


class Batch:
    """Events on their way into one transaction, and the rows they change."""

    def __init__(self, house: House, connection: AsyncConnection) -> None:
        self._house = house
        self._connection = connection
        self._events: list[tuple[str, Event]] = []
        self._sessions: dict[str, folding.Row] = {}
        self._interactions: dict[str, tuple[str, Interaction]] = {}
        self._recordings = catalogue.Draft(connection)
        self._meter = metering.Meter(house)
        self._parties: dict[tuple[str, str], set[str]] = {}  # (session, participant) -> blind indexes
        self._leased: dict[str, set[str]] = {}  # session -> its numbers, those too that it had for a moment
        self.outcomes: list[Outcome] = []  # of calls and reports, for the numbers' health

    @property
    def tenants(self) -> set[str]:
        """Whose events these are."""
        return {tenant for tenant, _ in self._events}

    async def take(self, entries: Sequence[OutboxEntry]) -> None:
        """Folds the sessions' events in, in the order of each session's stream."""
        events = [event for entry in entries if (event := _readable(entry)) is not None]
        await self._load_sessions({entry.holder for entry in entries})
        await self._load_interactions(events)
        await self._load_parties(entries)
        for event in events:
            tenant = await self._fold_session(event)
            if tenant is None:
                log.error("event_of_an_unknown_session", event_type=event.type, session=event.session)
                continue
            self._events.append((tenant, event))
            if event.type == "number.leased":
                self._leased.setdefault(str(event.session), set()).add(str(event.data.get("number", "")))
            self._fold_call(tenant, event)
            self.outcomes += folding.report_of(self._sessions[str(event.session)].session, event)

    async def take_loose(self, loose: Sequence[Loose], tenants: dict[str, str]) -> None:
        """Counts the events of no session within their tenants, and folds them in."""
        table = archive.loose_counts
        counts: dict[str, int] = {}
        await self._recordings.load(sorted(filter(None, map(_interaction_of, loose))))
        for one in loose:
            tenant = tenants[one.id]
            if tenant not in counts:
                query = sql.select(table.c.seq).where(table.c.tenant == tenant)
                counts[tenant] = (await self._connection.execute(query)).scalar_one_or_none() or 0
            try:
                event = one.counted(tenant, counts[tenant] + 1)
            except UNREADABLE:
                log.error("event_unreadable", event_type=one.type)
                continue
            counts[tenant] += 1
            self._events.append((tenant, event))
            self._fold_call(tenant, event)
        rows = [{"tenant": tenant, "seq": seq} for tenant, seq in counts.items()]
        await insert(self._connection, table, rows, ["seq"])

    async def _load_sessions(self, names: set[str]) -> None:
        table = archive.sessions
        query = sql.select(table.c.id, table.c.tenant, table.c.seq, table.c.body).where(table.c.id.in_(sorted(names)))
        for row in await self._connection.execute(query):
            self._sessions[row.id] = folding.Row(row.tenant, row.seq, msgspec.json.decode(row.body, type=Session))

    async def _load_interactions(self, events: Sequence[Event]) -> None:
        names = {str(event.data["interaction"]) for event in events if "interaction" in event.data}
        table = archive.interactions
        query = sql.select(table.c.id, table.c.tenant, table.c.body).where(table.c.id.in_(sorted(names)))
        for row in await self._connection.execute(query):
            self._interactions[row.id] = (row.tenant, msgspec.json.decode(row.body, type=Interaction))
        await self._recordings.load(sorted(names))

    async def _load_parties(self, entries: Sequence[OutboxEntry]) -> None:
        """Whose numbers they are that join here, or whose call is recorded."""
        recorded = {entry.holder for entry in entries if entry.type == "recording.started"}
        known = await archive.parties_of(self._connection, recorded) if recorded else []
        for session, participant, party in [*known, *(row for entry in entries for row in _joining(entry))]:
            self._parties.setdefault((session, participant), set()).add(party)

    async def _fold_session(self, event: Event) -> str | None:
        """The tenant of the event's session, after the event."""
        name = str(event.session)
        row = self._sessions.get(name)
        if row is None and event.type != "session.opened":
            row = await self._row_from_redis(name)
        if row is None and event.type == "session.opened":
            self._meter.opened(str(event.data["tenant"]), str(event.data["service"]), seconds(event.occurred_at))
        try:
            row = folding.session_after(row, event)
        except UNREADABLE:
            log.error("session_unfoldable", event_type=event.type, session=name)
        if row is None:
            return None
        self._sessions[name] = row
        return row.tenant

    async def _row_from_redis(self, session: str) -> folding.Row | None:
        """The archive is younger than the session: the record in Redis tells what the row would be."""
        holder = await self._house.leases.read(session)
        if holder is None or "record" not in holder.fields:
            return None
        record = records.unpacked(holder.fields["record"])
        shape = sessions.live_view(holder, record, self._house.now_ms)
        return folding.Row(record.tenant, holder.seq, shape)

    def _fold_call(self, tenant: str, event: Event) -> None:
        name = event.data.get("interaction")
        if not isinstance(name, str):
            return
        known = self._interactions.get(name)
        try:
            after = interactions.apply(known[1] if known else None, event)
            if after is not None:
                self._interactions[name] = (tenant, after)
                if event.session is not None and (known is None or known[1].ended_at is None):
                    self.outcomes += folding.outcome_of(self._sessions[event.session].session, after)
                self._catalogue(tenant, event, after)
                self._meter.call(tenant, self._service_of(event), known[1] if known else None, after)
            self._custody(event)
            if event.type in metering.CHANGES:
                self._meter.recording(tenant, self._service_of(event), event)
        except UNREADABLE:
            log.error("interaction_unfoldable", event_type=event.type, interaction=name)

    def _service_of(self, event: Event) -> str:
        """As its session shows it; "" when it has none."""
        row = self._sessions.get(str(event.session))
        return row.session.service if row is not None else ""

    def _catalogue(self, tenant: str, event: Event, interaction: Interaction) -> None:
        """What the event means for the call's recording."""
        if event.type == "recording.started" and event.session is not None:
            session = self._sessions[event.session].session
            channels = msgspec.convert(event.data.get("channels", []), list[catalogue.Channel])
            people = [self._parties.get((event.session, str(one.participant)), set()) for one in channels]
            self._recordings.begun(
                tenant=tenant,
                recording=str(event.data["recording"]),
                session=event.session,
                interaction=interaction.id,
                unique_name=session.unique_name,
                started_at=seconds(event.occurred_at),
                channels=channels,
                words=[*folding.numbers_between(session, interaction), *(party for one in people for party in one)],
            )
        elif event.type in ("call.bridged", "call.ended") and interaction.recordings:
            if notices := msgspec.convert(event.data.get("notices", []), list[catalogue.Notice]):
                self._recordings.noticed(interaction.id, notices)
            if event.type == "call.ended":
                self._recordings.call_ended(interaction.id, seconds(event.occurred_at))

    def _custody(self, event: Event) -> None:
        """What somebody decided about a recording."""
        name = event.data.get("recording")
        if event.type == "recording.held":
            held = msgspec.convert(event.data["hold"], catalogue.Hold)
            self._recordings.held(str(name), held)
        elif event.type == "recording.released":
            self._recordings.held(str(name), None)
        elif event.type == "recording.erased":
            self._recordings.erased(str(name))
        elif event.type == "recording.paused":
            self._recordings.paused(str(name), seconds(event.occurred_at))
        elif event.type == "recording.resumed":
            self._recordings.resumed(str(name), seconds(event.occurred_at))

    async def write(self) -> None:
        """All rows of the batch."""
        events = [
            {
                "id": event.id,
                "tenant": tenant,
                "session": event.session,
                "seq": event.seq,
                "type": event.type,
                "occurred_at": seconds(event.occurred_at),
                "body": msgspec.json.encode(event).decode(),
            }
            for tenant, event in self._events
        ]
        await insert(self._connection, archive.events, events)
        rows = [_session_row(name, row) for name, row in sorted(self._sessions.items())]
        await insert(self._connection, archive.sessions, rows, ["status", "expires_at", "seq", "body"])
        numbers = [
            {"number": number} | self._found_by(name)
            for name, row in sorted(self._sessions.items())
            for number in sorted(folding.numbers_of(row.session) | self._leased.get(name, set()))
        ]
        await insert(self._connection, archive.session_numbers, numbers)
        parties = [
            {"participant": participant, "party": party} | self._found_by(name)
            for (name, participant), held in sorted(self._parties.items())
            if name in self._sessions
            for party in sorted(held)
        ]
        await insert(self._connection, archive.session_parties, parties)
        calls = [_interaction_row(tenant, one) for tenant, one in self._interactions.values()]
        await insert(self._connection, archive.interactions, calls, ["started_at", "body"])
        await self._recordings.write()
        await self._meter.write(self._connection)
        await self._seal({str(row["id"]): str(row["body"]) for row in events})

    def _found_by(self, name: str) -> dict[str, Any]:
        """What every row has that a session is found by."""
        row = self._sessions[name]
        return {"session": name, "tenant": row.tenant, "created_at": seconds(row.session.created_at)}

    async def _seal(self, bodies: dict[str, str]) -> None:
        """Puts what is evidence behind its tenant's chain. The positions moved first, so nobody else does meanwhile."""
        evident = [(tenant, event.id) for tenant, event in self._events if event.type in evidence.EVIDENT]
        if not evident:
            return
        heads = await archive.evidence_heads(self._connection, {tenant for tenant, _ in evident})
        rows = []
        for tenant, name in evident:
            head = heads.get(tenant) or evidence.Entry(0, "", evidence.beginning(tenant))
            heads[tenant] = entry = evidence.after(head.hash, head.seq + 1, name, bodies[name])
            rows.append({"tenant": tenant, "seq": entry.seq, "event": entry.event, "hash": entry.hash})
        await self._connection.execute(archive.evidence.insert(), rows)


def _interaction_of(loose: Loose) -> str | None:
    """Whose call's recording an event of no session is about: its session is forgotten, its recording is not."""
    try:
        name = msgspec.json.decode(loose.data).get("interaction")
    except UNREADABLE:
        return None
    return name if isinstance(name, str) else None


def _readable(entry: OutboxEntry) -> Event | None:
    try:
        return Event.of(entry.holder, entry)
    except UNREADABLE:
        log.error("event_unreadable", event_type=entry.type, session=entry.holder, seq=entry.seq)
        return None


def _session_row(name: str, row: folding.Row) -> dict[str, Any]:
    session = row.session
    return {
        "id": name,
        "tenant": row.tenant,
        "unique_name": session.unique_name,
        "status": session.status,
        "created_at": seconds(session.created_at),
        "expires_at": seconds(session.expires_at),
        "seq": row.seq,
        "body": msgspec.json.encode(session).decode(),
    }


def _interaction_row(tenant: str, interaction: Interaction) -> dict[str, Any]:
    return {
        "id": interaction.id,
        "tenant": tenant,
        "session": interaction.session,
        "started_at": seconds(interaction.started_at) if interaction.started_at is not None else None,
        "body": msgspec.json.encode(interaction).decode(),
    }


class _Joining(msgspec.Struct, gc=False):
    """What is read of an event that somebody joins a session with (`events.PARTIES`)."""

    parties: dict[str, list[str]] = {}


_JOINING: Final = msgspec.json.Decoder(_Joining)


def _joining(entry: OutboxEntry) -> list[tuple[str, str, str]]:
    """Who takes part from this entry on: (session, participant, blind index of one of its phones)."""
    if entry.type not in JOINING:
        return []
    try:
        parties = _JOINING.decode(entry.data).parties
    except msgspec.MsgspecError:
        return []
    return [(entry.holder, participant, party) for participant, held in parties.items() for party in held]
