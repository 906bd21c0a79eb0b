"""A vault as a courier and an API process have it, and recordings put into it in one step."""

from __future__ import annotations

import os

from sqlalchemy.ext.asyncio import AsyncEngine

from recordings.providers import FileProvider
from recordings.seals import SealedKey, seal
from recordings.store import Store, Stored
from recordings.tables import tenant_keys
from recordings.vault import Vault
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


async def shelved(vault: Vault, tenant: str, recording: str, sound: bytes) -> tuple[Stored, SealedKey]:
    """The sound as a sealed file of its tenant, and what opens it."""
    lock = (await vault.locks()).get(tenant) or await vault.rotate(tenant, 0.0)
    data_key = os.urandom(32)
    stored = await vault.put(f"{recording}.sealed", recording, data_key, iter([sound]))
    return stored, SealedKey(lock.key, seal(lock, recording, data_key))
