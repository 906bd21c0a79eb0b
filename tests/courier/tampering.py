"""Somebody who can write the whole database and every file, and what the evidence says of it afterwards.

An archive is tampered with in one way at one place, the verification must name it, and everything is put back:
`make test` tries each way a few times, `make soak ARGS="--only tampering"` ten thousand times.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, cast

import msgspec
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from masking import archive, evidence
from masking.courier import schema
from masking.courier.notary import Notary
from masking.courier.outbox import Outbox
from masking.courier.sweeper import Sweeper
from masking.courier.verification import Fault, Head, Verification
from masking.events import fact
from masking.evidence import Checkpoint
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis
from recordings import catalogue
from recordings.catalogue import Channel, Recording
from recordings.store import ObjectStore, open_store
from tests.courier.conftest import Round
from tests.masking.world import World
from tests.recordings import drafts
from tests.recordings.vaults import shelved, vault_of
from tests.redis_server import RedisServer

SETTLED: Final = ("started_at", "duration", "sha256", "bytes", "channels")


class Archive:
    """A tenant's recordings, catalogued, stored in `folder` and on the chain."""

    def __init__(self, courier: Round, store: ObjectStore, folder: Path) -> None:
        self.courier = courier
        self.house = courier.world.house
        self.engine = courier.engine
        self.store = store
        self.folder = folder
        self.vault = vault_of(self.engine, store)
        self.key = evidence.public_key(self.house.keyring)

    async def recorded(self, count: int, session: str) -> list[str]:
        """So many recordings of the session, from their start to `recording.available`."""
        names: list[str] = []
        for place in range(count):
            recording, interaction = f"rec_{session[-4:]}{place:02}", f"int_{session[-4:]}{place:02}"
            sound = hashlib.sha256(recording.encode()).digest() * 20
            stored = await shelved(self.vault, "acme", recording, sound, duration=1.0)
            async with self.engine.begin() as connection:
                await drafts.begun(
                    connection,
                    tenant="acme",
                    recording=recording,
                    session=session,
                    interaction=interaction,
                    unique_name=None,
                    started_at=self.house.now(),
                    channels=[Channel(1, "par_c", "customer"), Channel(2, "par_d", "driver")],
                    words=[],
                )
                await drafts.call_ended(connection, interaction, self.house.now() + 1)
                await catalogue.finished(connection, recording, stored)
            shape = await self.status(recording)
            said = {"recording": recording, "interaction": interaction}
            settled = {name: getattr(shape, name) for name in SETTLED}
            await self.house.leases.append(session, [fact("recording.available", None, said | settled)])
            names.append(recording)
        await self.courier.carry()
        return names

    async def decide(self, session: str, kind: str, recording: str, **said: object) -> None:
        data = {"recording": recording, "interaction": recording.replace("rec_", "int_"), "key": "key_1", **said}
        await self.house.leases.append(session, [fact(kind, None, data)])  # type: ignore[arg-type]
        await self.courier.carry()

    async def signed(self) -> list[Head]:
        """The chain's head signed now, and all heads so far as a webhook receiver was sent them."""
        await Notary(self.house, self.engine).round()
        await self.courier.carry()
        return [Head(one) for one in await self.checkpoints()]

    async def checkpoints(self) -> list[Checkpoint]:
        async with self.engine.connect() as connection:
            found = await archive.events_after(connection, "acme", 0, 10_000, ("evidence.checkpoint",))
        return [msgspec.convert(msgspec.json.decode(body)["data"], Checkpoint) for _, body in found]

    async def faults(self, heads: list[Head] | None = None, connection: AsyncConnection | None = None) -> list[Fault]:
        """What a verification finds, of what is committed, or of what `connection` sees."""
        engine = self.engine if connection is None else cast(AsyncEngine, _Same(connection))
        return [fault async for fault in Verification(engine, self.vault, self.key, heads or []).run()]

    async def status(self, recording: str) -> Recording:
        async with self.engine.connect() as connection:
            row = await catalogue.get(connection, "acme", recording)
        assert row is not None
        return row.recording


class _Same:
    """An engine whose every connection is the one with the uncommitted change."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def connect(self) -> _Same:
        return self

    async def __aenter__(self) -> AsyncConnection:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        pass


@dataclass
class Scene:
    """Where it is done: the entry `seq`, or the recording's file, of an archive whose changes are taken back."""

    connection: AsyncConnection
    files: list[Path]
    seq: int
    chance: Random

    async def event(self) -> tuple[str, str]:
        """Id and text of the event that the entry seals."""
        table = archive.events.c
        entry = sql.select(archive.evidence.c.event).where(archive.evidence.c.seq == self.seq).scalar_subquery()
        row = (await self.connection.execute(sql.select(table.id, table.body).where(table.id == entry))).one()
        return row.id, row.body

    def flipped(self, text: str) -> str:
        """The text with another character at one place."""
        at = self.chance.randrange(len(text))
        return text[:at] + self.chance.choice([one for one in "0aZ{ \\" if one != text[at]]) + text[at + 1 :]


async def flip(scene: Scene) -> None:
    """Another character in the text of an event."""
    name, body = await scene.event()
    table = archive.events
    await scene.connection.execute(table.update().where(table.c.id == name).values(body=scene.flipped(body)))


async def retell(scene: Scene) -> None:
    """The event's text stands, and its row says something else: what lists and searches go by."""
    name, _ = await scene.event()
    table = archive.events
    other: dict[str, object] = scene.chance.choice(
        [{"type": "call.ringing"}, {"seq": 4_000}, {"session": "ses_other"}, {"tenant": "other"}]
    )
    await scene.connection.execute(table.update().where(table.c.id == name).values(**other))


async def drop_event(scene: Scene) -> None:
    name, _ = await scene.event()
    await scene.connection.execute(archive.events.delete().where(archive.events.c.id == name))


async def drop_entry(scene: Scene) -> None:
    await scene.connection.execute(archive.evidence.delete().where(archive.evidence.c.seq == scene.seq))


async def flip_hash(scene: Scene) -> None:
    table = archive.evidence
    query = sql.select(table.c.hash).where(table.c.seq == scene.seq)
    digest = (await scene.connection.execute(query)).scalar_one()
    await scene.connection.execute(table.update().where(table.c.seq == scene.seq).values(hash=scene.flipped(digest)))


async def reorder(scene: Scene) -> None:
    """This entry and the one before change places."""
    table, seq = archive.evidence, scene.seq
    query = sql.select(table.c.seq, table.c.event).where(table.c.seq.in_([seq, seq - 1]))
    rows = {row.seq: row.event for row in await scene.connection.execute(query)}
    for place in rows:
        await scene.connection.execute(table.update().where(table.c.seq == place).values(event=f"moving {place}"))
    for place, event in rows.items():
        await scene.connection.execute(table.update().where(table.c.seq == 2 * seq - 1 - place).values(event=event))


async def rewrite(scene: Scene) -> None:
    """The whole chain anew over a changed event: every hash fits."""
    name, body = await scene.event()
    changed = body.replace('"key":"key_', '"key":"yek_').replace('"bytes":640', '"bytes":641')
    assert changed != body, "an event that another one can be made of"
    await scene.connection.execute(archive.events.update().where(archive.events.c.id == name).values(body=changed))
    await _chained_anew(scene.connection)


async def leave_out(scene: Scene) -> None:
    """One event gone for good: the chain is made anew without it, from its first entry to its last."""
    name, _ = await scene.event()
    table = archive.evidence
    await scene.connection.execute(archive.events.delete().where(archive.events.c.id == name))
    await scene.connection.execute(table.delete().where(table.c.seq == scene.seq))
    later = sql.select(table.c.seq).where(table.c.seq > scene.seq).order_by(table.c.seq)
    for seq in (await scene.connection.execute(later)).scalars().all():
        await scene.connection.execute(table.update().where(table.c.seq == seq).values(seq=seq - 1))
    await _chained_anew(scene.connection)


async def _chained_anew(connection: AsyncConnection) -> None:
    head = evidence.beginning("acme")
    for entry, body in await archive.evidence_page(connection, "acme", 0, 10_000):
        assert body is not None
        head = evidence.after(head, entry.seq, entry.event, body).hash
        await connection.execute(archive.evidence.update().where(archive.evidence.c.seq == entry.seq).values(hash=head))


async def cut(scene: Scene) -> None:
    """The end of the chain with everything it told of, signed heads too."""
    gone = sql.select(archive.evidence.c.event).where(archive.evidence.c.seq >= scene.seq)
    await scene.connection.execute(archive.events.delete().where(archive.events.c.id.in_(gone)))
    await scene.connection.execute(archive.evidence.delete().where(archive.evidence.c.seq >= scene.seq))
    await scene.connection.execute(archive.events.delete().where(archive.events.c.type == "evidence.checkpoint"))


async def forge_head(scene: Scene) -> None:
    """Another character in the text of a signed head."""
    table = archive.events
    query = sql.select(table.c.id, table.c.body).where(table.c.type == "evidence.checkpoint")
    row = (await scene.connection.execute(query)).first()
    assert row is not None
    said = msgspec.json.decode(row.body)
    name = scene.chance.choice(["hash", "signature"])
    said["data"][name] = scene.flipped(said["data"][name][:40]) + said["data"][name][40:]
    body = msgspec.json.encode(said).decode()
    await scene.connection.execute(table.update().where(table.c.id == row.id).values(body=body))


async def put_in(scene: Scene) -> None:
    """An event beside the chain."""
    body = '{"id":"evt_forged","type":"recording.accessed","session":null,"seq":99,"data":{"recording":"rec_x"}}'
    row = {"id": "evt_forged", "tenant": "acme", "seq": 99, "occurred_at": 1.0, "body": body}
    await scene.connection.execute(archive.events.insert().values(type="recording.accessed", **row))


async def flip_row(scene: Scene) -> None:
    """The recording's row says something else of when it was, whose voice is whose, or what its file is."""
    table = catalogue.recordings
    name = scene.chance.choice(scene.files).stem
    body = (await scene.connection.execute(sql.select(table.c.body).where(table.c.id == name))).scalar_one()
    changes = [("customer", "driver"), ('"duration":1.0', '"duration":2.0'), ('"available"', '"failed"')]
    changes += [('"bytes":640', '"bytes":639'), ('"started_at":"2', '"started_at":"1'), ("{", "")]
    before, after = scene.chance.choice(changes)
    assert before in body
    changed = body.replace(before, after, 1)
    await scene.connection.execute(table.update().where(table.c.id == name).values(body=changed))


async def drop_row(scene: Scene) -> None:
    table = catalogue.recordings
    name = scene.chance.choice(scene.files).stem
    await scene.connection.execute(table.delete().where(table.c.id == name))


async def flip_file(scene: Scene) -> None:
    path = scene.chance.choice(scene.files)
    sound = bytearray(path.read_bytes())
    sound[scene.chance.randrange(len(sound))] ^= 1 << scene.chance.randrange(8)
    path.write_bytes(sound)


async def cut_file(scene: Scene) -> None:
    path = scene.chance.choice(scene.files)
    sound = path.read_bytes()
    path.write_bytes(sound[: scene.chance.randrange(len(sound))])


async def swap_files(scene: Scene) -> None:
    one, other = scene.chance.sample(scene.files, 2)
    sound = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(sound)


async def drop_file(scene: Scene) -> None:
    scene.chance.choice(scene.files).unlink()


Tamper = Callable[[Scene], Awaitable[None]]
WAYS: Final[dict[Tamper, set[str]]] = {
    flip: {"entry_altered"},
    retell: {"entry_altered"},
    drop_event: {"event_missing"},
    drop_entry: {"entry_missing", "chain_cut_short"},
    flip_hash: {"entry_altered"},
    reorder: {"entry_altered"},
    rewrite: {"chain_rewritten"},
    leave_out: {"chain_rewritten", "chain_cut_short"},
    cut: {"chain_cut_short"},
    forge_head: {"head_altered"},
    put_in: {"event_unsealed"},
    flip_row: {"row_altered"},
    drop_row: {"recording_missing"},
    flip_file: {"file_altered"},
    cut_file: {"file_altered"},
    swap_files: {"file_altered"},
    drop_file: {"file_missing"},
}
"""What can be done, and what one of the faults found must be called."""

ELSEWHERE: Final = {put_in, forge_head, flip_row, drop_row, flip_file, cut_file, swap_files, drop_file}
"""… at no entry of the chain."""
WHOLE: Final = {rewrite, leave_out, cut}
"""… to the whole chain: found where its signed head is, not where it was done."""


async def tampered(kept: Archive, way: Tamper, heads: list[Head], seq: int, chance: Random) -> str | None:
    """Does it, verifies, and takes it back; what is wrong with what was found."""
    files = sorted(kept.folder.rglob("*.sealed"))
    sounds = {path: path.read_bytes() for path in files}
    async with kept.engine.connect() as connection:  # never committed
        await way(Scene(connection, files, seq, chance))
        found = await kept.faults(heads, connection)
        await connection.rollback()
    for path, sound in sounds.items():
        path.write_bytes(sound)
    if not {fault.kind for fault in found} & WAYS[way]:
        return f"{way.__name__} at {seq} is called {sorted(fault.kind for fault in found)}"
    if way not in ELSEWHERE | WHOLE and not any(fault.seq in (seq, seq - 1) for fault in found):
        return f"{way.__name__} at {seq} is placed at {[fault.seq for fault in found]}"
    return None


@dataclass
class Done:
    """How often each way was tried, and what was not named as it should be."""

    tried: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def run(folder: Path, times: int, seed: int) -> Done:
    """Tampers so often, in every way in turn, each at a place of its own."""
    async with _archive(folder) as kept:
        await kept.courier.world.pool(5)
        session = (await kept.courier.world.open()).id
        for recording in await kept.recorded(12, session):
            await kept.decide(session, "recording.accessed", recording, reason="dispute 17")
        heads = await kept.signed()
        done, chance, ways = Done(), Random(seed), list(WAYS)
        assert await kept.faults(heads) == []
        for turn in range(times):
            way = ways[turn % len(ways)]
            wrong = await tampered(kept, way, heads, chance.randrange(2, 24), chance)
            done.tried[way.__name__] += 1
            done.wrong += [wrong] if wrong else []
        assert await kept.faults(heads) == [], "everything was put back"
        return done


@asynccontextmanager
async def _archive(folder: Path) -> AsyncIterator[Archive]:
    server = RedisServer(folder)
    server.start()
    redis, waiting = Redis(server.url, budget=5.0), Redis(server.url, budget=5.0, blocking=True)
    engine = archive.engine(f"sqlite+aiosqlite:///{folder / 'archive.sqlite3'}")
    try:
        await schema.upgrade(engine, schema.revisions())
        world = await World.make(redis, Keyring.create(folder / "keys.json"), folder, engine)
        outbox = Outbox(world.house, engine, Leases(waiting))
        store = await open_store((folder / "recordings").as_uri(), lambda: "beside")
        yield Archive(Round(world, outbox, Sweeper(world.house), engine), store, folder / "recordings")
    finally:
        await engine.dispose()
        await waiting.close()
        await redis.close()
        server.stop()
