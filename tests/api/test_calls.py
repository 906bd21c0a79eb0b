"""Calls that the app asks for: what the API answers, and what becomes of a call that no edge takes."""

from __future__ import annotations

import pytest

from masking import originating
from masking.courier import sweeper
from masking.house import House
from tests.api.client import Client, problem
from tests.api.test_sessions import opened

pytestmark = pytest.mark.usefixtures("numbers")


async def test_a_call_waits_for_an_edge_and_ends_when_none_takes_it(
    api: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await opened(api)
    people = [one["id"] for one in session["participants"]]
    path = f"/v1/sessions/{session['id']}"
    away = problem(await api.post(f"{path}:call", {"from": people[0]}), 503, "unavailable")
    assert away["retry_after"] > 0 and (await api.get(f"{path}/interactions")).json()["data"] == []

    await house.redis.command("SET", originating.TAKERS, 1)  # as an edge does that takes calls
    key = {"Idempotency-Key": "tap"}
    first = await api.post(f"{path}:call", {"from": people[0]}, headers=key)
    assert first.status_code == 202, first.text
    asked = first.json()
    assert (asked["status"], asked["direction"], asked["from"], asked["to"]) == ("ringing", "outbound", *people)
    assert asked["dialled"] == session["participants"][0]["proxies"][0]["number"]
    assert (await api.post(f"{path}:call", {"from": people[0]}, headers=key)).json() == asked
    assert await house.redis.command("LLEN", originating.COMMANDS) == 1
    ((shown,), now) = (await api.get(f"{path}/interactions")).json()["data"], (await api.get(path)).json()
    assert (shown["id"], shown["status"], now["status"]) == (asked["id"], "ringing", "in_progress")

    refused = problem(await api.post(f"{path}:call", {"from": people[1]}), 409, "call_refused")
    assert (refused["decision"], refused["reason"]) == ("limit", "limit") and refused["interaction"] != asked["id"]

    monkeypatch.setattr(sweeper, "GRACE", 0.0)
    sweeps = sweeper.Sweeper(house)
    assert await sweeps.round() == 0  # an edge may still take it
    await house.redis.command("PEXPIRE", f"w:nobody.{asked['id']}", 0)
    assert await sweeps.round() == 1
    found = {one["id"]: one for one in (await api.get(f"{path}/interactions")).json()["data"]}
    assert (found[asked["id"]]["status"], found[asked["id"]]["reason"]) == ("failed", "owner_lost")
    orders = originating.Orders(house)
    command = await orders.next()
    assert command is not None and await originating.take(house, command, "edge-late") is None
    await house.redis.command("RPUSH", originating.COMMANDS, "of another version")
    assert await orders.next() is None
    await orders.close()


@pytest.mark.parametrize(
    ("body", "field"), [({"from": "par_x"}, "from"), ({"from": 0, "to": "par_x"}, "to"), ({"from": 0, "to": 0}, "to")]
)
async def test_only_participants_are_called(api: Client, body: dict[str, str | int], field: str) -> None:
    session = await opened(api)
    people = [one["id"] for one in session["participants"]]
    said = {name: people[who] if isinstance(who, int) else who for name, who in body.items()}
    wrong = problem(await api.post(f"/v1/sessions/{session['id']}:call", said), 422, "invalid_request")
    assert wrong["errors"][0]["field"] == field


async def test_a_closed_session_calls_nobody_and_a_suspended_number_is_not_shown(api: Client, house: House) -> None:
    session = await opened(api)
    one, number = session["participants"][0]["id"], session["participants"][0]["proxies"][0]["number"]
    await api.patch(f"/v1/services/default/phone_numbers/{number}", {"state": "suspended"})
    path = f"/v1/sessions/{session['id']}"
    refused = problem(await api.post(f"{path}:call", {"from": one}), 409, "call_refused")
    assert refused["decision"] == "unavailable"
    await api.post(f"{path}:close")
    problem(await api.post(f"{path}:call", {"from": one}), 409, "session_closed")
