"""A vault as a courier and an API process have it, and recordings put into it in one step."""

from __future__ import annotations

import hashlib
import os

from sqlalchemy.ext.asyncio import AsyncEngine

from recordings.analysis import Analysis
from recordings.catalogue import Whole
from recordings.providers import FileProvider
from recordings.render import QUIETEST
from recordings.seals import SealedKey, seal
from recordings.store import Store
from recordings.tables import tenant_keys
from recordings.vault import Vault
from recordings.waves import Examined, Original
from tests.recordings.phones import LOCK, PRIVATE

PROVIDER = FileProvider(bytes(32), os.urandom)


def vault_of(engine: AsyncEngine, store: Store) -> Vault:
    return Vault(engine, store, PROVIDER, os.urandom)


async def own(engine: AsyncEngine) -> None:
    """The tenant that `phones.begin` seals captures to has its pair."""
    wrapped = await PROVIDER.wrap(PRIVATE, f"{LOCK.tenant} {LOCK.key}")
    row = {"tenant": LOCK.tenant, "number": 1, "public": LOCK.public, "wrapped": wrapped, "made_at": 0.0}
    async with engine.begin() as connection:
        await connection.execute(tenant_keys.insert().values(row))


def whole_of(key: str, sound: bytes, *, duration: float, sealed: SealedKey | None = None) -> Whole:
    """What a finisher would have found, had it stored these bytes as they are."""
    digest, size = hashlib.sha256(sound).hexdigest(), len(sound)
    heard = Analysis(loudness=(-20.5, QUIETEST), silence=0.25, talk_over=0.0, peaks=((1, 50), (0, 0)))
    return Whole(key, Examined(Original("wav", digest, size), size, digest, duration, heard), sealed=sealed)


async def shelved(vault: Vault, tenant: str, recording: str, sound: bytes, *, duration: float = 1.0) -> Whole:
    """The sound as a sealed file of its tenant."""
    lock = (await vault.locks()).get(tenant) or await vault.rotate(tenant, 0.0)
    key, data_key = f"{recording}.sealed", os.urandom(32)
    await vault.put(key, recording, data_key, iter([sound]))
    sealed = SealedKey(lock.key, seal(lock, recording, data_key))
    return whole_of(key, sound, duration=duration, sealed=sealed)
