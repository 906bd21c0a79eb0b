"""The benchmark of searches fills the catalogue as it is, and every way it asks finds something."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive
from masking.courier import schema
from recordings import catalogue
from tests.recordings import bench_retrieval

COUNT = 600


@pytest.fixture
def revisions() -> ScriptDirectory:
    return schema.revisions()


@pytest.fixture
def opened(archive_url: str) -> AsyncEngine:
    return archive.engine(archive_url)


@pytest.fixture
async def unfilled(opened: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    yield opened
    await opened.dispose()


async def test_every_way_finds_recordings_newest_first(
    unfilled: AsyncEngine, revisions: ScriptDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_retrieval, "ASKED", 4)
    engine = unfilled
    await schema.upgrade(engine, revisions)
    if engine.dialect.name == "sqlite":
        await asyncio.to_thread(bench_retrieval.fill_sqlite, tmp_path / "archive.sqlite3", COUNT)
    else:
        await bench_retrieval.fill_postgresql(engine, COUNT)
    ways = bench_retrieval.ways(COUNT, random.Random(1))
    for way, filters in ways.items():
        async with engine.connect() as connection:
            pages = [await catalogue.page(connection, "t", one, before=None, limit=9) for one in islice(filters, 4)]
        assert any(pages) or " " in way, f"{way}: of so few, two words need have none in common"
        for page in pages:
            assert page == sorted(page, key=catalogue.position, reverse=True), way
    assert set(await bench_retrieval.measured(engine, COUNT)) == set(ways)
