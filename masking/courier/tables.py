"""The archive's tables as lines of JSON and back, as the database itself describes them: SQLite and PostgreSQL alike.

A table's first line names its columns, every other is a row. Its revision (`masking.courier.schema`) goes with it, so
that a newer version first makes the tables as they were, and brings them up to date when it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sql

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

REVISION: Final = "alembic_version"
BATCH: Final = 500


async def described(connection: AsyncConnection) -> list[sql.Table]:
    """The tables that are there, those that others point to first; not the one that says their revision, nor what a
    table is partitioned into."""
    left_out = {REVISION}
    if connection.dialect.name == "postgresql":
        parts = sql.text("SELECT relname FROM pg_class WHERE relispartition")
        left_out.update((await connection.execute(parts)).scalars())
    found = sql.MetaData()
    await connection.run_sync(partial(found.reflect, only=lambda name, _: name not in left_out))
    return list(found.sorted_tables)


async def revision(connection: AsyncConnection) -> str | None:
    """What the tables were last brought up to; None when there are none."""
    if not await connection.run_sync(lambda bare: sql.inspect(bare).has_table(REVISION)):
        return None
    name: str | None = (await connection.execute(sql.text(f"SELECT version_num FROM {REVISION}"))).scalar_one_or_none()
    return name


async def count(connection: AsyncConnection, table: sql.Table) -> int:
    return int((await connection.execute(sql.select(sql.func.count()).select_from(table))).scalar_one())


async def rows(connection: AsyncConnection, table: sql.Table) -> AsyncIterator[list[Any]]:
    """The columns' names, then every row, in the order of the primary key."""
    yield [str(column.name) for column in table.columns]
    async with connection.stream(sql.select(table).order_by(*table.primary_key.columns)) as found:
        async for row in found:
            yield list(row)


async def fill(connection: AsyncConnection, table: sql.Table, lines: Iterable[bytes]) -> AsyncIterator[int]:
    """Writes the rows of `lines`, and says how many at a time. What counts rows up goes on after the last."""
    rest = iter(lines)
    head = msgspec.json.decode(next(rest), type=list[str])
    binary = {column.name for column in table.columns if isinstance(column.type, sql.LargeBinary)}
    while some := list(islice(rest, BATCH)):
        found = [dict(zip(head, msgspec.json.decode(line), strict=True)) for line in some]
        for name in binary:
            for row in found:
                row[name] = row[name] if row[name] is None else msgspec.convert(row[name], bytes)
        await connection.execute(table.insert(), found)
        yield len(found)
    if connection.dialect.name == "postgresql":
        await _count_on(connection, table)


async def _count_on(connection: AsyncConnection, table: sql.Table) -> None:
    """PostgreSQL's sequences know nothing of rows that brought their numbers along."""
    for column in table.primary_key.columns:
        if isinstance(column.type, sql.Integer):
            place = sql.func.pg_get_serial_sequence(table.name, column.name)
            highest = sql.select(sql.func.max(column)).scalar_subquery()
            query = sql.select(sql.func.setval(place, highest)).where(place.is_not(None), highest.is_not(None))
            await connection.execute(query)
