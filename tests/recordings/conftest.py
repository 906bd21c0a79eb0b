"""An archive with the recordings' tables, and a store in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive
from masking.archive import engine as archive_engine
from recordings import catalogue
from recordings.store import ObjectStore, open_store
from recordings.vault import Vault
from tests.recordings.aws import CREDENTIALS, Aws
from tests.recordings.vaults import own, vault_of


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Aws]:
    server = Aws()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def aws(aws_server: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """S3 and KMS on loopback, and the credentials for them in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return aws_server


@pytest.fixture
def empty(archive_url: str) -> AsyncEngine:
    return archive_engine(archive_url)


@pytest.fixture
async def engine(empty: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    engine = empty
    async with engine.begin() as connection:
        await connection.run_sync(catalogue.metadata.create_all)
        await connection.run_sync(archive.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture
async def vault(engine: AsyncEngine, store: ObjectStore) -> Vault:
    """Of the tenant whom captures are sealed to here."""
    await own(engine)
    return vault_of(engine, store)


@pytest.fixture
async def store(tmp_path: Path) -> ObjectStore:
    names = count()
    return await open_store((tmp_path / "store").as_uri(), lambda: f"part-{next(names)}")
