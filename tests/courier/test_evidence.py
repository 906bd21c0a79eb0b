"""The chain of evidence: what happens to recordings goes in as it is archived, and nothing comes out unnoticed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from masking import archive, evidence
from masking.courier.finisher import Finisher
from masking.courier.notary import PAUSE, Notary
from masking.courier.verification import Fault, Head, Verification, heads_in
from masking.events import append_loose, fact
from masking.evidence import Checkpoint
from recordings import catalogue
from recordings.store import ObjectStore, open_store
from tests.courier.conftest import Round
from tests.masking.world import World
from tests.recordings import drafts
from tests.recordings.vaults import shelved, vault_of


@pytest.fixture
async def store(tmp_path: Path) -> ObjectStore:
    return await open_store(f"file://{tmp_path}/recordings", lambda: "beside")


class Archive:
    """A tenant's recordings, catalogued, stored and on the chain, and what somebody does to them."""

    def __init__(self, courier: Round, store: ObjectStore) -> None:
        self.courier = courier
        self.house = courier.world.house
        self.engine = courier.engine
        self.vault = vault_of(self.engine, store)

    async def recorded(self, count: int, session: str) -> list[str]:
        """So many recordings of the session, from their start to `recording.available`."""
        names: list[str] = []
        for _ in range(count):
            place = len(names)
            recording, interaction = f"rec_{session[-4:]}{place}", f"int_{session[-4:]}{place}"
            sound = hashlib.sha256(recording.encode()).digest() * 20
            stored, sealed = await shelved(self.vault, "acme", recording, sound)
            async with self.engine.begin() as connection:
                await drafts.begun(
                    connection,
                    tenant="acme",
                    recording=recording,
                    session=session,
                    interaction=interaction,
                    unique_name=None,
                    started_at=self.house.now(),
                    channels=[],
                    words=[],
                )
                await drafts.call_ended(connection, interaction, self.house.now() + 1)
                await catalogue.finished(
                    connection,
                    recording,
                    key=stored.key,
                    sha256=stored.sha256,
                    size=stored.bytes,
                    duration=1.0,
                    gaps=[],
                    sealed=sealed,
                )
            said = {"recording": recording, "interaction": interaction, "sha256": stored.sha256, "bytes": stored.bytes}
            await self.house.leases.append(session, [fact("recording.available", None, said)])
            names.append(recording)
        await self.courier.carry()
        return names

    async def decide(self, session: str, kind: str, recording: str, **said: object) -> None:
        data = {"recording": recording, "interaction": recording.replace("rec_", "int_"), "key": "key_1", **said}
        await self.house.leases.append(session, [fact(kind, None, data)])  # type: ignore[arg-type]
        await self.courier.carry()

    async def faults(self, heads: list[Head] | None = None) -> list[Fault]:
        walk = Verification(self.engine, self.vault, evidence.public_key(self.house.keyring), heads or [])
        return [fault async for fault in walk.run()]

    async def status(self, recording: str) -> catalogue.Recording:
        async with self.engine.connect() as connection:
            row = await catalogue.get(connection, "acme", recording)
        assert row is not None
        return row.recording


@pytest.fixture
async def kept(courier: Round, store: ObjectStore) -> Archive:
    return Archive(courier, store)


@pytest.fixture
async def session(world: World) -> str:
    await world.pool(5)
    return (await world.open()).id


async def test_what_happens_to_recordings_is_on_the_chain_and_holds(kept: Archive, session: str) -> None:
    (recording,) = await kept.recorded(1, session)
    await kept.decide(session, "recording.accessed", recording, reason="dispute 17")
    await append_loose(kept.house, "acme", "dispute.opened", kept.house.now(), {"dispute": "dsp_1", "key": "key_1"})
    await kept.courier.carry()
    async with kept.engine.connect() as connection:
        page = await archive.evidence_page(connection, "acme", 0, 10)
    kinds = [msgspec.json.decode(body or "{}")["type"] for _, body in page]
    assert kinds == ["recording.available", "recording.accessed", "dispute.opened"]
    assert await kept.faults() == []


async def test_a_hold_is_stronger_than_erasure_and_release_lets_it_go(
    kept: Archive, session: str, world: World, store: ObjectStore, tmp_path: Path
) -> None:
    (recording,) = await kept.recorded(1, session)
    finisher = Finisher(kept.house, kept.engine, kept.vault, tmp_path)
    hold = {"reason": "case 7", "key": "key_1", "since": "2026-11-22T09:00:00Z"}
    await kept.decide(session, "recording.held", recording, reason="case 7", hold=hold)
    held = (await kept.status(recording)).hold
    assert held is not None and held.reason == "case 7"
    await kept.decide(session, "recording.erased", recording, reason="asked")
    assert (await kept.status(recording)).status == "available"
    await kept.decide(session, "recording.released", recording, reason="settled")
    assert (await kept.status(recording)).hold is None
    await kept.decide(session, "recording.erased", recording, reason="asked")
    await finisher.erase()
    assert (await kept.status(recording)).status == "erased"
    assert [key async for key in store.list()] == []
    await finisher.erase()
    assert await kept.faults() == [], "what was erased as it should be is no fault"
    await kept.decide(session, "recording.held", recording, hold=hold)
    assert (await kept.status(recording)).status == "erased"


async def test_an_erasure_is_carried_out_when_redis_has_forgotten_the_session(
    kept: Archive, session: str, world: World, store: ObjectStore, tmp_path: Path
) -> None:
    (recording,) = await kept.recorded(1, session)
    said = {"recording": recording, "interaction": recording.replace("rec_", "int_"), "key": "key_1", "reason": "x"}
    await append_loose(kept.house, "acme", "recording.erased", kept.house.now(), said | {"of_session": session})
    await append_loose(kept.house, "acme", "recording.erased", kept.house.now(), {"recording": "?", "interaction": 5})
    await kept.courier.carry()
    assert (await kept.status(recording)).status == "erased"


async def test_heads_are_signed_once_a_minute_and_only_when_they_moved(kept: Archive, session: str) -> None:
    notary = Notary(kept.house, kept.engine)
    assert await notary.round() == 0
    await kept.recorded(1, session)
    assert await notary.round() == 0, "it looks once a minute"
    await kept.courier.world.later(PAUSE)
    assert await notary.round() == 1
    await kept.courier.world.later(PAUSE)
    assert await notary.round() == 0
    await kept.courier.carry()
    (head,) = await checkpoints(kept)
    assert evidence.is_signed(head, "acme", evidence.public_key(kept.house.keyring))
    assert not evidence.is_signed(head, "other") and not evidence.is_signed(head, "acme", "another key")
    assert await kept.faults() == []


async def checkpoints(kept: Archive) -> list[Checkpoint]:
    """What a webhook receiver would have been sent."""
    async with kept.engine.connect() as connection:
        found = await archive.events_after(connection, "acme", 0, 10_000, ("evidence.checkpoint",))
    return [msgspec.convert(msgspec.json.decode(body)["data"], Checkpoint) for _, body in found]


async def flip(connection: AsyncConnection, seq: int) -> None:
    """Another text in the event of that entry."""
    table = archive.events
    entry = sql.select(archive.evidence.c.event).where(archive.evidence.c.seq == seq).scalar_subquery()
    body = (await connection.execute(sql.select(table.c.body).where(table.c.id == entry))).scalar_one()
    changed = body.replace('"bytes":640', '"bytes":641') if '"bytes":640' in body else body.replace("}", ',"x":1}', 1)
    await connection.execute(table.update().where(table.c.id == entry).values(body=changed))


async def drop_event(connection: AsyncConnection, seq: int) -> None:
    entry = sql.select(archive.evidence.c.event).where(archive.evidence.c.seq == seq).scalar_subquery()
    await connection.execute(archive.events.delete().where(archive.events.c.id == entry))


async def drop_entry(connection: AsyncConnection, seq: int) -> None:
    await connection.execute(archive.evidence.delete().where(archive.evidence.c.seq == seq))


async def swap(connection: AsyncConnection, seq: int) -> None:
    """This entry and the one before change places."""
    table = archive.evidence
    query = sql.select(table.c.seq, table.c.event).where(table.c.seq.in_([seq, seq - 1]))
    rows = {row.seq: row.event for row in await connection.execute(query)}
    for place in rows:
        await connection.execute(table.update().where(table.c.seq == place).values(event=f"moving {place}"))
    for place, event in rows.items():
        await connection.execute(table.update().where(table.c.seq == 2 * seq - 1 - place).values(event=event))


async def rewrite(connection: AsyncConnection, seq: int) -> None:
    """The whole chain anew over a changed event: every hash fits."""
    await flip(connection, seq)
    page = await archive.evidence_page(connection, "acme", 0, 10_000)
    head = evidence.beginning("acme")
    for entry, body in page:
        assert body is not None
        head = evidence.after(head, entry.seq, entry.event, body).hash
        await connection.execute(archive.evidence.update().where(archive.evidence.c.seq == entry.seq).values(hash=head))


async def cut(connection: AsyncConnection, seq: int) -> None:
    """The end of the chain with everything it told of, signed heads too."""
    gone = sql.select(archive.evidence.c.event).where(archive.evidence.c.seq >= seq)
    await connection.execute(archive.events.delete().where(archive.events.c.id.in_(gone)))
    await connection.execute(archive.evidence.delete().where(archive.evidence.c.seq >= seq))
    await connection.execute(archive.events.delete().where(archive.events.c.type == "evidence.checkpoint"))


TAMPERING: list[tuple[Callable[[AsyncConnection, int], Awaitable[None]], set[str]]] = [
    (flip, {"entry_altered"}),
    (drop_event, {"event_missing"}),
    (drop_entry, {"entry_missing", "chain_cut_short"}),
    (swap, {"entry_altered"}),
    (rewrite, {"chain_rewritten"}),
    (cut, {"chain_cut_short"}),
]


@pytest.mark.parametrize(("tamper", "named"), TAMPERING, ids=[one.__name__ for one, _ in TAMPERING])
async def test_tampering_is_found_and_named_wherever_it_is_done(
    kept: Archive,
    session: str,
    tamper: Callable[[AsyncConnection, int], Awaitable[None]],
    named: set[str],
) -> None:
    await kept.recorded(12, session)
    await Notary(kept.house, kept.engine).round()
    await kept.courier.carry()
    elsewhere = [Head(one) for one in await checkpoints(kept)]
    assert await kept.faults(elsewhere) == []
    for seq in random.Random(7).sample(range(2, 13), 8):
        async with kept.engine.connect() as connection:  # never committed: the next place begins anew
            await tamper(connection, seq)
            found = [fault async for fault in Verification(same(connection), kept.vault, _key(kept), elsewhere).run()]
            await connection.rollback()
        kinds = {fault.kind for fault in found}
        assert kinds & named, (seq, kinds)
        if tamper not in (rewrite, cut):
            assert any(fault.seq in (seq, seq - 1) for fault in found), (seq, found)
    assert await kept.faults(elsewhere) == []


def _key(kept: Archive) -> str:
    return evidence.public_key(kept.house.keyring)


def same(connection: AsyncConnection) -> AsyncEngine:
    return cast(AsyncEngine, _Same(connection))


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


async def test_an_event_put_in_beside_the_chain_is_found(kept: Archive, session: str) -> None:
    await kept.recorded(2, session)
    async with kept.engine.begin() as connection:
        await connection.execute(
            archive.events.insert().values(
                id="evt_forged",
                tenant="acme",
                session=session,
                seq=99,
                type="recording.accessed",
                occurred_at=1.0,
                body='{"id":"evt_forged","type":"recording.accessed","data":{"recording":"rec_x"}}',
            )
        )
    assert [fault.kind for fault in await kept.faults()] == ["event_unsealed"]


async def test_a_recording_that_is_not_what_was_said_is_found(kept: Archive, session: str, tmp_path: Path) -> None:
    flipped, deleted, changed, lost = await kept.recorded(4, session)
    folder = tmp_path / "recordings"
    sound = bytearray((folder / f"{flipped}.sealed").read_bytes())
    sound[100] ^= 1
    (folder / f"{flipped}.sealed").write_bytes(sound)
    (folder / f"{deleted}.sealed").unlink()
    table = catalogue.recordings
    async with kept.engine.begin() as connection:
        row = await catalogue.get(connection, "acme", changed)
        assert row is not None
        body = msgspec.json.encode(msgspec.structs.replace(row.recording, sha256="0" * 64)).decode()
        await connection.execute(table.update().where(table.c.id == changed).values(body=body))
        await connection.execute(table.delete().where(table.c.id == lost))
    found = {fault.recording: fault.kind for fault in await kept.faults()}
    assert found == {
        flipped: "file_altered",
        deleted: "file_missing",
        changed: "row_altered",
        lost: "recording_missing",
    }


def test_kept_heads_are_read_as_they_came_and_a_line_that_is_none_is_named() -> None:
    said = '{"seq":3,"hash":"aa","signature":"c2ln","key":"a2V5"}'
    heads = heads_in([f'{{"type":"evidence.checkpoint","data":{said}}}', "", said])
    assert [head.checkpoint.seq for head in heads] == [3, 3]
    assert not evidence.is_signed(heads[0].checkpoint, "acme")
    for broken in ("nonsense", "[]", '{"data":{}}'):
        with pytest.raises(ValueError, match="line 2"):
            heads_in([said, broken])


async def test_tenants_have_chains_of_their_own(kept: Archive, session: str, archived: AsyncEngine) -> None:
    await kept.recorded(1, session)
    await append_loose(kept.house, "other", "dispute.opened", kept.house.now(), {"dispute": "dsp_1", "key": "key_1"})
    await kept.courier.carry()
    async with archived.connect() as connection:
        heads = await archive.evidence_heads(connection)
    assert {tenant: head.seq for tenant, head in heads.items()} == {"acme": 1, "other": 1}
    assert await kept.faults() == []
