"""The migrations make the tables that the code knows."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive
from masking.courier import months, schema
from masking.courier.months import Months
from masking.events import moment
from recordings import catalogue
from tests.masking.world import World
from tests.recordings import drafts


async def test_migrating_makes_exactly_the_tables_of_the_code(archived: AsyncEngine) -> None:
    whole = sql.MetaData()
    for metadata in (archive.metadata, catalogue.metadata):
        for table in metadata.tables.values():
            table.to_metadata(whole)

    def ours(name: str | None, kind: str, _parents: Any) -> bool:
        """PostgreSQL's partitions are tables too."""
        return kind != "table" or name is None or not re.search(r"_(\d{4}_\d{2}|other)$", name)

    def differences(connection: sql.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": ours})
        return list(compare_metadata(context, whole))

    async with archived.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_database_that_is_up_to_date_is_left_alone(archived: AsyncEngine, revisions: ScriptDirectory) -> None:
    async with archived.begin() as connection:
        await connection.execute(archive.positions.insert().values(stream="abcdef", entry="1-0"))
    await schema.upgrade(archived, revisions)
    async with archived.connect() as connection:
        assert (await connection.execute(sql.select(archive.positions))).all() == [("abcdef", "1-0")]


async def test_recordings_of_postgresql_lie_in_the_months_their_calls_began_in(
    world: World, archived: AsyncEngine
) -> None:
    now = world.house.now()
    long_ago, much_later = now - 800 * 86_400, now + 50 * 86_400
    await Months(world.house, archived).round()
    await Months(world.house, archived).round()
    async with archived.begin() as connection:
        for number, at in enumerate((now, long_ago, much_later)):
            await drafts.begun(
                connection,
                tenant="t",
                recording=f"rec_{number}",
                session="ses_1",
                interaction=f"int_{number}",
                unique_name=None,
                started_at=at,
                channels=(),
                words=("+842400000001",),
            )
        page = await catalogue.page(connection, "t", catalogue.Filter(number="+842400000001"), before=None, limit=9)
        assert [one.id for one in page] == ["rec_2", "rec_0", "rec_1"]
        if archived.dialect.name == "postgresql":
            for table in months.TABLES:
                where = sql.text(f"SELECT tableoid::regclass::text FROM {table} ORDER BY started_at")
                wanted = ["other", f"{moment(now):%Y_%m}", f"{moment(much_later):%Y_%m}"]
                assert list((await connection.execute(where)).scalars()) == [f"{table}_{name}" for name in wanted]


async def test_what_was_there_before_the_months_is_kept(engine: AsyncEngine, revisions: ScriptDirectory) -> None:
    def steps(connection: sql.Connection, to: str) -> None:
        context = MigrationContext.configure(
            connection, opts={"fn": lambda revision, _: revisions._upgrade_revs(to, revision), "script": revisions}
        )
        with Operations.context(context):
            context.run_migrations()

    async with engine.begin() as connection:
        await connection.run_sync(steps, "0004")
        for statement in (
            "INSERT INTO sessions VALUES ('ses_1', 't', NULL, 'closed', 5.0, 6.0, 1, '{}')",
            "INSERT INTO session_numbers VALUES ('ses_1', '+842400000001')",
            "INSERT INTO session_parties VALUES ('ses_1', 'somebody')",
            "INSERT INTO recordings VALUES ('rec_1', 't', 'ses_1', 'int_1', NULL, 'failed', 1767225600.5, NULL, NULL,"
            " false, '{}')",
            "INSERT INTO recording_keys VALUES ('t', '+842400000001', 1767225600.5, 'rec_1')",
        ):
            await connection.execute(sql.text(statement))
        await connection.run_sync(steps, "head")
        for table, count in (("session_numbers", 1), ("session_parties", 1), ("recordings", 1), ("recording_keys", 1)):
            assert (await connection.execute(sql.text(f"SELECT count(*) FROM {table}"))).scalar_one() == count, table
        found = (await connection.execute(sql.select(archive.session_parties))).one()
        assert (found.session, found.party, found.tenant, found.created_at) == ("ses_1", "somebody", "t", 5.0)
    await engine.dispose()


async def test_an_address_is_shown_without_its_password() -> None:
    assert archive.described("postgresql+asyncpg://me:secret@db/masking") == "postgresql+asyncpg://…@db/masking"
