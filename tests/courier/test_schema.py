"""The migrations make the tables that the code knows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive
from masking.courier import schema
from recordings import catalogue


async def test_migrating_makes_exactly_the_tables_of_the_code(archived: AsyncEngine) -> None:
    whole = sql.MetaData()
    for metadata in (archive.metadata, catalogue.metadata):
        for table in metadata.tables.values():
            table.to_metadata(whole)

    def differences(connection: sql.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, whole))

    async with archived.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_database_that_is_up_to_date_is_left_alone(archived: AsyncEngine, revisions: ScriptDirectory) -> None:
    async with archived.begin() as connection:
        await connection.execute(archive.positions.insert().values(stream="abcdef", entry="1-0"))
    await schema.upgrade(archived, revisions)
    async with archived.connect() as connection:
        assert (await connection.execute(sql.select(archive.positions))).all() == [("abcdef", "1-0")]


async def test_an_address_is_shown_without_its_password() -> None:
    assert archive.described("postgresql+asyncpg://me:secret@db/masking") == "postgresql+asyncpg://…@db/masking"
