"""Which recordings there are: the table, what is asked of it, and the shape the API shows.

The courier alone writes it: a `Draft` as the calls' events come by, `finished` and `told` when the file is whole.
Everything is given a connection and works in the caller's transaction, on SQLite and PostgreSQL alike; all is
idempotent, and a status never moves back. Columns are what is searched by; `body` is the shape as JSON. Times are
seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import sqlalchemy as sql

from recordings.render import Gap
from recordings.seals import SealedKey
from recordings.tables import data_keys
from recordings.tables import metadata as metadata
from recordings.tables import recording_keys as recording_keys
from recordings.tables import recordings as recordings
from recordings.waves import Examined, Original

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

Status = Literal["recording", "processing", "available", "failed", "erased"]


class Channel(msgspec.Struct, frozen=True):
    """Who is heard on a channel: 1 is what the caller's phone sent, 2 what the callee's sent."""

    index: int
    participant: str | None
    role: str | None = None


class Notice(msgspec.Struct, frozen=True):
    """Proof that a leg (1 or 2) was told: which asset, from `at` to `to` seconds after the recording's start."""

    asset: str
    sha256: str
    leg: int
    at: float
    to: float


class Pause(msgspec.Struct, frozen=True):
    """The recording is silence from `at` to `to` (None: to its end) on purpose, in seconds after its start."""

    at: float
    to: float | None = None


class Hold(msgspec.Struct, frozen=True):
    """Why a recording is kept beyond its time, by which API key, and since when."""

    reason: str
    key: str
    since: datetime


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording as the API shows it. What it holds is there once it is available: `duration`, `sha256` and `bytes`
    (of the WAV), `original` (as it is kept), and what it sounds like. `loudness`: each channel's mean level in dBFS
    while it speaks (-96.3: it never does); `silence` and `talk_over`: the part of the time in which nobody, and both,
    speak; `peaks`: each channel's wave, up to 200 points evenly over its length, 0..100 of full scale."""

    id: str
    session: str
    interaction: str
    unique_name: str | None = None
    status: Status = "recording"
    hold: Hold | None = None
    started_at: datetime
    duration: float | None = None
    sha256: str | None = None
    bytes: int | None = None
    gaps: tuple[Gap, ...] = ()
    pauses: tuple[Pause, ...] = ()
    channels: tuple[Channel, ...] = ()
    notices: tuple[Notice, ...] = ()
    original: Original | None = None
    loudness: tuple[float, ...] | None = None
    silence: float | None = None
    talk_over: float | None = None
    peaks: tuple[tuple[int, ...], ...] | None = None
    retain_until: datetime | None = None


class Catalogued(msgspec.Struct, frozen=True):
    """A row: the recording and what the API does not show. `ended_at`: when its call ended; `key`: where its file
    lies."""

    recording: Recording
    tenant: str
    ended_at: float | None
    key: str | None
    told: bool


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None narrows nothing. `number`: a virtual number that was dialled or shown, E.164;
    `person`: who was on the call, by the blind index of a number.
    `since` and `until`: started_at in [since, until), seconds since 1970."""

    session: str | None = None
    unique_name: str | None = None
    number: str | None = None
    participant: str | None = None
    person: str | None = None
    since: float | None = None
    until: float | None = None


class Draft:
    """The rows that a batch of events is about: read once, changed here, written once, all in the caller's transaction.

    What was told before changes nothing, and a status never moves back.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._rows: dict[str, Catalogued] = {}
        self._of: dict[str, list[str]] = {}  # interaction -> its recordings
        self._new: dict[str, set[str]] = {}  # recording without a row yet -> the words it is found by
        self._changed: dict[str, None] = {}
        self._shredded: list[str] = []

    async def load(self, interactions: Sequence[str]) -> None:
        """Reads the rows of these calls, and keeps the finisher from changing them meanwhile."""
        query = _rows().where(recordings.c.interaction.in_(interactions)).order_by(recordings.c.id)
        for row in await _read(self._connection, query.with_for_update()):
            self._keep(row)

    def begun(
        self,
        *,
        tenant: str,
        recording: str,
        session: str,
        interaction: str,
        unique_name: str | None,
        started_at: float,
        channels: Sequence[Channel],
        words: Sequence[str],
    ) -> None:
        """A capture runs (`recording.started`). `words` it is found by, beside its participants: the virtual numbers of
        the call, the dialled and the shown one, and the blind indexes of its people."""
        if recording in self._rows:
            return
        shape = Recording(
            id=recording,
            session=session,
            interaction=interaction,
            unique_name=unique_name,
            started_at=_moment(round(started_at, 3)),  # to the millisecond: a list's cursor is taken from the shape
            channels=tuple(channels),
        )
        self._keep(Catalogued(shape, tenant, ended_at=None, key=None, told=False))
        self._new[recording] = {*words, *(one.participant for one in channels if one.participant)}

    def noticed(self, interaction: str, notices: Sequence[Notice]) -> None:
        """What was played to the legs (`call.bridged`, or `call.ended` when the bridge never opened)."""
        for row in self._of_call(interaction):
            self._change(row, row.ended_at, notices=tuple(notices))

    def paused(self, recording: str, at: float) -> None:
        """It is silence from then on (`recording.paused`)."""
        row = self._rows.get(recording)
        if row is not None and not (row.recording.pauses and row.recording.pauses[-1].to is None):
            begins = Pause(round(at - row.recording.started_at.timestamp(), 3))
            self._change(row, row.ended_at, pauses=(*row.recording.pauses, begins))

    def resumed(self, recording: str, at: float) -> None:
        """… and no longer (`recording.resumed`)."""
        row = self._rows.get(recording)
        if row is not None and row.recording.pauses and row.recording.pauses[-1].to is None:
            *before, last = row.recording.pauses
            ended = msgspec.structs.replace(last, to=round(at - row.recording.started_at.timestamp(), 3))
            self._change(row, row.ended_at, pauses=(*before, ended))

    def call_ended(self, interaction: str, ended_at: float) -> None:
        """The call is over (`call.ended`): its recordings are the finisher's now."""
        for row in self._of_call(interaction):
            if row.recording.status == "recording":
                self._change(row, ended_at, status="processing")

    def held(self, recording: str, hold: Hold | None) -> None:
        """Somebody holds it, or lets it go (`recording.held`, `recording.released`)."""
        row = self._rows.get(recording)
        if row is not None and row.recording.status != "erased":
            self._change(row, row.ended_at, hold=hold)

    def erased(self, recording: str) -> None:
        """Its sound is to be gone (`recording.erased`), and what was heard in it; a hold that came first is stronger.
        Without its data key what is left of it anywhere is noise; the finisher deletes that too."""
        row = self._rows.get(recording)
        if row is not None and row.recording.hold is None:
            self._change(row, row.ended_at, status="erased", loudness=None, silence=None, talk_over=None, peaks=None)
            self._shredded.append(recording)

    async def write(self) -> None:
        """Writes what is new and what has changed."""
        new = [self._rows[name] for name in self._new]
        if new:
            await self._connection.execute(recordings.insert(), [_columns(row) for row in new])
        keys = [
            {"tenant": row.tenant, "word": word, "started_at": row.recording.started_at.timestamp(), "recording": name}
            for name, row in zip(self._new, new, strict=True)
            for word in sorted(self._new[name])
        ]
        if keys:
            await self._connection.execute(recording_keys.insert(), keys)
        changed = [self._rows[name] for name in self._changed if name not in self._new]
        if changed:
            columns = ("status", "ended_at", "body", "retain_until")
            told: dict[str, Any] = {name: sql.bindparam(f"new_{name}") for name in columns}
            query = recordings.update().where(recordings.c.id == sql.bindparam("row")).values(told)
            await self._connection.execute(query, [_change_of(row) for row in changed])
        if self._shredded:
            await self._connection.execute(data_keys.delete().where(data_keys.c.recording.in_(self._shredded)))

    def _keep(self, row: Catalogued) -> None:
        self._rows[row.recording.id] = row
        self._of.setdefault(row.recording.interaction, []).append(row.recording.id)

    def _of_call(self, interaction: str) -> list[Catalogued]:
        return [self._rows[name] for name in self._of.get(interaction, ())]

    def _change(self, row: Catalogued, ended_at: float | None, **changes: Any) -> None:
        shape = msgspec.structs.replace(row.recording, **changes)
        self._rows[shape.id] = msgspec.structs.replace(row, recording=shape, ended_at=ended_at)
        self._changed[shape.id] = None


def _columns(row: Catalogued) -> dict[str, Any]:
    one = row.recording
    return {
        "id": one.id,
        "tenant": row.tenant,
        "session": one.session,
        "interaction": one.interaction,
        "unique_name": one.unique_name,
        "status": one.status,
        "started_at": one.started_at.timestamp(),
        "ended_at": row.ended_at,
        "told": False,
        "body": _encode(one),
    }


def _change_of(row: Catalogued) -> dict[str, Any]:
    one = row.recording
    return {
        "row": one.id,
        "new_status": one.status,
        "new_ended_at": row.ended_at,
        "new_body": _encode(one),
        "new_retain_until": _sweep_at(one),
    }


def _sweep_at(one: Recording) -> float | None:
    """When its time is over: never while somebody holds it."""
    return None if one.hold is not None or one.retain_until is None else one.retain_until.timestamp()


class Whole(msgspec.Struct, frozen=True):
    """What `finished` puts into a row: the file's key in the store, and what was found in it. `sealed`: what opens it;
    None: it is plain, or the archive has it already."""

    key: str
    found: Examined
    gaps: tuple[Gap, ...] = ()
    sealed: SealedKey | None = None
    retain_until: datetime | None = None


async def finished(connection: AsyncConnection, recording: str, whole: Whole) -> None:
    """The file lies in the store: the recording is available. Only what was processing becomes available."""
    for row in await _processing(connection, recording):
        if whole.sealed is not None:
            place = {"recording": recording, "key": whole.sealed.key, "box": whole.sealed.box}
            await connection.execute(data_keys.insert().values(place))
        found = whole.found
        facts = {"duration": found.duration, "sha256": found.sha256, "bytes": found.bytes}
        heard = msgspec.structs.asdict(found.analysis)
        kept = {"gaps": whole.gaps, "original": found.original, "retain_until": whole.retain_until}
        await _rewrite(connection, row, columns={"key": whole.key}, status="available", **facts, **heard, **kept)


async def failed(connection: AsyncConnection, recording: str) -> None:
    """Nothing of it is playable."""
    for row in await _processing(connection, recording):
        await _rewrite(connection, row, status="failed")


async def told(connection: AsyncConnection, recording: str) -> None:
    """The session's stream has the recording's `recording.available` or `recording.failed`."""
    await connection.execute(recordings.update().where(recordings.c.id == recording).values(told=True))


async def unfinished(connection: AsyncConnection, limit: int = 100) -> list[Catalogued]:
    """Recordings of ended calls that are not whole, or whose event is not told, oldest first."""
    query = _rows().where(recordings.c.told.is_(False), recordings.c.ended_at.is_not(None))
    return await _read(connection, query.order_by(recordings.c.ended_at, recordings.c.id).limit(limit))


async def erasing(connection: AsyncConnection, limit: int = 100) -> list[Catalogued]:
    """Erased recordings whose file is not gone yet."""
    query = _rows().where(recordings.c.status == "erased", recordings.c.key.is_not(None))
    return await _read(connection, query.order_by(recordings.c.id).limit(limit))


async def expired(connection: AsyncConnection, now: float, limit: int) -> list[Catalogued]:
    """Available recordings whose time is over at `now` and that nobody holds, longest over first."""
    table = recordings.c
    query = _rows().where(table.retain_until <= now, table.status == "available").order_by(table.retain_until, table.id)
    return await _read(connection, query.limit(limit))


async def gone(connection: AsyncConnection, recording: str) -> None:
    """The file of an erased recording is deleted, and nobody need be told of the recording any more."""
    await connection.execute(recordings.update().where(recordings.c.id == recording).values(key=None, told=True))


async def stored(connection: AsyncConnection, after: str, limit: int) -> list[tuple[str, str]]:
    """Recordings of all tenants whose file lies in the store, by id, after the id `after`: (tenant, id)."""
    table = recordings.c
    query = sql.select(table.tenant, table.id).where(table.key.is_not(None), table.id > after)
    rows = await connection.execute(query.order_by(table.id).limit(limit))
    return [(row.tenant, row.id) for row in rows]


async def count_stored(connection: AsyncConnection) -> int:
    """How many recordings `stored` gives in all."""
    query = sql.select(sql.func.count()).select_from(recordings).where(recordings.c.key.is_not(None))
    return int((await connection.execute(query)).scalar_one())


async def known(connection: AsyncConnection, names: Sequence[str]) -> set[str]:
    """Which of these recordings have a row, whoever's they are."""
    found = await connection.execute(sql.select(recordings.c.id).where(recordings.c.id.in_(names)))
    return set(found.scalars())


async def get(connection: AsyncConnection, tenant: str, recording: str) -> Catalogued | None:
    """A tenant's recording, or None."""
    found = await _where(connection, recordings.c.id == recording, recordings.c.tenant == tenant)
    return found[0] if found else None


async def page(
    connection: AsyncConnection,
    tenant: str,
    narrowed: Filter,
    *,
    before: tuple[float, str] | None,
    limit: int,
) -> list[Recording]:
    """A tenant's recordings, newest first, older than `before`: (started_at in seconds, id) of the last one seen."""
    words = [word for word in (narrowed.number, narrowed.participant, narrowed.person) if word is not None]
    if words and narrowed.session is None and narrowed.unique_name is None:
        return await _page_of_words(connection, tenant, words, narrowed, before, limit)
    table = recordings.c
    query = _rows().where(table.tenant == tenant)
    if narrowed.session is not None:
        query = query.where(table.session == narrowed.session)
    if narrowed.unique_name is not None:
        query = query.where(table.unique_name == narrowed.unique_name)
    for word in words:
        query = query.where(_has(tenant, word, table.started_at, table.id))
    query = _newest(query, table.started_at, table.id, narrowed, before, limit)
    return [row.recording for row in await _read(connection, query)]


async def _page_of_words(
    connection: AsyncConnection,
    tenant: str,
    words: Sequence[str],
    narrowed: Filter,
    before: tuple[float, str] | None,
    limit: int,
) -> list[Recording]:
    """First which, from the words' own index in its own order, then what they are: in one query a planner that guesses
    wrongly how many there are would read all of a busy number's recordings to sort them."""
    key = recording_keys.c
    query: sql.Select[Any] = sql.select(key.started_at, key.recording)
    query = query.where(key.tenant == tenant, key.word == words[0])
    for word in words[1:]:
        query = query.where(_has(tenant, word, key.started_at, key.recording))
    query = _newest(query, key.started_at, key.recording, narrowed, before, limit)
    found = (await connection.execute(query)).all()
    if not found:
        return []
    table, (oldest, newest) = recordings.c, (found[-1].started_at, found[0].started_at)
    bodies = _rows().where(table.id.in_([row.recording for row in found]))
    rows = await _read(connection, bodies.where(table.started_at.between(oldest, newest)))  # the months they lie in
    return sorted((row.recording for row in rows), key=position, reverse=True)


def _has(
    tenant: str, word: str, started_at: sql.ColumnElement[float], name: sql.ColumnElement[str]
) -> sql.ColumnElement[bool]:
    """Is this recording found by the word, too?"""
    key = recording_keys.alias().c
    return sql.exists().where(
        key.tenant == tenant, key.word == word, key.started_at == started_at, key.recording == name
    )


def _newest(
    query: sql.Select[Any],
    at: sql.ColumnElement[float],
    name: sql.ColumnElement[str],
    narrowed: Filter,
    before: tuple[float, str] | None,
    limit: int,
) -> sql.Select[Any]:
    if narrowed.since is not None:
        query = query.where(at >= narrowed.since)
    if narrowed.until is not None:
        query = query.where(at < narrowed.until)
    if before is not None:
        query = query.where(sql.tuple_(at, name) < sql.tuple_(*before))  # an index reads on from there
    return query.order_by(at.desc(), name.desc()).limit(limit)


def position(recording: Recording) -> tuple[float, str]:
    """Where a list goes on after this recording: what `page` takes as `before`."""
    return recording.started_at.timestamp(), recording.id


def _rows() -> sql.Select[Any]:
    table = recordings.c
    return sql.select(table.body, table.tenant, table.ended_at, table.key, table.told)


async def _read(connection: AsyncConnection, query: sql.Select[Any]) -> list[Catalogued]:
    rows = (await connection.execute(query)).all()
    return [
        Catalogued(msgspec.json.decode(body, type=Recording), tenant, ended_at, key, bool(is_told))
        for body, tenant, ended_at, key, is_told in rows
    ]


async def _where(connection: AsyncConnection, *conditions: sql.ColumnElement[bool]) -> list[Catalogued]:
    return await _read(connection, _rows().where(*conditions))


async def _processing(connection: AsyncConnection, recording: str) -> list[Catalogued]:
    """The row while it is processing, held: what a `Draft` tells of its call meanwhile is not overwritten."""
    query = _rows().where(recordings.c.id == recording, recordings.c.status == "processing")
    return await _read(connection, query.with_for_update())


async def _rewrite(
    connection: AsyncConnection, row: Catalogued, *, columns: dict[str, Any] | None = None, **changes: Any
) -> None:
    """One UPDATE: the shape with its changes, and the columns that follow from it."""
    shape = msgspec.structs.replace(row.recording, **changes)
    values = {"status": shape.status, "body": _encode(shape), "retain_until": _sweep_at(shape)} | (columns or {})
    await connection.execute(recordings.update().where(recordings.c.id == shape.id).values(values))


def _encode(shape: Recording) -> str:
    return msgspec.json.encode(shape).decode()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
