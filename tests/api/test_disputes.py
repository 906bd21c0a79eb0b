"""Disputes, grants, holds, erasure and share links: nobody hears anything without a case, and all of it is kept."""

from __future__ import annotations

import base64
from dataclasses import replace

import httpx2
import msgspec
import pytest

from masking import access, archive, evidence
from masking.api.app import App
from masking.api.desk import Desk
from masking.house import House
from recordings import catalogue
from recordings.vault import Vault
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, key_of
from tests.api.test_events import happen
from tests.api.test_recordings import SOUND, Shelf

CASE = {"reason": "rider felt threatened", "requested_by": "anna"}


@pytest.fixture
def shelf(house: House, vault: Vault) -> Shelf:
    return Shelf(house, vault)


async def opened(api: Client, name: str = "order-1042") -> str:
    people = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
    answer = await api.post("/v1/sessions", {"unique_name": name, "participants": people})
    assert answer.status_code in (200, 201)
    return str(answer.json()["id"])


async def recorded(house: House, shelf: Shelf, session: str, name: str = "one") -> str:
    """A recording of that session."""
    recording = await shelf.put(name)
    assert house.archive is not None
    async with house.archive.begin() as connection:
        row = await catalogue.get(connection, "acme", recording)
        assert row is not None
        body = msgspec.structs.replace(row.recording, session=session)
        table = catalogue.recordings
        await connection.execute(
            table.update()
            .where(table.c.id == recording)
            .values(session=session, body=msgspec.json.encode(body).decode())
        )
    return recording


async def test_a_dispute_over_an_order_grants_the_hearing_of_its_recordings(
    api: Client, numbers: list[str], house: House, shelf: Shelf
) -> None:
    session = await opened(api)
    recording = await recorded(house, shelf, session)
    dispute = (await api.post("/v1/disputes", {"unique_name": "order-1042", **CASE})).json()
    assert dispute["status"] == "granted" and dispute["sessions"] == [session] and dispute["grant"].startswith("grt_")
    answer = await api.get(f"/v1/recordings/{recording}/media?grant={dispute['grant']}")
    assert answer.status_code == 200 and answer.content == SOUND
    (heard,) = [entry for entry in await house.leases.journal(session) if entry.type == "recording.accessed"]
    assert dispute["id"].encode() in heard.data and b"anna" in heard.data
    assert "grant" not in (await api.get(f"/v1/disputes/{dispute['id']}")).json()


async def test_a_grant_opens_no_other_orders_recording_and_ends(
    api: Client, numbers: list[str], house: House, shelf: Shelf, desk: Desk
) -> None:
    session = await opened(api)
    recording = await recorded(house, shelf, session)
    other = await shelf.put("two")
    dispute = (await api.post("/v1/disputes", {"session": session, "expires_in": 60, **CASE})).json()
    grant = f"?grant={dispute['grant']}"
    problem(await api.get(f"/v1/recordings/{other}/media{grant}"), 403, "grant_refused")
    problem(await api.get(f"/v1/recordings/{recording}/media?grant=grt_made_up"), 403, "grant_refused")
    now = house.now()
    desk.house = replace(house, now=lambda: now + 61)
    later = Client(httpx2.ASGITransport(App(desk)), await key_of(house, "acme"))
    problem(await later.get(f"/v1/recordings/{recording}/media{grant}"), 403, "grant_refused")
    assert (await later.get(f"/v1/disputes/{dispute['id']}")).json()["status"] == "expired"


async def test_where_a_second_person_must_approve_the_first_cannot(
    api: Client, numbers: list[str], house: House, shelf: Shelf, transport: httpx2.ASGITransport
) -> None:
    session = await opened(api)
    dispute = (await api.post("/v1/disputes", {"session": session, "approval": "second_person", **CASE})).json()
    assert (dispute["status"], dispute["grant"], dispute["expires_at"]) == ("pending", None, None)
    path = f"/v1/disputes/{dispute['id']}:approve"
    problem(await api.post(path, {"approved_by": "bert"}), 403, "insufficient_scope")
    second = Client(transport, await key_of(house, "acme", "disputes", "recordings"))
    problem(await second.post(path, {"approved_by": "Anna"}), 403, "insufficient_scope")
    approved = (await second.post(path, {"approved_by": "bert"})).json()
    assert approved["status"] == "granted" and approved["grant"]
    problem(await second.post(path, {"approved_by": "bert"}), 409, "conflict")
    closed = (await api.post(f"/v1/disputes/{dispute['id']}:close")).json()
    assert closed["status"] == "closed"
    recording = await recorded(house, shelf, session)
    answer = await second.get(f"/v1/recordings/{recording}/media?grant={approved['grant']}")
    problem(answer, 403, "grant_refused")
    assert (await api.post(f"/v1/disputes/{dispute['id']}:close")).json() == closed


async def test_a_dispute_says_what_it_is_about(api: Client, stranger: Client, numbers: list[str]) -> None:
    session = await opened(api)
    for body, status, code in (
        (CASE, 422, "invalid_request"),
        ({"session": session, "unique_name": "order-1042", **CASE}, 422, "invalid_request"),
        ({"unique_name": "order-9", **CASE}, 404, "not_found"),
        ({"session": session, "reason": "call +84901234567", "requested_by": "a"}, 422, "contains_phone_number"),
        ({"session": session, "reason": "  ", "requested_by": "a"}, 422, "invalid_request"),
    ):
        problem(await api.post("/v1/disputes", body), status, code)
    problem(await stranger.post("/v1/disputes", {"session": session, **CASE}), 404, "not_found")
    dispute = (await api.post("/v1/disputes", {"session": session, **CASE})).json()
    problem(await stranger.get(f"/v1/disputes/{dispute['id']}"), 404, "not_found")
    assert [one["id"] for one in (await api.get("/v1/disputes")).json()["data"]] == [dispute["id"]]
    assert (await stranger.get("/v1/disputes")).json()["data"] == []


async def test_a_share_link_plays_one_recording_without_a_key_for_five_minutes(
    api: Client, nobody: Client, house: House, shelf: Shelf, desk: Desk
) -> None:
    recording, other = await shelf.put("one"), await shelf.put("two")
    share = (await api.post(f"/v1/recordings/{recording}:share", {"reason": "for the police"})).json()
    assert (await nobody.get(share["url"])).content == SOUND
    assert (await nobody.get(share["url"], headers={"Range": "bytes=0-9"})).content == SOUND[:10]
    problem(await nobody.get(share["url"].replace(recording, other)), 401, "unauthenticated")
    problem(await nobody.get(share["url"][:-4] + "AAAA"), 401, "unauthenticated")
    problem(await nobody.get(share["url"].replace("/media", "")), 401, "unauthenticated")
    for broken in ("shr_", "shr_!!!", "shr_" + base64.urlsafe_b64encode(b"x" * 50).decode(), "xyz"):
        answer = await nobody.get(f"/v1/recordings/{recording}/media?grant={broken}")
        problem(answer, 401, "unauthenticated")
    now = house.now()
    desk.house = replace(house, now=lambda: now + 301)
    late = Client(httpx2.ASGITransport(App(desk)), None)
    problem(await late.get(share["url"]), 401, "unauthenticated")
    problem(
        await api.post(f"/v1/recordings/{recording}:share", {"reason": "ring +84901234567"}),
        422,
        "contains_phone_number",
    )


async def test_a_share_of_what_cannot_be_played_is_refused(api: Client, shelf: Shelf) -> None:
    recording = await shelf.put("one", whole=False)
    problem(await api.post(f"/v1/recordings/{recording}:share", {"reason": "x"}), 409, "recording_not_available")
    problem(await api.post(f"/v1/recordings/{recording}:erase", {"reason": "x"}), 409, "recording_not_available")


async def test_every_decision_over_a_recording_is_told_with_its_reason(
    api: Client, stranger: Client, house: House, shelf: Shelf
) -> None:
    recording = await shelf.put("one")
    path = f"/v1/recordings/{recording}"
    held = (await api.post(f"{path}:hold", {"reason": "case 7"})).json()
    assert held["hold"]["reason"] == "case 7"
    released = (await api.post(f"{path}:release", {"reason": "settled"})).json()
    assert released["hold"] is None
    assert (await api.post(f"{path}:erase", {"reason": "asked by the rider"})).json()["status"] == "erased"
    for verb in ("hold", "release", "erase", "share"):
        problem(await stranger.post(f"{path}:{verb}", {"reason": "x"}), 404, "not_found")
        problem(await api.post(f"{path}:{verb}", {"reason": "\u200b\n"}), 400, "invalid_parameter")


async def test_the_audit_lists_the_chain_oldest_first(api: Client, stranger: Client, house: House) -> None:
    await happen(house, "acme", 3)
    assert house.archive is not None
    async with house.archive.begin() as connection:
        head = evidence.beginning("acme")
        for seq, (_, body) in enumerate(await archive.events_after(connection, "acme", 0, 10), 1):
            entry = evidence.after(head, seq, msgspec.json.decode(body)["id"], body)
            head = entry.hash
            await connection.execute(
                archive.evidence.insert().values(tenant="acme", seq=seq, event=entry.event, hash=entry.hash)
            )
    first = (await api.get("/v1/audit?limit=2")).json()
    rest = (await api.get(f"/v1/audit?limit=2&cursor={first['next']}")).json()
    assert [entry["seq"] for entry in first["data"] + rest["data"]] == [1, 2, 3]
    assert rest["data"][0]["hash"] == head
    assert (await api.get(f"/v1/audit?cursor={rest['next']}")).json() == {"data": [], "next": None}
    assert (await stranger.get("/v1/audit")).json()["data"] == []
    key = (await api.get("/v1/audit:key")).json()["public_key"]
    assert len(base64.b64decode(key)) == 32


async def test_a_key_without_the_scope_opens_no_dispute(house: House, transport: httpx2.ASGITransport) -> None:
    reader = Client(transport, (await access.create_key(house, "acme", ["recordings"]))[1])
    problem(await reader.post("/v1/disputes", {"unique_name": "order-1", **CASE}), 403, "insufficient_scope")
    problem(await reader.get("/v1/audit"), 403, "insufficient_scope")
