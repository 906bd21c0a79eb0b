"""Writing rows that may be there already, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


async def insert(
    connection: AsyncConnection, table: sql.Table, rows: Sequence[dict[str, Any]], update: Iterable[str] = ()
) -> int:
    """INSERT … ON CONFLICT, on either dialect: the row that is there stays, but for the columns of `update`."""
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    changed = {name: statement.excluded[name] for name in update}
    key = [column.name for column in table.primary_key]
    if changed:
        statement = statement.on_conflict_do_update(index_elements=key, set_=changed)
    else:
        statement = statement.on_conflict_do_nothing()
    if len(rows) == 1:
        return (await connection.execute(statement.values(rows[0]))).rowcount
    await connection.execute(statement, rows)
    return len(rows)
