"""The courier's own fixtures: a world whose archive is brought up to date, and a courier that goes round by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive
from masking.courier import schema
from masking.courier.outbox import Outbox
from masking.courier.sweeper import Sweeper
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis
from tests.masking.world import World


@pytest.fixture(scope="session")
def revisions() -> ScriptDirectory:
    return schema.revisions()


@pytest.fixture
def engine(archive_url: str) -> AsyncEngine:
    return archive.engine(archive_url)


@pytest.fixture
async def archived(engine: AsyncEngine, revisions: ScriptDirectory) -> AsyncIterator[AsyncEngine]:
    """An archive with its tables."""
    await schema.upgrade(engine, revisions)
    yield engine
    await engine.dispose()


@pytest.fixture
async def world(redis: Redis, keyring: Keyring, tmp_path: Path, archived: AsyncEngine) -> World:
    return await World.make(redis, keyring, tmp_path, archived)


@dataclass
class Round:
    """A courier whose rounds the test goes."""

    world: World
    outbox: Outbox
    sweeper: Sweeper
    engine: AsyncEngine

    async def carry(self) -> int:
        """Until there is nothing left; how many entries."""
        total = 0
        while done := await self.outbox.round(wait_ms=1):
            total += done
        return total

    async def rows(self, table: sql.Table) -> list[Any]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(sql.select(table))).all())


@pytest.fixture
async def waiting(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis(redis_url, budget=5.0, blocking=True)
    yield client
    await client.close()


@pytest.fixture
def courier(world: World, waiting: Redis, archived: AsyncEngine) -> Round:
    return Round(world, Outbox(world.house, archived, Leases(waiting)), Sweeper(world.house), archived)
