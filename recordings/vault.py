"""Recordings as whoever may open them has them: tenants' key pairs, a recording's data key, its sound.

Errors: `recordings.providers.KeyRefused` and `KeysAway`; `recordings.seals.NotOpened`; of a sound,
`recordings.store.NotStored` and `recordings.chunks.Altered`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import anyio
import sqlalchemy as sql
from anyio.to_thread import run_sync
from sqlalchemy.exc import IntegrityError

from recordings import chunks
from recordings.catalogue import Catalogued
from recordings.chunks import SealedFile
from recordings.providers import PURPOSE, KeyRefused, Provider, Settings, provider_of
from recordings.seals import KEY_SIZE, Lock, SealedKey, public_of, unseal
from recordings.store import Store, Stored
from recordings.tables import data_keys, tenant_keys
from recordings.waves import Decoded, Sound, in_a_thread

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

REMEMBERED: Final = 1000
"""Private keys that a process keeps unwrapped: a provider is asked once for each."""


class PlainFile:
    """A sound from before recordings were sealed."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key

    async def size(self) -> int:
        return await self._store.size(self._key)

    def get(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return self._store.get(self._key, start, end)


class Vault:
    """One a process. `entropy(n)`: n random bytes."""

    def __init__(self, engine: AsyncEngine, store: Store, provider: Provider, entropy: Callable[[int], bytes]) -> None:
        self.store = store
        self._engine = engine
        self._provider = provider
        self._entropy = entropy
        self._privates: dict[tuple[str, str], bytes] = {}

    # ---- tenants' keys ----

    async def locks(self) -> dict[str, Lock]:
        """Each tenant's newest key, by tenant."""
        newest = sql.select(tenant_keys.c.tenant, sql.func.max(tenant_keys.c.number).label("number"))
        newest_of = newest.group_by(tenant_keys.c.tenant).subquery()
        query = sql.select(tenant_keys.c.tenant, tenant_keys.c.number, tenant_keys.c.public).join(
            newest_of,
            sql.and_(tenant_keys.c.tenant == newest_of.c.tenant, tenant_keys.c.number == newest_of.c.number),
        )
        rows = await self._read(query)
        return {tenant: Lock(tenant, _name(number), public) for tenant, number, public in rows}

    async def rotate(self, tenant: str, now: float) -> Lock:
        """A fresh pair for the tenant, its newest; what was sealed to the others still opens. `now`: seconds since
        1970."""
        while True:
            query = sql.select(sql.func.max(tenant_keys.c.number)).where(tenant_keys.c.tenant == tenant)
            number = ((await self._read(query))[0][0] or 0) + 1
            private = self._entropy(KEY_SIZE)
            lock = Lock(tenant, _name(number), public_of(private))
            wrapped = await self._provider.wrap(private, _place(tenant, lock.key))
            row = {"tenant": tenant, "number": number, "public": lock.public, "wrapped": wrapped, "made_at": now}
            try:
                with anyio.CancelScope(shield=True):
                    async with self._engine.begin() as connection:
                        await connection.execute(tenant_keys.insert().values(row))
            except IntegrityError:  # somebody else was faster: there is one more by now
                continue
            return lock

    # ---- one recording ----

    async def data_key(self, tenant: str, recording: str, sealed: SealedKey) -> bytes:
        """The recording's own key."""
        private = await self._private(tenant, sealed.key)
        return await run_sync(unseal, private, tenant, sealed.key, recording, sealed.box)

    async def sealed_key(self, recording: str) -> SealedKey | None:
        """What opens the recording's file; None: nothing does, or it is plain, from before recordings were sealed."""
        rows = await self._read(sql.select(data_keys.c.key, data_keys.c.box).where(data_keys.c.recording == recording))
        return SealedKey(rows[0].key, rows[0].box) if rows else None

    async def original(self, row: Catalogued) -> Sound:
        """What lies in the store of a recording that has a file (`row.key`), in the form it was stored in."""
        assert row.key is not None, "asked of recordings that have a file"
        sealed = await self.sealed_key(row.recording.id)
        if sealed is None:
            return PlainFile(self.store, row.key)
        data_key = await self.data_key(row.tenant, row.recording.id, sealed)
        return self.file(row.key, row.recording.id, data_key)

    async def sound(self, row: Catalogued) -> Sound:
        """The same as a WAV."""
        original, size = await self.original(row), row.recording.bytes
        is_wav = row.recording.original is None or row.recording.original.format == "wav"
        return original if is_wav or size is None else Decoded(original, size)

    def file(self, key: str, recording: str, data_key: bytes) -> SealedFile:
        """A sealed file in the store, opened."""
        return SealedFile(self.store, key, data_key, recording)

    async def put(self, key: str, recording: str, data_key: bytes, pieces: Iterator[bytes]) -> None:
        """Seals the pieces (made in a thread, some at a time) into a new file. `AlreadyStored`."""
        salt = self._entropy(chunks.SALT)
        await self.store.put(key, in_a_thread(chunks.sealed(pieces, data_key, recording, salt)))

    async def scrub(self) -> bool:
        """What was deleted leaves the database's own files too, as far as the database lets us: SQLite's log of what
        was written before, PostgreSQL's dead rows. False: somebody is reading; ask again."""
        sqlite = self._engine.dialect.name == "sqlite"
        order = "PRAGMA wal_checkpoint(TRUNCATE)" if sqlite else "VACUUM data_keys"
        done = True
        with anyio.CancelScope(shield=True):
            async with self._engine.connect() as bare:
                connection = await bare.execution_options(isolation_level="AUTOCOMMIT")
                answer = await connection.execute(sql.text(order))
                done = not sqlite or answer.one()[0] == 0
        return done

    async def _read(self, query: sql.Select[Any]) -> list[Any]:
        """SQLite's driver, cancelled while it closes, waits for a thread that has gone: so this is not."""
        rows: list[Any] = []
        with anyio.CancelScope(shield=True):
            async with self._engine.connect() as connection:
                rows += (await connection.execute(query)).all()
        return rows

    async def _private(self, tenant: str, key: str) -> bytes:
        found = self._privates.get((tenant, key))
        if found is None:
            number = int(key.removeprefix("k")) if key[1:].isdigit() else 0
            query = sql.select(tenant_keys.c.wrapped)
            query = query.where(tenant_keys.c.tenant == tenant, tenant_keys.c.number == number)
            rows = await self._read(query)
            if not rows:
                raise KeyRefused(f"the tenant {tenant} has no key {key}")
            found = await self._provider.unwrap(rows[0].wrapped, _place(tenant, key))
            if len(self._privates) >= REMEMBERED:
                self._privates.clear()
            self._privates[tenant, key] = found
        return found


def open_vault(
    engine: AsyncEngine,
    store: Store,
    settings: Settings,
    derived: Callable[[str], bytes],
    entropy: Callable[[int], bytes],
) -> Vault:
    """The vault of an installation. `settings`: its `[keys]`; `derived(purpose)`: 32 bytes from its key file."""
    return Vault(engine, store, provider_of(settings, derived(PURPOSE), entropy), entropy)


async def fingerprint(key: str, sound: Sound) -> Stored:
    """Reads all of a sound and says what it is. `NotStored`, `Altered`."""
    digest, size = hashlib.sha256(), 0
    async for piece in sound.get():
        digest.update(piece)
        size += len(piece)
    return Stored(key, size, digest.hexdigest())


def _name(number: int) -> str:
    return f"k{number}"


def _place(tenant: str, key: str) -> str:
    return f"{tenant} {key}"
