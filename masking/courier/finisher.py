"""From a call's capture to its recording: rendered, stored, catalogued and told, exactly once.

A recording is due when its call has ended and nobody writes its capture any more: the relay closed it, or the relay
is dead and the kernel let go of its lock. Then, in this order, each step idempotent, so that a courier killed
anywhere goes on where it was:

    1. render, seal, store  create-only; a whole file under this data key that is there already is what we wanted
    2. one SQL transaction  status available (or failed, when nothing is playable); the row names the file and the
                            SHA-256 of what it holds, and the sealed data key moves in beside it
    3. one event            recording.available | recording.failed, in one step with a mark on the session, so never
                            twice
    4. wipe the capture     nothing before this line loses anything
    5. told                 the row is nobody's business any more

Whatever fails (storage away, Redis away, disk full) is tried again, later and later, and holds up no other recording.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
import structlog
from anyio.to_thread import run_sync

from masking.courier.terms import kept_until
from recordings import catalogue
from recordings.capture import (
    CaptureBroken,
    begun_of,
    left_behind,
    open_for_reading,
    path_of,
    wipe,
    writer_lives,
)
from recordings.catalogue import Catalogued, Recording, Whole
from recordings.chunks import Altered
from recordings.opus import NotDecoded
from recordings.render import pcm, survey
from recordings.seals import NotOpened, SealedKey
from recordings.store import AlreadyStored, NotStored
from recordings.waves import encoded, examine

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from masking.house import House
    from recordings.vault import Vault

log = structlog.get_logger("masking.courier")

PAUSE: Final = 0.25
AT_ONCE: Final = 4  # recordings: most of the time of one is the store's
MISSING: Final = 10.0
"""Seconds after the call's end from which a capture that is not there will not come any more."""
LONGEST_DELAY: Final = 60.0
STRAY: Final = 7 * 86_400.0
"""Seconds after which a capture that no row of the catalogue names is nobody's: an edge died before it told of it."""
STRAYS_EVERY: Final = 3600.0


# What will not change any more, and is told of an available recording.
SETTLED: Final = (
    "unique_name", "started_at", "duration", "sha256", "bytes", "gaps", "pauses", "channels", "notices", "original",
    "retain_until",
)  # fmt: skip


class Finisher:
    """One a courier. `engine`: the archive; `vault`: where recordings lie; `spool`: where the relay writes captures."""

    def __init__(self, house: House, engine: AsyncEngine, vault: Vault, spool: Path) -> None:
        self._form = house.config.recordings.format
        self._house = house
        self._engine = engine
        self._vault = vault
        self._store = vault.store
        self._spool = spool
        self._later: dict[str, tuple[float, float]] = {}
        self._strays_seen = 0.0
        self._unscrubbed = False

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
        room = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(self._try, row, room)

    async def _try(self, row: Catalogued, room: anyio.CapacityLimiter) -> None:
        """Finishes a recording that is not put off, as soon as there is room."""
        name = row.recording.id
        delay, not_before = self._later.get(name, (PAUSE, 0.0))
        async with room:
            if self._house.now() < not_before:
                return
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
            await run_sync(wipe, path_of(self._spool, row.recording.id))
            async with unbroken(self._engine.begin()) as connection:
                await catalogue.gone(connection, row.recording.id)
            log.info("recording_erased", recording=row.recording.id)
            self._unscrubbed = True
        if self._unscrubbed:
            self._unscrubbed = not await self._vault.scrub()

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
                await run_sync(wipe, path_of(self._spool, name))

    async def _finish(self, row: Catalogued) -> None:
        recording = row.recording
        capture = path_of(self._spool, recording.id)
        if recording.status == "processing":
            if not await self._is_due(row, capture):
                return
            recording = await self._settle(row, capture)
        if recording.status == "erased":  # which somebody told, while it was made perhaps
            await self._store.delete(key_of(row))
        else:
            await self._tell(recording)
        await run_sync(wipe, capture)
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
        until = await kept_until(self._house, self._engine, row)
        async with unbroken(self._engine.begin()) as connection:
            if whole is None:
                await catalogue.failed(connection, recording.id)
            else:
                whole = msgspec.structs.replace(whole, retain_until=until)
                await catalogue.finished(connection, recording.id, whole)
            settled = await catalogue.get(connection, row.tenant, recording.id)
        assert settled is not None, "rows are never deleted"
        return settled.recording

    async def _render(self, row: Catalogued, capture: Path) -> Whole | None:
        """Step 1: the file, its length in seconds and its gaps, or None when nothing is playable."""
        try:
            begun = await run_sync(begun_of, capture)
            sealed = SealedKey(begun.key, begun.box)
            data_key = await self._vault.data_key(row.tenant, row.recording.id, sealed)
            reader = await run_sync(open_for_reading, capture, data_key)
        except (CaptureBroken, NotOpened):
            return None
        except FileNotFoundError:
            return await self._rendered(row)
        started_at = row.recording.started_at.timestamp()
        known_end = None if row.ended_at is None else max(row.ended_at - started_at, 0.0)
        rendering = await run_sync(survey, reader, known_end)
        if not rendering.playable:
            return None
        key, name = key_of(row), row.recording.id

        def original() -> Iterator[bytes]:
            return encoded(self._form, pcm(reader, rendering), rendering.samples, rendering.kept)

        with suppress(AlreadyStored):
            await self._vault.put(key, name, data_key, original())
        try:
            found = await self._examined(key, name, data_key)
        except (Altered, NotDecoded):
            log.warning("upload_redone", recording=name)
            await self._store.delete(key)
            await self._vault.put(key, name, data_key, original())
            found = await self._examined(key, name, data_key)
        return msgspec.structs.replace(found, gaps=rendering.gaps, sealed=sealed)

    async def _examined(self, key: str, name: str, data_key: bytes) -> Whole:
        """Reads the file back from the store: what is catalogued is what lies there."""
        return Whole(key, await examine(self._vault.file(key, name, data_key)))

    async def _rendered(self, row: Catalogued) -> Whole | None:
        """Without its capture: a power cut can lose the row after step 4 was done, while the file and its key stand."""
        sealed = await self._vault.sealed_key(row.recording.id)
        if sealed is None:
            return None
        data_key = await self._vault.data_key(row.tenant, row.recording.id, sealed)
        with suppress(NotStored, Altered, NotDecoded):
            return await self._examined(key_of(row), row.recording.id, data_key)
        return None

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
    return f"{row.tenant}/{day:%Y/%m/%d}/{row.recording.id}.sealed"


def _data(recording: Recording) -> bytes:
    """Of an available recording everything that is settled, so that the chain of evidence seals its row as well."""
    facts: dict[str, object] = {"recording": recording.id, "interaction": recording.interaction}
    if recording.status == "failed":
        facts["reason"] = "nothing_playable"
    if recording.status == "available":
        facts |= {name: getattr(recording, name) for name in SETTLED}
    return msgspec.json.encode(facts)
