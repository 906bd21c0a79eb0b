"""Recordings over HTTP: found by what a dispute knows, heard only with a reason, and every hearing leaves a trace."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from masking.events import LOOSE_OUTBOX
from masking.house import House
from pools.numbers import Number
from recordings import catalogue, opus
from recordings.catalogue import Channel
from recordings.providers import KeysAway
from recordings.store import ObjectStore
from recordings.vault import Vault
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD
from tests.recordings import drafts
from tests.recordings.vaults import PROVIDER, shelved

SOUND = bytes(range(256)) * 2000
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC).timestamp()
REASON = {"X-Reason": "dispute 17"}


@dataclass
class Shelf:
    """A catalogue and a store to put recordings in, as the courier does."""

    house: House
    vault: Vault

    async def put(
        self, name: str, *, tenant: str = "acme", at: float = START, whole: bool = True, people: Sequence[str] = ()
    ) -> str:
        recording = f"rec_{name}"

        if whole:
            stored = await shelved(self.vault, tenant, recording, SOUND, duration=9.98)
        assert self.house.archive is not None
        async with self.house.archive.begin() as connection:
            await drafts.begun(
                connection,
                tenant=tenant,
                recording=recording,
                session=f"ses_aaaaaa{name:x>22}",
                interaction=f"int_{name}",
                unique_name=f"order-{name}",
                started_at=at,
                channels=[Channel(1, f"par_c{name}", "customer"), Channel(2, f"par_d{name}", "driver")],
                words=["+842471000001", *(self.house.keyring.index(Number.parse(person)) for person in people)],
            )
            if whole:
                await drafts.call_ended(connection, f"int_{name}", at + 10)
                await catalogue.finished(connection, recording, stored)
        return recording


@pytest.fixture
def shelf(house: House, vault: Vault) -> Shelf:
    return Shelf(house, vault)


async def test_a_recording_is_shown_with_its_facts(api: Client, shelf: Shelf) -> None:
    recording = await shelf.put("one")
    shown = (await api.get(f"/v1/recordings/{recording}")).json()
    assert shown["status"] == "available"
    assert shown["sha256"] == hashlib.sha256(SOUND).hexdigest()
    assert shown["bytes"] == len(SOUND)
    assert [channel["role"] for channel in shown["channels"]] == ["customer", "driver"]


async def test_a_list_is_narrowed_by_whatever_a_dispute_knows(api: Client, shelf: Shelf, numbers: list[str]) -> None:
    names = [await shelf.put(name, at=START + 60 * index) for index, name in enumerate(("a", "b", "c"))]

    async def found(**query: str) -> list[str]:
        return [row["id"] for row in (await api.get("/v1/recordings", params=query)).json()["data"]]

    assert await found() == names[::-1]
    assert await found(session=f"ses_aaaaaa{'b':x>22}") == [names[1]]
    assert await found(unique_name="order-a") == [names[0]]
    assert await found(number=numbers[0]) == names[::-1]
    assert await found(number=numbers[1]) == []
    assert await found(participant="par_cc") == [names[2]]
    assert await found(**{"from": "2026-11-22T09:01:00Z"}) == [names[2], names[1]]
    assert await found(to="2026-11-22T16:01:00+07:00") == [names[0]]
    assert await found(participant="par_da", number=numbers[0], to="2026-11-22T10:00:00Z") == [names[0]]


async def test_a_time_without_its_zone_is_no_time(api: Client) -> None:
    for text in ("2026-11-22T09:00:00", "yesterday", "2026-11-22"):
        found = problem(await api.get("/v1/recordings", params={"from": text}), 400, "invalid_parameter")
        assert found["errors"][0]["field"] == "from"


async def test_pages_go_back_in_time(api: Client, shelf: Shelf) -> None:
    names = [await shelf.put(f"p{index}", at=START + index // 2) for index in range(5)]
    seen: list[str] = []
    query = "limit=2"
    while query:
        page = (await api.get(f"/v1/recordings?{query}")).json()
        seen += [row["id"] for row in page["data"]]
        await shelf.put(f"new{len(seen)}", at=START + 100)
        query = f"limit=2&cursor={page['next']}" if page["next"] else ""
    assert seen == names[::-1]


async def test_a_persons_recordings_are_found_by_their_number_with_a_reason_and_a_trace(
    api: Client, stranger: Client, shelf: Shelf
) -> None:
    names = [
        await shelf.put(name, at=START + 60 * place, people=(CUSTOMER, DRIVER)) for place, name in enumerate("abc")
    ]
    await shelf.put("d", people=(CUSTOMER,))
    theirs = [await shelf.put("e", tenant="other", people=(CUSTOMER, DRIVER))]
    why = {"participant": DRIVER, "reason": "rider reported a threat"}

    async def found(client: Client, body: dict[str, str], **query: str) -> tuple[list[str], str | None]:
        answer = await client.post("/v1/recordings:search", body, params=query)
        assert answer.status_code == 200 and DRIVER not in answer.text
        return [row["id"] for row in answer.json()["data"]], answer.json()["next"]

    first, cursor = await found(api, why, limit="2")
    assert cursor is not None
    assert (first, await found(api, why, cursor=cursor)) == (names[:0:-1], (names[:1], None))
    assert (await found(api, why | {"from": "2026-11-22T09:01:00Z", "to": "2026-11-22T09:02:00Z"}))[0] == [names[1]]
    assert await found(api, why | {"participant": THIRD}) == ([], None)
    assert await found(stranger, why) == (theirs, None), "each tenant finds its own"
    problem(await api.post("/v1/recordings:search", {"participant": DRIVER}), 400, "reason_required")
    problem(
        await api.post("/v1/recordings:search", why | {"reason": f"asked by {THIRD}"}), 422, "contains_phone_number"
    )
    told = await shelf.house.redis.command("XRANGE", LOOSE_OUTBOX, "-", "+")
    assert len(told) == 5 and all(
        b"recording.searched" in row[1] and DRIVER.encode() not in str(row).encode() for row in told
    )


async def test_nothing_is_heard_without_a_reason(api: Client, shelf: Shelf) -> None:
    recording = await shelf.put("one")
    for headers in ({}, {"X-Reason": ""}, {"X-Reason": "   "}):
        problem(await api.get(f"/v1/recordings/{recording}/media", headers=headers), 400, "reason_required")
    for reason in ("x" * 256, "tab\tbed"):
        answer = await api.get(f"/v1/recordings/{recording}/media", headers={"X-Reason": reason})
        problem(answer, 400, "invalid_parameter")
    for reason in ("asked by +84901234567", "0901234567"):
        answer = await api.get(f"/v1/recordings/{recording}/media", headers={"X-Reason": reason})
        problem(answer, 422, "contains_phone_number")


async def test_the_whole_file_is_the_bytes_of_the_catalogue(api: Client, shelf: Shelf) -> None:
    recording = await shelf.put("one")
    answer = await api.get(f"/v1/recordings/{recording}/media?format=wav", headers=REASON)
    assert (answer.status_code, answer.content) == (200, SOUND)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["content-length"] == str(len(SOUND))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{hashlib.sha256(SOUND).hexdigest()}"'
    assert answer.headers["cache-control"] == "no-store"


async def test_a_part_can_be_had(api: Client, shelf: Shelf) -> None:
    path = f"/v1/recordings/{await shelf.put('one')}/media"
    answer = await api.get(path, headers={**REASON, "Range": "bytes=1000-300999"})
    assert (answer.status_code, answer.content) == (206, SOUND[1000:301000])
    assert answer.headers["content-range"] == f"bytes 1000-300999/{len(SOUND)}"
    assert answer.headers["content-length"] == "300000"
    last = await api.get(path, headers={**REASON, "Range": "bytes=-5", "If-Range": answer.headers["etag"]})
    assert (last.status_code, last.content) == (206, SOUND[-5:])
    changed = await api.get(path, headers={**REASON, "Range": "bytes=-5", "If-Range": '"old"'})
    assert (changed.status_code, changed.content) == (200, SOUND)
    beyond = await api.get(path, headers={**REASON, "Range": f"bytes={len(SOUND)}-"})
    problem(beyond, 416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{len(SOUND)}"


async def test_head_tells_the_size_and_leaves_no_trace(api: Client, shelf: Shelf, house: House) -> None:
    path = f"/v1/recordings/{await shelf.put('one')}/media"
    answer = await api("HEAD", path, headers=REASON)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(SOUND))
    assert await house.redis.command("XLEN", LOOSE_OUTBOX) == 0
    assert (await api("HEAD", path)).status_code == 400


async def test_every_hearing_is_on_record(api: Client, shelf: Shelf, house: House) -> None:
    recording = await shelf.put("one")
    await api.get(f"/v1/recordings/{recording}/media", headers={"X-Reason": "khiếu nại 17".encode()})
    ((_, fields),) = await house.redis.command("XRANGE", LOOSE_OUTBOX, "-", "+")
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    assert told[b"type"] == b"recording.accessed"
    assert "khiếu nại 17".encode() in told[b"data"]
    assert recording.encode() in told[b"data"]
    assert b"key_" in told[b"data"]


async def test_what_is_not_whole_cannot_be_heard(api: Client, shelf: Shelf) -> None:
    recording = await shelf.put("half", whole=False)
    found = problem(await api.get(f"/v1/recordings/{recording}/media", headers=REASON), 409, "recording_not_available")
    assert "recording" in found["detail"]


async def test_a_file_that_is_gone_is_said_to_be(api: Client, shelf: Shelf, store: ObjectStore, house: House) -> None:
    recording = await shelf.put("one")
    await store.delete(f"{recording}.sealed")
    answer = await api.get(f"/v1/recordings/{recording}/media", headers=REASON)
    problem(answer, 409, "recording_not_available")
    assert await house.redis.command("XLEN", LOOSE_OUTBOX) == 0


async def test_a_wav_is_heard_as_opus_where_the_machine_can(
    api: Client, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/recordings/{await shelf.put('one')}/media"
    problem(await api.get(f"{path}?format=mp3", headers=REASON), 400, "invalid_parameter")
    answer = await api.get(f"{path}?format=opus", headers=REASON)
    assert answer.headers["content-type"] == "audio/ogg" and answer.content.startswith(b"OggS")
    assert opus.length(answer.content) == (len(SOUND) - 44) // 4
    monkeypatch.setitem(sys.modules, "av", None)
    found = problem(await api.get(f"{path}?format=opus", headers=REASON), 422, "not_implemented")
    assert found["errors"][0]["field"] == "format"


async def test_while_the_keys_are_away_nothing_is_heard_and_it_may_be_asked_again(
    api: Client, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = await shelf.put("one")

    async def away(wrapped: bytes, place: str) -> bytes:
        raise KeysAway("AWS KMS: EndpointConnectionError")

    monkeypatch.setattr(PROVIDER, "unwrap", away)
    answer = await api.get(f"/v1/recordings/{recording}/media", headers=REASON)
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "5"
    monkeypatch.undo()
    assert (await api.get(f"/v1/recordings/{recording}/media", headers=REASON)).content == SOUND


async def test_tenants_never_hear_each_other(api: Client, stranger: Client, shelf: Shelf) -> None:
    recording = await shelf.put("one")
    problem(await stranger.get(f"/v1/recordings/{recording}"), 404, "not_found")
    problem(await stranger.get(f"/v1/recordings/{recording}/media", headers=REASON), 404, "not_found")
    assert (await stranger.get("/v1/recordings")).json() == {"data": [], "next": None}
    assert (await stranger.get("/v1/recordings?participant=par_cone")).json()["data"] == []
