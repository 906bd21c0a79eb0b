"""From a call's capture to its recording: rendered, stored, catalogued and told, exactly once.

A recording is due when its call has ended and nobody writes its capture any more: the relay closed it, or the relay
is dead and the kernel let go of its lock. Then, in this order, each step idempotent, so that a courier killed
anywhere goes on where it was:

    1. render and store     create-only; the same capture renders to the same bytes, so what is there already is what
    we wanted 2. one SQL UPDATE       status available (or failed, when nothing is playable); the row names the file
    and its SHA-256 3. one event            recording.available | recording.failed, in one step with a mark on the
    session, so never twice 4. delete the capture   nothing before this line loses anything 5. told
    the row is nobody's business any more

Whatever fails (storage away, Redis away, disk full) is tried again, later and later, and holds up no other recording.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
import structlog
from anyio.to_thread import run_sync

from recordings import catalogue
from recordings.capture import CaptureBroken, left_behind, open_for_reading, path_of, writer_lives
from recordings.catalogue import Catalogued, Recording
from recordings.render import Gap, duration_of, survey, wav
from recordings.store import AlreadyStored, NotStored, Store, Stored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from masking.house import House

log = structlog.get_logger("masking.courier")

PAUSE: Final = 0.25
MISSING: Final = 10.0
"""Seconds after the call's end from which a capture that is not there will not come any more."""
LONGEST_DELAY: Final = 60.0
STRAY: Final = 7 * 86_400.0
"""Seconds after which a capture that no row of the catalogue names is nobody's: an edge died before it told of it."""
STRAYS_EVERY: Final = 3600.0
SECONDS_A_CHUNK: Final = 32


class Finisher:
    """One a courier. `engine`: the archive; `store`: where recordings lie; `spool`: where the relay writes captures."""

    def __init__(self, house: House, engine: AsyncEngine, store: Store, spool: Path) -> None:
        self._house = house
        self._engine = engine
        self._store = store
        self._spool = spool
        self._later: dict[str, tuple[float, float]] = {}
        self._strays_seen = 0.0

    async def run(self) -> None:
        """Finishes recordings until cancelled. No trouble with Redis, SQL, the store or a single recording ends it."""
        tidied = False
        while True:
            try:
                if not tidied:
                    await self._store.tidy()
                    tidied = True
                await self.round()
                await self.erase()
                await self.forget_strays()
            except Exception as error:  # the archive or the store is away: they come back, and so do we
                log.warning("finisher_waits", error=type(error).__name__)
            await anyio.sleep(PAUSE)

    async def round(self) -> None:
        """Takes every recording that is due one time; what fails is put off. Raises only when the archive is away."""
        async with unbroken(self._engine.connect()) as connection:
            rows = await catalogue.unfinished(connection)
        names = {row.recording.id for row in rows}
        self._later = {name: delay for name, delay in self._later.items() if name in names}
        for row in rows:
            name = row.recording.id
            delay, not_before = self._later.get(name, (PAUSE, 0.0))
            if self._house.now() < not_before:
                continue
            try:
                await self._finish(row)
            except Exception as error:  # one recording's trouble holds up no other
                log.warning("recording_delayed", recording=name, error=type(error).__name__, seconds=delay)
                self._later[name] = (min(2 * delay, LONGEST_DELAY), self._house.now() + delay)

    async def erase(self) -> None:
        """Deletes the sound of erased recordings: the file, and what the relay left of it."""
        async with unbroken(self._engine.connect()) as connection:
            rows = await catalogue.erasing(connection)
        for row in rows:
            assert row.key is not None, "asked for by its key"
            await self._store.delete(row.key)
            await run_sync(partial(path_of(self._spool, row.recording.id).unlink, missing_ok=True))
            async with unbroken(self._engine.begin()) as connection:
                await catalogue.gone(connection, row.recording.id)
            log.info("recording_erased", recording=row.recording.id)

    async def forget_strays(self) -> None:
        """Deletes, looking once an hour, captures that no recording will ever be made of: sound that nobody could find,
        and nobody could erase, may not stay."""
        now = self._house.now()
        if now < self._strays_seen + STRAYS_EVERY:
            return
        self._strays_seen = now
        names = await run_sync(left_behind, self._spool, now - STRAY)
        async with unbroken(self._engine.connect()) as connection:
            known = await catalogue.known(connection, names)
        for name in names:
            if name not in known:
                log.warning("capture_without_recording", recording=name)
                await run_sync(partial(path_of(self._spool, name).unlink, missing_ok=True))

    async def _finish(self, row: Catalogued) -> None:
        recording = row.recording
        capture = path_of(self._spool, recording.id)
        if recording.status == "processing":
            if not await self._is_due(row, capture):
                return
            recording = await self._settle(row, capture)
        if recording.status != "erased":  # which somebody told
            await self._tell(recording)
        await run_sync(partial(capture.unlink, missing_ok=True))
        async with unbroken(self._engine.begin()) as connection:
            await catalogue.told(connection, recording.id)
        log.info("recording_finished", recording=recording.id, status=recording.status, gaps=len(recording.gaps))

    async def _is_due(self, row: Catalogued, capture: Path) -> bool:
        try:
            return not await run_sync(writer_lives, capture)
        except FileNotFoundError:
            return row.ended_at is None or self._house.now() >= row.ended_at + MISSING

    async def _settle(self, row: Catalogued, capture: Path) -> Recording:
        """Steps 1 and 2: the file in the store, the row available or failed. Answers the row's recording as it
        stands."""
        recording = row.recording
        whole = await self._render(row, capture)
        async with unbroken(self._engine.begin()) as connection:
            if whole is None:
                await catalogue.failed(connection, recording.id)
            else:
                stored, duration, gaps = whole
                await catalogue.finished(
                    connection,
                    recording.id,
                    key=stored.key,
                    sha256=stored.sha256,
                    size=stored.bytes,
                    duration=duration,
                    gaps=gaps,
                )
            settled = await catalogue.get(connection, row.tenant, recording.id)
        assert settled is not None, "rows are never deleted"
        return settled.recording

    async def _render(self, row: Catalogued, capture: Path) -> tuple[Stored, float, tuple[Gap, ...]] | None:
        """Step 1: the file, its length in seconds and its gaps, or None when nothing is playable."""
        key = key_of(row)
        try:
            reader = await run_sync(open_for_reading, capture)
        except CaptureBroken:
            return None
        except FileNotFoundError:
            # A power cut can lose step 2 after step 4 was done: the file is there, and all of it.
            with suppress(NotStored):
                stored = await self._store.stored(key)
                return stored, duration_of(stored.bytes), ()
            return None
        started_at = row.recording.started_at.timestamp()
        known_end = None if row.ended_at is None else max(row.ended_at - started_at, 0.0)
        rendering = await run_sync(survey, reader, known_end)
        if not rendering.playable:
            return None
        try:
            stored = await self._store.put(key, _in_a_thread(wav(reader, rendering)))
        except AlreadyStored:
            stored = await self._store.stored(key)
        return stored, rendering.duration, rendering.gaps

    async def _tell(self, recording: Recording) -> None:
        """Step 3. A courier killed between the append and its answer finds its own mark on the session, and appends
        nothing."""
        kind = f"recording.{recording.status}"
        mark = f"told:{recording.id}"
        while True:
            holder = await self._house.leases.read(recording.session)
            if holder is None or mark in holder.fields:
                return
            answer = await self._house.leases.append(
                recording.session, [(kind, None, _data(recording))], set_fields={mark: 1}, expect_rev=holder.rev
            )
            if answer.outcome != "conflict":
                return


@asynccontextmanager
async def unbroken(opening: AbstractAsyncContextManager[AsyncConnection]) -> AsyncIterator[AsyncConnection]:
    """A connection whose work is not cancelled halfway: SQLite's driver, cancelled while it closes, waits for a thread
    that has gone, and the process with it."""
    with anyio.CancelScope(shield=True):
        async with opening as connection:
            yield connection


def key_of(row: Catalogued) -> str:
    """Where a recording's file lies: by tenant and day, so that retention and export walk folders."""
    day = row.recording.started_at.astimezone(UTC)
    return f"{row.tenant}/{day:%Y/%m/%d}/{row.recording.id}.wav"


def _data(recording: Recording) -> bytes:
    facts: dict[str, object] = {"recording": recording.id, "interaction": recording.interaction}
    if recording.status == "available":
        facts |= {"duration": recording.duration, "sha256": recording.sha256, "bytes": recording.bytes}
        facts["gaps"] = recording.gaps
    return msgspec.json.encode(facts)


async def _in_a_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, made in a worker thread, some at a time: the loop stays free and memory small."""
    while part := b"".join(await run_sync(lambda: list(islice(chunks, SECONDS_A_CHUNK)))):
        yield part
