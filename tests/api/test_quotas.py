"""Quotas over HTTP: which one it was, and when it is worth another try."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx2
import pytest

from masking import archive, quotas
from masking.config import Config, RedisSection, ServiceSection
from masking.house import House
from masking.tenants import TenantSection
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, TRUNK, key_of

PEOPLE = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
TENANTS = [
    TenantSection(name="hasty", max_requests_per_second=4),
    TenantSection(name="small", max_open_sessions=1, max_numbers=3),
    TenantSection(name="full", max_recordings_gb=2),
]


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Config:
    section = ServiceSection(data_dir=str(tmp_path))
    return Config(service=section, redis=RedisSection(url=redis_url), trunk=[TRUNK], tenant=TENANTS)


async def client_of(house: House, transport: httpx2.ASGITransport, tenant: str) -> Client:
    return Client(transport, await key_of(house, tenant))


def numbers(count: int, first: int = 0) -> dict[str, Any]:
    return {"phone_numbers": [{"phone_number": f"+84247100{n:04}"} for n in range(first, first + count)]}


async def test_requests_beyond_a_second_s_are_429_and_other_tenants_are_answered(
    house: House, transport: httpx2.ASGITransport, api: Client
) -> None:
    hasty = await client_of(house, transport, "hasty")
    answers = await asyncio.gather(*(hasty.get("/v1/services") for _ in range(12)))
    assert sorted(one.status_code for one in answers)[:4] == [200] * 4
    late = next(one for one in answers if one.status_code == 429)
    assert problem(late, 429, "rate_limited")["retry_after"] == 1 and late.headers["Retry-After"] == "1"
    basic = base64.b64encode(b"AC1:" + hasty.http.headers["Authorization"].partition(" ")[2].encode()).decode()
    faced = [
        await hasty.http.get("/v1/Services", headers={"Authorization": f"Basic {basic}"}) for _ in range(6)
    ]  # Twilio's face counts with it
    assert {one.status_code for one in faced} <= {200, 429} and faced[-1].json()["code"] == 20429
    assert (await api.get("/v1/services")).status_code == 200
    while (await hasty.get("/v1/services")).status_code == 429:
        await asyncio.sleep(0.1)


async def test_one_session_and_one_number_too_many_name_their_quota(
    house: House, transport: httpx2.ASGITransport
) -> None:
    small = await client_of(house, transport, "small")
    path = "/v1/services/default/phone_numbers"
    found = problem(await small.post(path, numbers(4)), 409, "quota_exceeded")
    assert found["errors"][0] == {
        "field": "phone_numbers",
        "problem": "is more than the tenant may hold",
        "expected": "at most 3 numbers more",
    }
    [first, *_] = (await small.post(path, numbers(3))).json()["data"]
    opened = (await small.post("/v1/sessions", {"participants": PEOPLE})).json()
    again = await small.post("/v1/sessions", {"participants": PEOPLE}, headers={"Idempotency-Key": "k"})
    found = problem(again, 409, "quota_exceeded")
    assert found["errors"][0]["field"] == "max_open_sessions" and again.headers["Retry-After"].isdigit()
    await small.post(f"/v1/sessions/{opened['id']}:close")
    again = await small.post("/v1/sessions", {"participants": PEOPLE}, headers={"Idempotency-Key": "k"})
    assert again.status_code == 201, "an answer that says 'come again' is not kept for the key"
    await small.patch(f"{path}/{first['id']}", {"state": "retired"})
    assert (await small.post(path, numbers(1, 10))).status_code == 201
    problem(await small.patch(f"{path}/{first['id']}", {"state": "active"}), 409, "quota_exceeded")


async def test_who_keeps_as_many_recordings_as_it_may_opens_no_session_that_is_recorded(
    house: House, transport: httpx2.ASGITransport
) -> None:
    full = await client_of(house, transport, "full")
    await full.post("/v1/services/default/phone_numbers", numbers(3))
    row = {"tenant": "full", "service": "default", "stored_bytes": quotas.GIGABYTE}
    assert house.archive is not None
    async with house.archive.begin() as connection:
        await connection.execute(archive.usage.insert(), [row | {"day": day} for day in (20_000, 20_001)])
    found = problem(await full.post("/v1/sessions", {"participants": PEOPLE}), 409, "quota_exceeded")
    assert found["errors"][0]["field"] == "max_recordings_gb"
    assert (await full.post("/v1/sessions", {"participants": PEOPLE, "record": "never"})).status_code == 201


async def test_sessions_that_were_open_before_there_was_a_quota_count(
    house: House, transport: httpx2.ASGITransport
) -> None:
    soon = house.now() + 600
    rows = [("ses_aaaaaa" + "x" * 22, "open", soon), ("ses_aaaaaa" + "y" * 22, "closed", soon)]
    assert house.archive is not None
    async with house.archive.begin() as connection:
        for name, status, ends in rows:
            row = {"id": name, "tenant": "small", "status": status, "created_at": 1.0, "expires_at": ends}
            await connection.execute(archive.sessions.insert().values(**row, seq=1, body="{}"))
    await quotas.note_open_sessions(house)
    small = await client_of(house, transport, "small")
    await small.post("/v1/services/default/phone_numbers", numbers(3))
    problem(await small.post("/v1/sessions", {"participants": PEOPLE}), 409, "quota_exceeded")


async def test_sessions_of_twilios_face_count_among_the_others(house: House, transport: httpx2.ASGITransport) -> None:
    small = await client_of(house, transport, "small")
    await small.post("/v1/services/default/phone_numbers", numbers(2))
    basic = base64.b64encode(b"AC1:" + small.http.headers["Authorization"].partition(" ")[2].encode()).decode()
    faced = {"Authorization": f"Basic {basic}"}
    made = (await small.http.post("/v1/Services", data={"UniqueName": "rides"}, headers=faced)).json()
    await small.post("/v1/services/rides/phone_numbers", numbers(1, 10))
    path = f"/v1/Services/{made['sid']}/Sessions"
    session = await small.http.post(path, data={"UniqueName": "order-1"}, headers=faced)
    assert session.status_code == 201, session.text
    problem(await small.post("/v1/sessions", {"participants": PEOPLE}), 409, "quota_exceeded")
    second = await small.http.post(path, data={"UniqueName": "order-2"}, headers=faced)
    assert (second.status_code, second.json()["code"]) == (400, 20409)
    assert (await small.http.delete(f"{path}/{session.json()['sid']}", headers=faced)).status_code == 204
    assert (await small.post("/v1/sessions", {"participants": PEOPLE})).status_code == 201
