"""A person's sessions are found by their number with a reason, and never without a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sql

from masking import archive
from masking.courier.outbox import Outbox
from masking.house import House
from pools.leases import Leases
from pools.redis import Redis
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD, key_of

SEARCH = "/v1/sessions:search"
WHY = {"participant": DRIVER, "reason": "rider reported a threat"}


@pytest.fixture
async def courier(house: House, redis_url: str) -> AsyncIterator[Outbox]:
    assert house.archive is not None
    waiting = Redis(redis_url, 5.0, blocking=True)
    yield Outbox(house, house.archive, Leases(waiting))
    await waiting.close()


async def opened(api: Client, *numbers: str) -> str:
    people = [{"identifier": number} for number in numbers]
    answer = await api.post("/v1/sessions", {"participants": people})
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def carry(courier: Outbox) -> None:
    while await courier.round(1):
        pass


async def ids(api: Client, body: dict[str, Any], query: str = "") -> list[str]:
    answer = await api.post(SEARCH + query, body)
    assert answer.status_code == 200
    return [session["id"] for session in answer.json()["data"]]


async def test_a_persons_sessions_are_found_before_and_after_the_archive_has_them(
    api: Client, stranger: Client, numbers: list[str], house: House, courier: Outbox
) -> None:
    mine = [await opened(api, CUSTOMER, DRIVER), await opened(api, DRIVER, THIRD)]
    await opened(api, CUSTOMER, THIRD)
    assert await ids(api, WHY) == mine[::-1], "not a moment late"
    await carry(courier)
    await house.redis.command("DEL", "recent:{acme}")
    assert await ids(api, WHY) == mine[::-1]
    assert await ids(stranger, WHY) == [], "another tenant's are nobody's"
    assert await ids(api, WHY | {"participant": "+84988888888"}) == []


async def test_a_search_is_paged_and_bounded_by_time(
    api: Client, numbers: list[str], house: House, courier: Outbox
) -> None:
    mine = [await opened(api, CUSTOMER, DRIVER) for _ in range(3)]
    await carry(courier)
    first = (await api.post(SEARCH + "?limit=2", WHY)).json()
    rest = (await api.post(SEARCH, WHY, params={"limit": 2, "cursor": first["next"]})).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == mine[::-1] and rest["next"] is None
    assert await ids(api, WHY | {"to": "2026-01-01T00:00:00Z"}) == []
    assert await ids(api, WHY | {"from": "2099-01-01T00:00:00Z"}) == []
    assert len(await ids(api, WHY | {"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"})) == 3
    problem(await api.post(SEARCH, WHY | {"from": "2020-01-01T00:00:00"}), 422, "invalid_request")


async def test_a_search_leaves_its_reason_on_the_chain_of_evidence_and_no_number(
    api: Client, numbers: list[str], house: House, courier: Outbox
) -> None:
    session = await opened(api, CUSTOMER, DRIVER)
    await api.post(SEARCH, WHY)
    await carry(courier)
    answer = await api.get("/v1/audit")
    (entry,) = answer.json()["data"]
    assert entry["event"]["type"] == "session.searched"
    assert entry["event"]["data"]["reason"] == WHY["reason"] and entry["event"]["data"]["sessions"] == [session]
    assert DRIVER[-7:] not in answer.text


async def test_neither_a_number_nor_its_index_is_in_any_event(
    api: Client, numbers: list[str], house: House, courier: Outbox
) -> None:
    session = await opened(api, CUSTOMER, DRIVER)
    before = (await api.get(f"/v1/sessions/{session}/events")).text
    await carry(courier)
    after = (await api.get("/v1/events")).text
    assert house.archive is not None
    async with house.archive.connect() as connection:
        parties = set((await connection.execute(sql.select(archive.session_parties.c.party))).scalars())
        rows = (await connection.execute(sql.select(archive.events.c.body))).scalars()
        kept = " ".join(rows)
    assert len(parties) == 2
    for secret in (*parties, CUSTOMER[-7:], DRIVER[-7:]):
        assert secret not in before + after + kept


async def test_nobody_is_looked_for_without_a_reason_or_the_scope(
    api: Client, house: House, transport: Any, numbers: list[str]
) -> None:
    problem(await api.post(SEARCH, {"participant": DRIVER}), 400, "reason_required")
    problem(await api.post(SEARCH, WHY | {"reason": f"call {DRIVER}"}), 422, "contains_phone_number")
    problem(await api.post(SEARCH, WHY | {"reason": " "}), 422, "invalid_request")
    problem(await api.post(SEARCH, WHY | {"participant": "driver"}), 422, "invalid_phone_number")
    clerk = Client(transport, await key_of(house, "acme", "sessions", "recordings"))
    problem(await clerk.post(SEARCH, WHY), 403, "insufficient_scope")
