"""The archive's tables, brought up to date by Alembic when the courier starts.

The revisions are read from their files before any event loop runs; bringing a database up to date is then one
transaction on the courier's own connection.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sql
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x6D61736B  # PostgreSQL: couriers of two machines that start at once take turns


def revisions() -> ScriptDirectory:
    """The revisions on disk, read and imported."""
    script = ScriptDirectory(FOLDER)
    script.get_heads()
    return script


async def upgrade(engine: AsyncEngine, script: ScriptDirectory, to: str = "head") -> None:
    """Applies what the database lacks up to the revision `to`, all or nothing."""
    async with engine.begin() as connection:
        await connection.run_sync(partial(_upgrade, script, to))


def _upgrade(script: ScriptDirectory, to: str, connection: sql.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sql.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
    context = MigrationContext.configure(
        connection, opts={"fn": lambda revision, _: script._upgrade_revs(to, revision), "script": script}
    )
    with Operations.context(context):
        context.run_migrations()
