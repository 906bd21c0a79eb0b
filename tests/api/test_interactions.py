"""Calls as the API tells them: one interaction per attempt, from the facts the edge leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from masking import archive, interactions, routes
from masking.house import House
from masking.interactions import Call, Channel, Ending, Leg
from pools.numbers import Number
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD
from tests.api.test_sessions import opened

AT = 1_790_000_000.0

pytestmark = pytest.mark.usefixtures("numbers")


async def call(house: House, dialled: str, caller: str, at: float, talk: float | None = 9.0) -> str:
    """A call as the edge tells it: answered and talked for `talk` seconds, or busy."""
    route = await routes.claim(
        house,
        called=Number.parse(dialled),
        caller=Number.parse(caller),
        interaction=house.token("int_"),
        owner="edge-test",
        trunk="carrier-vn",
        at=at,
    )
    if isinstance(route, routes.Refusal):
        return route.interaction
    assert isinstance(route, routes.Route)
    told = Call.of(route)
    await interactions.ringing(house, told, at + 1)
    if talk is None:
        busy = Ending(blame="callee", reason="busy", sip_code=486, legs=(Leg(trunk="carrier-vn", sip_code=486),))
        await interactions.ended(house, told, at + 2, busy)
        return route.interaction
    await interactions.answered(house, told, at + 2)
    channels = (
        Channel(index=1, participant=route.from_participant),
        Channel(index=2, participant=route.to_participant),
    )
    await interactions.recording_started(house, told, at + 2, channels)
    await interactions.bridged(house, told, at + 5)
    legs = (Leg(trunk="carrier-vn", sip_code=200, q850=16, codec="PCMA"),) * 2
    await interactions.ended(
        house, told, at + 5 + talk, Ending(blame="caller", reason="hangup", sip_code=200, legs=legs)
    )
    return route.interaction


async def archived(house: House, told: dict[str, Any], tenant: str = "acme") -> None:
    """Puts an interaction into the archive, as the courier does."""
    row = {"id": told["id"], "tenant": tenant, "session": told["session"], "started_at": AT, "body": json.dumps(told)}
    assert house.archive is not None
    async with house.archive.begin() as connection:
        await connection.execute(archive.interactions.insert(), [row])


async def session_of(api: Client) -> tuple[str, str, dict[str, Any]]:
    """A session's path, the number its customer dials, and the session."""
    session = await opened(api, "order-1", record="always")
    return f"/v1/sessions/{session['id']}", session["participants"][0]["proxies"][0]["number"], session


async def test_a_talked_call_is_told_from_end_to_end(api: Client, house: House) -> None:
    path, number, session = await session_of(api)
    name = await call(house, number, CUSTOMER, AT)
    (told,) = (await api.get(f"{path}/interactions")).json()["data"]
    customer, driver = (person["id"] for person in session["participants"])
    assert (told["id"], told["session"], told["type"]) == (name, session["id"], "call")
    assert (told["from"], told["to"], told["dialled"]) == (customer, driver, number)
    assert (told["decision"], told["status"], told["hangup_by"]) == ("routed", "completed", "caller")
    assert (told["billable"], told["conversation"]) == (12.0, 9.0)
    assert [leg["sip_code"] for leg in told["legs"]] == [200, 200]
    assert len(told["recordings"]) == 1
    assert CUSTOMER[3:] not in str(told) and DRIVER[3:] not in str(told)


async def test_attempts_come_in_their_order_page_by_page(api: Client, house: House) -> None:
    path, number, _ = await session_of(api)
    names = [await call(house, number, caller, AT + 60 * n, None) for n, caller in enumerate([CUSTOMER, DRIVER] * 3)]
    seen: list[str] = []
    query = "limit=4"
    while query:
        page = (await api.get(f"{path}/interactions?{query}")).json()
        seen += [told["id"] for told in page["data"]]
        query = f"limit=4&cursor={page['next']}" if page["next"] else ""
    assert seen == names
    assert {told["status"] for told in page["data"]} == {"busy"}


async def test_a_call_over_the_limit_is_told_as_refused(api: Client, house: House) -> None:
    path, number, _ = await session_of(api)
    first = await routes.claim(
        house,
        called=Number.parse(number),
        caller=Number.parse(CUSTOMER),
        interaction="int_first",
        owner="edge-test",
        trunk="carrier-vn",
        at=AT,
    )
    assert isinstance(first, routes.Route)
    await call(house, number, DRIVER, AT + 1)
    told = (await api.get(f"{path}/interactions")).json()["data"]
    assert [(row["decision"], row["status"]) for row in told] == [("routed", "ringing"), ("limit", "refused")]
    assert (await api.get(path)).json()["status"] == "in_progress"


async def test_a_strangers_call_leaves_nothing_on_the_session(api: Client, house: House) -> None:
    path, number, _ = await session_of(api)
    await call(house, number, THIRD, AT)
    assert (await api.get(f"{path}/interactions")).json()["data"] == []


async def test_one_interaction_is_its_tenants_alone(api: Client, stranger: Client, house: House) -> None:
    path, number, _ = await session_of(api)
    name = await call(house, number, CUSTOMER, AT)
    (told,) = (await api.get(f"{path}/interactions")).json()["data"]
    await archived(house, told)
    assert (await api.get(f"/v1/interactions/{name}")).json() == told
    for found in [
        await stranger.get(f"{path}/interactions"),
        await stranger.get(f"{path}/events"),
        await stranger.get(f"/v1/interactions/{name}"),
    ]:
        problem(found, 404, "not_found")
