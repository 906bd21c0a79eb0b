"""The months that PostgreSQL keeps recordings by, always some ahead of today.

A partition cannot be made for a month of which rows lie in the one for everything else (`…_other`), so the courier
makes them before it writes, and again every hour. What began before the first of them, an archive brought here from
elsewhere, stays in `…_other`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sql

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.house import House

TABLES: Final = ("recordings", "recording_keys")
AHEAD: Final = 3  # months beyond this one: an archive whose courier stood still so long still has the next


class Months:
    """Keeps the partitions of `TABLES` ahead of today; on SQLite there is nothing to do."""

    def __init__(self, house: House, engine: AsyncEngine) -> None:
        self._house = house
        self._engine = engine

    async def round(self) -> int:
        """Makes what is missing; how many it looked for."""
        if self._engine.dialect.name != "postgresql":
            return 0
        now = self._house.now()
        wanted = [statement for table in TABLES for statement in statements(table, since=now, until=now)]
        async with self._engine.begin() as connection:
            for statement in wanted:
                await connection.execute(sql.text(statement))
        return len(wanted)


def statements(table: str, *, since: float, until: float) -> Iterator[str]:
    """What makes the partitions of the table from the month of `since` to `AHEAD` months after that of `until`."""
    first, last = _month(since), _month(until) + AHEAD
    for month in range(first, last + 1):
        begins, ends = _begins(month), _begins(month + 1)
        yield (
            f"CREATE TABLE IF NOT EXISTS {table}_{begins:%Y_%m} PARTITION OF {table}"
            f" FOR VALUES FROM ({begins.timestamp():.0f}) TO ({ends.timestamp():.0f})"
        )


def _month(at: float) -> int:
    day = datetime.fromtimestamp(at, UTC)
    return day.year * 12 + day.month - 1


def _begins(month: int) -> datetime:
    year, place = divmod(month, 12)
    return datetime(year, place + 1, 1, tzinfo=UTC)
