"""The chain of evidence: what happens to recordings goes in as it is archived, and nothing comes out unnoticed."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive, evidence
from masking.courier.finisher import Finisher
from masking.courier.notary import PAUSE, Notary
from masking.courier.verification import heads_in
from masking.events import append_loose
from recordings import catalogue
from recordings.store import ObjectStore, open_store
from tests.courier.conftest import Round
from tests.courier.tampering import WAYS, Archive, Tamper, tampered
from tests.masking.world import World


@pytest.fixture
async def store(tmp_path: Path) -> ObjectStore:
    return await open_store(f"file://{tmp_path}/recordings", lambda: "beside")


@pytest.fixture
async def kept(courier: Round, store: ObjectStore, tmp_path: Path) -> Archive:
    return Archive(courier, store, tmp_path / "recordings")


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
    (head,) = await kept.checkpoints()
    assert evidence.is_signed(head, "acme", evidence.public_key(kept.house.keyring))
    assert not evidence.is_signed(head, "other") and not evidence.is_signed(head, "acme", "another key")
    assert await kept.faults() == []


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
async def test_tampering_is_found_and_named_wherever_it_is_done(kept: Archive, session: str, way: Tamper) -> None:
    for recording in await kept.recorded(6, session):
        await kept.decide(session, "recording.accessed", recording, reason="dispute 17")
    heads = await kept.signed()
    assert await kept.faults(heads) == []
    chance = random.Random(7)
    for seq in chance.sample(range(2, 12), 4):
        assert await tampered(kept, way, heads, seq, chance) is None
    assert await kept.faults(heads) == []


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
