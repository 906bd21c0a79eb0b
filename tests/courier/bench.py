"""What the archive costs a recorded call, beside SQLite alone: `python -m tests.courier.bench`.

Prints rows of `bench.json` as one JSON list. Each run fills the outboxes with recorded calls, has a courier take them
in, and then writes those calls' events, just as the archive holds them, into a bare SQLite file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from loadtests.goals import alone
from loadtests.measure import Row, row
from masking import archive, interactions
from masking.courier import schema
from masking.courier.outbox import BATCH, Outbox
from masking.interactions import Call, Channel, Ending, Leg, Notice
from masking.routes import Route
from masking.sessions import Session
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis
from tests.masking.world import CUSTOMER, World, proxy
from tests.redis_server import RedisServer

SESSIONS = 100
NOTICE = Notice(asset="notice-vi", sha256="00" * 32, leg=1, at=0.02, to=3.4)
LEGS = (Leg(trunk="carrier-vn", sip_code=200, q850=16, codec="PCMA"), Leg(trunk="carrier-vn", sip_code=200))


async def talk(world: World, session: Session, name: str) -> None:
    """A recorded call, from the dial to the hanging up: six events."""
    route = await world.call(proxy(session, 0, 1), CUSTOMER, name)
    assert isinstance(route, Route)
    call, now = Call.of(route), world.house.now()
    channels = (
        Channel(index=1, participant=route.from_participant),
        Channel(index=2, participant=route.to_participant),
    )
    await interactions.ringing(world.house, call, now)
    await interactions.answered(world.house, call, now)
    await interactions.recording_started(world.house, call, now, channels)
    await interactions.bridged(world.house, call, now, (NOTICE,))
    await interactions.ended(world.house, call, now, Ending(blame="caller", reason="hangup", sip_code=200, legs=LEGS))


async def calls(world: World, sessions: list[Session], count: int, turn: int) -> None:
    numbers = iter(range(count))

    async def worker(session: Session) -> None:
        for n in numbers:
            await talk(world, session, f"int_{turn:04}{n:018}")

    await asyncio.gather(*(worker(session) for session in sessions))


def bare(events: list[tuple[Any, ...]], path: Path) -> float:
    """CPU-seconds of SQLite for these rows in the courier's batches, in a table with the archive's indexes."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "CREATE TABLE events (position INTEGER PRIMARY KEY, id TEXT UNIQUE, tenant TEXT, session TEXT, seq INTEGER,"
            " type TEXT, occurred_at REAL, body TEXT);"
            "CREATE INDEX by_session ON events (session, seq); CREATE INDEX by_tenant ON events (tenant, position);"
        )
        began = time.process_time()
        for first in range(0, len(events), BATCH):
            connection.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?)", events[first : first + BATCH])
            connection.commit()
        spent = time.process_time() - began
    connection.close()
    return spent


async def rows(server: RedisServer, folder: Path, count: int, runs: int) -> list[Row]:
    redis = Redis(server.url, budget=5.0)
    waiting = Redis(server.url, budget=5.0, blocking=True)
    engine = archive.engine(f"sqlite+aiosqlite:///{folder / 'archive.sqlite3'}")
    await schema.upgrade(engine, schema.revisions())
    world = await World.make(redis, Keyring.create(folder / "keys.json"), folder, engine)
    await world.pool(SESSIONS)
    sessions = [await world.open(record="always") for _ in range(SESSIONS)]
    outbox = Outbox(world.house, engine, Leases(waiting))
    while await outbox.round(wait_ms=1):
        continue
    per_cpu: list[float] = []
    per_second: list[float] = []
    peer: list[float] = []
    async with engine.connect() as connection:
        position = (await connection.execute(sql.select(sql.func.max(archive.events.c.position)))).scalar_one()
    for turn in range(runs):
        await calls(world, sessions, count, turn)
        cpu, began = time.process_time(), time.perf_counter()
        while await outbox.round(wait_ms=1):
            continue
        per_cpu.append(count / (time.process_time() - cpu))
        per_second.append(count / (time.perf_counter() - began))
        async with engine.connect() as connection:
            query = sql.select(archive.events).where(archive.events.c.position > position)
            events = [tuple(one) for one in await connection.execute(query)]
        assert len(events) == 6 * count, "every event once"
        position = events[-1][0]
        peer.append(count / bare(events, folder / f"bare-{turn}.sqlite3"))
    await engine.dispose()
    await waiting.close()
    await redis.close()
    return [
        row("archive-writer", "recorded calls/courier-CPU-s", per_cpu, "the events by bare sqlite3", peer, 0),
        alone("archive-calls", "recorded calls/s", per_second, 0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of archiving a recorded call.")
    parser.add_argument("--count", type=int, default=3_000, help="calls a run")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary:
        server = RedisServer(Path(temporary))
        server.start()
        try:
            found = asyncio.run(rows(server, Path(temporary), asked.count, asked.runs))
        finally:
            server.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
