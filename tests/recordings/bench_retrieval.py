"""`python -m tests.recordings.bench_retrieval [--count 1000000]`: finding one's way among recordings, as JSON rows.

A catalogue of `--count` recordings over twelve months, with virtual numbers that were dialled thousands of times and a
merchant who is on every fiftieth call, is searched in every way that the API offers, newest page and later ones. The
row's value is the worst way's 95th percentile, from taking a connection to the shapes that are sent.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtests.goals import alone
from loadtests.measure import Row
from masking import archive
from masking.courier import months, schema
from recordings import catalogue
from recordings.catalogue import Channel, Filter, Recording
from tests import postgres
from tests.postgres import PostgresServer

NOW: Final = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
YEAR: Final = 365 * 86_400.0
PORTION: Final = 50_000
NUMBERS: Final = 1_000  # virtual numbers
MERCHANT: Final = "merchant"
LIMIT: Final = 51  # a page of 50, and whether there is more
ASKED: Final = 200  # times each way

RECORDING_COLUMNS: Final = (
    "id", "tenant", "session", "interaction", "unique_name", "status", "started_at", "ended_at", "key", "told", "body",
)  # fmt: skip
KEY_COLUMNS: Final = tuple(column.name for column in catalogue.recording_keys.columns)


def number(of: int) -> str:
    return f"+8424{of % NUMBERS:08}"


def people(of: int, count: int) -> tuple[str, str]:
    """Customers come back some five times a year, drivers fifty times."""
    customer, driver = of * 7_919 % max(1, count // 5), of * 104_729 % max(1, count // 50)
    return f"c{customer:021}", MERCHANT if of % 50 == 0 else f"d{driver:021}"


def portions(count: int) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    """Rows of both tables, in the order of time."""
    for first in range(0, count, PORTION):
        rows, keys = [], []
        for of in range(first, min(count, first + PORTION)):
            name, at = f"rec_{of:022}", round(NOW - YEAR + YEAR * of / count, 3)
            shape = Recording(
                id=name,
                session=f"ses_aaaaaa{of:022}",
                interaction=f"int_{of:022}",
                unique_name=f"order-{of // 2}",
                status="available",
                started_at=datetime.fromtimestamp(at, UTC),
                duration=61.2,
                sha256="ab" * 32,
                bytes=1_958_444,
                channels=(Channel(1, f"par_c{of:021}", "customer"), Channel(2, f"par_d{of:021}", "driver")),
            )
            body = msgspec.json.encode(shape).decode()
            row = (name, "t", shape.session, shape.interaction, shape.unique_name, "available", at, at + 60.0)
            rows.append((*row, f"t/{name}.wav", True, body))
            words = (number(of), *people(of, count), f"par_c{of:021}", f"par_d{of:021}")
            keys += [("t", word, at, name) for word in words]
        yield rows, sorted(keys)


def fill_sqlite(path: Path, count: int) -> None:
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        for rows, keys in portions(count):
            connection.execute("BEGIN")
            for table, columns, found in (
                ("recordings", RECORDING_COLUMNS, rows),
                ("recording_keys", KEY_COLUMNS, keys),
            ):
                places = ",".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table} ({','.join(columns)}) VALUES ({places})", found)
            connection.execute("COMMIT")
        connection.execute("ANALYZE")
    connection.close()


async def fill_postgresql(engine: AsyncEngine, count: int) -> None:
    async with engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        for table in months.TABLES:
            for statement in months.statements(table, since=NOW - YEAR, until=NOW):
                await raw.execute(statement)
        for rows, keys in portions(count):
            await raw.copy_records_to_table("recordings", records=rows, columns=RECORDING_COLUMNS)
            await raw.copy_records_to_table("recording_keys", records=keys, columns=KEY_COLUMNS)
        await raw.execute("VACUUM ANALYZE")


def ways(count: int, chance: random.Random) -> dict[str, Iterator[Filter]]:
    """Every way to look for recordings, each with fresh words."""

    def some() -> int:
        return chance.randrange(count)

    def in_a_month(narrowed: Filter) -> Filter:
        since = NOW - YEAR + chance.random() * (YEAR - 30 * 86_400)
        return msgspec.structs.replace(narrowed, since=since, until=since + 30 * 86_400)

    forever = itertools.repeat(None)
    return {
        "newest": (Filter() for _ in forever),
        "order": (Filter(unique_name=f"order-{some() // 2}") for _ in forever),
        "session": (Filter(session=f"ses_aaaaaa{some():022}") for _ in forever),
        "number": (Filter(number=number(some())) for _ in forever),
        "number in a month": (in_a_month(Filter(number=number(some()))) for _ in forever),
        "participant": (Filter(participant=f"par_c{some():021}") for _ in forever),
        "person": (Filter(person=people(some(), count)[0]) for _ in forever),
        "merchant": (Filter(person=MERCHANT) for _ in forever),
        "merchant in a month": (in_a_month(Filter(person=MERCHANT)) for _ in forever),
        "merchant on a number": (Filter(person=MERCHANT, number=number(some() // 50 * 50)) for _ in forever),
        "month": (in_a_month(Filter()) for _ in forever),
    }


async def measured(engine: AsyncEngine, count: int) -> dict[str, float]:
    """The 95th percentile of each way in ms: half of the questions for the first page, half for one further back."""
    found: dict[str, float] = {}
    for way, filters in ways(count, random.Random(7)).items():
        took: list[float] = []
        for narrowed in itertools.islice(filters, ASKED // 2):
            before = None
            for _ in range(2):
                began = time.perf_counter()
                async with engine.connect() as connection:
                    page = await catalogue.page(connection, "t", narrowed, before=before, limit=LIMIT)
                took.append((time.perf_counter() - began) * 1000)
                before = catalogue.position(page[-1]) if page else None
        found[way] = sorted(took)[int(len(took) * 0.95)]
        sys.stderr.write(f"{engine.dialect.name:12} {way:24} p95 {found[way]:7.2f} ms\n")
    return found


async def rows(count: int, runs: int, folder: Path) -> list[Row]:
    binaries = postgres.programs()
    assert binaries is not None, "PostgreSQL is not installed; scripts/peers installs it"
    server = PostgresServer(binaries)
    server.start()
    try:
        found = []
        for kind, url in (
            ("sqlite", f"sqlite+aiosqlite:///{folder / 'archive.sqlite3'}"),
            ("postgresql", server.database()),
        ):
            engine = archive.engine(url)
            await schema.upgrade(engine, schema.revisions())
            if kind == "sqlite":
                fill_sqlite(folder / "archive.sqlite3", count)
            else:
                await fill_postgresql(engine, count)
            worst = [max((await measured(engine, count)).values()) for _ in range(runs)]
            await engine.dispose()
            found.append(alone(f"retrieval-{kind}", "ms p95, worst way", worst))
        return found
    finally:
        server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="How long a search among a year's recordings takes.")
    parser.add_argument("--count", type=int, default=1_000_000, help="recordings")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as folder:
        json.dump(asyncio.run(rows(asked.count, asked.runs, Path(folder))), sys.stdout)


if __name__ == "__main__":
    main()
