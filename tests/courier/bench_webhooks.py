"""What a delivery of a webhook costs the courier: `python -m tests.courier.bench_webhooks`.

A line carries events of many sessions from the archive to a fast receiver, which is a process of its own: signing, HTTP
and the writing down are in it. Prints rows of `bench.json` as one JSON list.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncEngine

from loadtests.goals import alone
from loadtests.measure import Row
from masking import archive, webhooks
from masking.config import WebhooksSection
from masking.courier import schema
from masking.courier.line import Line
from masking.events import Event, event_id, moment
from masking.house import House
from masking.post import Post
from masking.webhooks import NewWebhookEndpoint
from pools.keyring import Keyring
from pools.redis import Redis
from tests.courier.receiver import OK
from tests.masking.world import World
from tests.redis_server import RedisServer

SESSIONS = 200


class Fast(asyncio.Protocol):
    """A receiver that does nothing but say yes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while b"\r\n\r\n" in self._held:
            head, _, rest = self._held.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < length:
                return
            self._held = rest[length:]
            self._transport.write(OK)  # type: ignore[attr-defined]


def serve(told: Any) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Fast, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def receiver() -> Iterator[str]:
    """Its URL."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/hook"
    finally:
        process.terminate()
        process.join()


async def happen(house: House, engine: AsyncEngine, first: int, count: int) -> None:
    """Events of calls, as the courier keeps them."""
    rows = []
    for n in range(first, first + count):
        session, seq = f"ses_{n % SESSIONS:028}", n // SESSIONS + 1
        event = Event(
            id=event_id(session, seq),
            type="call.ended",
            occurred_at=moment(house.now()),
            session=session,
            seq=seq,
            data={
                "interaction": f"int_{n:022}",
                "status": "completed",
                "reason": "hangup",
                "sip_code": 200,
                "legs": [],
            },
        )
        body = msgspec.json.encode(event).decode()
        rows.append(
            {"id": event.id, "tenant": "acme", "session": session, "seq": seq, "type": event.type}
            | {"occurred_at": house.now(), "body": body}
        )
    async with engine.begin() as connection:
        await connection.execute(archive.events.insert(), rows)


async def rows(server: RedisServer, folder: Path, url: str, count: int, runs: int) -> list[Row]:
    redis = Redis(server.url, budget=5.0)
    engine = archive.engine(f"sqlite+aiosqlite:///{folder / 'archive.sqlite3'}")
    await schema.upgrade(engine, schema.revisions())
    world = await World.make(redis, Keyring.create(folder / "keys.json"), folder, engine)
    config = msgspec.structs.replace(world.house.config, webhooks=WebhooksSection(allow_private=True))
    house = replace(world.house, config=config)
    made = await webhooks.create(house, "acme", NewWebhookEndpoint(url=url), since=0)
    post = Post(allow_private=True)
    line = Line(house, engine, await webhooks.get(house, "acme", made.id), post, lambda: 0.5)
    per_cpu: list[float] = []
    for turn in range(runs + 1):
        await happen(house, engine, turn * count, count)
        cpu = time.process_time()
        while await line.round():
            continue
        if turn:  # the first one opens the connections
            per_cpu.append(count / (time.process_time() - cpu))
        async with engine.connect() as connection:
            table = archive.webhook_deliveries
            query = sql.select(sql.func.count()).where(table.c.state == "delivered")
            assert (await connection.execute(query)).scalar_one() == (turn + 1) * count, "every event was taken"
    await post.close()
    await engine.dispose()
    await redis.close()
    return [alone("webhook-deliveries", "deliveries/courier-CPU-s", per_cpu, 0)]


def main() -> None:
    reading = argparse.ArgumentParser(description="Cost of a webhook's delivery.")
    reading.add_argument("--count", type=int, default=2_000, help="events a run")
    reading.add_argument("--runs", type=int, default=5)
    asked = reading.parse_args()
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary, receiver() as url:
        server = RedisServer(Path(temporary))
        server.start()
        try:
            found = asyncio.run(rows(server, Path(temporary), url, asked.count, asked.runs))
        finally:
            server.stop()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
