"""A person's voice is erased: every recording of their calls, in every place, and none that is held."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import msgspec
import pytest
from anyio.to_thread import run_sync

from masking.access import SCOPES, create_key
from masking.api.app import App
from masking.api.desk import Desk
from masking.courier.finisher import Finisher
from masking.courier.keyspace import lines_of
from pools.numbers import Number
from recordings.capture import G711, Capture
from recordings.catalogue import Channel
from tests.api.client import Client, problem
from tests.courier.conftest import Round
from tests.courier.tampering import Archive
from tests.courier.test_evidence import kept, session, store
from tests.masking.world import CUSTOMER, DRIVER
from tests.recordings import drafts
from tests.recordings.phones import Phone, hear, ns

__all__ = ["kept", "session", "store"]  # fixtures

LENGTH = 1.0


def says(name: str) -> Phone:
    """A voice that is in this recording alone."""
    noise = Random(name).randbytes(50 * 160)
    return Phone(voice=lambda n: noise[n % 50 * 160 :][:160])


class Talks:
    """Recorded calls of a session, from the relay's capture to the stored file."""

    def __init__(self, kept: Archive, session: str, folder: Path) -> None:
        self.kept, self.session, self.folder = kept, session, folder
        self.spool = folder / "spool"
        self.finisher = Finisher(kept.house, kept.engine, kept.vault, self.spool)

    async def talk(self, name: str, *people: str, ended: bool = True) -> str:
        lock = (await self.kept.vault.locks()).get("acme") or await self.kept.vault.rotate("acme", 0.0)
        now = self.kept.house.now()

        def capture() -> None:
            written = Capture.create(self.spool, name, (G711, G711), now, lock, os.urandom(32))
            written.keep(0)
            hear(written, 0, says(name).says(LENGTH, Random(1)))
            written.end(ns(LENGTH))
            written.close(ns(LENGTH))

        await run_sync(capture)
        async with self.kept.engine.begin() as connection:
            await drafts.begun(
                connection,
                tenant="acme",
                recording=name,
                session=self.session,
                interaction=f"int_{name}",
                unique_name=None,
                started_at=now,
                channels=[Channel(1, "par_c"), Channel(2, "par_d")],
                words=[self.kept.house.keyring.index(Number.parse(person)) for person in people],
            )
            if ended:
                await drafts.call_ended(connection, f"int_{name}", now + LENGTH)
        await self.finisher.round()
        await self.kept.courier.carry()
        return name

    async def swept(self) -> None:
        """What a courier does within a second."""
        await self.kept.courier.carry()
        await self.finisher.round()
        await self.finisher.erase()

    async def places(self) -> dict[str, bytes]:
        """Every byte this house keeps: spool, folder, database, Redis."""

        def files() -> dict[str, bytes]:
            return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

        lines = [msgspec.json.encode(line) async for line in lines_of(self.kept.house.redis)]
        return await run_sync(files) | {"redis": b"\n".join(lines)}


@pytest.fixture
async def talks(kept: Archive, session: str, tmp_path: Path) -> Talks:
    return Talks(kept, session, tmp_path)


@pytest.fixture
async def api(kept: Archive) -> Client:
    desk = Desk.of(kept.house, kept.vault, time.monotonic)
    return Client(httpx2.ASGITransport(App(desk)), (await create_key(kept.house, "acme", list(SCOPES)))[1])


def heard_in(places: dict[str, bytes], sounds: list[bytes], step: int = 160) -> list[str]:
    """Where a stretch of a sound stands as it is."""
    windows = [sound[at : at + 32] for sound in sounds for at in range(0, len(sound) - 32, step)]
    return [name for name, data in places.items() if any(window in data for window in windows)]


async def test_an_erased_person_leaves_no_byte_of_their_voice_and_no_key_to_it(
    api: Client, talks: Talks, session: str, courier: Round
) -> None:
    hers = [await talks.talk(name, CUSTOMER, DRIVER) for name in ("rec_a", "rec_b")]
    waiting = await talks.talk("rec_c", CUSTOMER, ended=False)  # still in the spool
    theirs = await talks.talk("rec_d", DRIVER)
    assert [talks.spool / f"{waiting}.capture"] == await run_sync(lambda: list(talks.spool.iterdir()))
    sealed = {name: await talks.kept.vault.sealed_key(name) for name in [*hers, theirs]}
    boxes = [one.box for one in sealed.values() if one is not None]
    answer = await api.get(f"/v1/recordings/{hers[0]}/media", headers={"X-Reason": "test"})
    sounds = [answer.content[44:], b"".join(map(says(hers[0]).voice, range(50)))]
    assert answer.status_code == 200 and any(sounds[0])
    assert heard_in({"x": answer.content}, sounds) == ["x"], "the scanner hears what is there"
    places = await talks.places()
    assert heard_in(places, sounds) == [], "nothing of it lies open before either"
    if talks.kept.engine.dialect.name == "sqlite":
        assert all(any(box in data for data in places.values()) for box in boxes), "the scanner finds keys"

    why = {"identifier": CUSTOMER, "reason": "asked to be forgotten"}
    problem(await api.post("/v1/persons:erase", why), 409, "recording_not_available")
    async with talks.kept.engine.begin() as connection:
        await drafts.call_ended(connection, f"int_{waiting}", talks.kept.house.now() + LENGTH)
    began = time.monotonic()
    answer = await api.post("/v1/persons:erase", why)
    assert answer.status_code == 200 and sorted(answer.json()["recordings"]) == [*hers, waiting]
    assert CUSTOMER not in answer.text
    await talks.swept()
    assert time.monotonic() - began < 60

    for name in (*hers, waiting):
        shown = await talks.kept.status(name)
        assert (shown.status, shown.peaks, shown.loudness) == ("erased", None, None)
        assert await talks.kept.vault.sealed_key(name) is None
        problem(
            await api.get(f"/v1/recordings/{name}/media", headers={"X-Reason": "x"}), 409, "recording_not_available"
        )
    places = await talks.places()
    assert heard_in(places, sounds) == []
    assert not [name for name in places if any(gone in name for gone in (*hers, waiting))]
    if talks.kept.engine.dialect.name == "sqlite":
        assert not any(box in data for box in boxes[:2] for data in places.values()), "nor in the database's log"
        assert any(boxes[2] in data for data in places.values())
    answer = await api.get(f"/v1/recordings/{theirs}/media", headers={"X-Reason": "another's call"})
    assert answer.status_code == 200 and any(answer.content[44:])
    told = [entry["event"]["type"] for entry in (await api.get("/v1/audit")).json()["data"]]
    assert told.count("recording.erased") == 3 and told.count("person.erased") == 1
    assert (await api.post("/v1/persons:erase", why)).json() == {"recordings": []}
    assert await talks.kept.faults() == []


async def test_a_hold_is_named_and_stronger_than_a_person_s_wish(api: Client, talks: Talks) -> None:
    one, held = await talks.talk("rec_a", CUSTOMER), await talks.talk("rec_b", CUSTOMER)
    assert (await api.post(f"/v1/recordings/{held}:hold", {"reason": "case 7"})).status_code == 200
    await talks.swept()
    why = {"identifier": CUSTOMER, "reason": "asked to be forgotten"}
    refused = problem(await api.post("/v1/persons:erase", why), 409, "recording_held")
    assert held in refused["detail"] and one not in refused["detail"]
    await talks.swept()
    assert [(await talks.kept.status(name)).status for name in (one, held)] == ["available"] * 2
    problem(await api.post("/v1/persons:erase", why | {"reason": f"asked by {DRIVER}"}), 422, "contains_phone_number")
    problem(await api.post("/v1/persons:erase", why | {"identifier": "+8490"}), 422, "invalid_phone_number")


async def test_a_recording_erased_while_it_is_made_is_nowhere(
    api: Client, talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = talks.kept.vault.put

    async def overtaken(key: str, recording: str, *more: Any) -> None:
        await put(key, recording, *more)
        answer = await api.post(f"/v1/recordings/{recording}:erase", {"reason": "asked"})
        assert answer.status_code == 200
        await talks.kept.courier.carry()

    monkeypatch.setattr(talks.kept.vault, "put", overtaken)
    await talks.talk("rec_a", CUSTOMER)
    await talks.swept()
    assert (await talks.kept.status("rec_a")).status == "erased"
    assert not [name for name in await talks.places() if "rec_a" in name]
