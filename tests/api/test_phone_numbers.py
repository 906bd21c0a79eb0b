"""Numbers that leave service and come back over HTTP: what becomes of their sessions, and when they serve again."""

from __future__ import annotations

from typing import Any

from masking.courier.checkup import Checkup
from masking.house import House
from masking.number_health import Outcome
from pools.numbers import Number
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, X, key_of

DEFAULT = "/v1/services/default"
NUMBERS = f"{DEFAULT}/phone_numbers"


async def session(api: Client, *people: str) -> dict[str, Any]:
    body = {"participants": [{"identifier": one} for one in people or (CUSTOMER, DRIVER)]}
    opened = await api.post("/v1/sessions", body)
    assert opened.status_code == 201, opened.text
    return dict(opened.json())


def dialled(session: dict[str, Any]) -> set[str]:
    return {proxy["number"] for one in session["participants"] for proxy in one["proxies"]}


async def test_every_session_on_a_suspended_block_has_another_number_when_that_is_asked_for(
    api: Client, numbers: list[str]
) -> None:
    opened = [await session(api) for _ in range(6)]
    left = [number for one in opened for number in dialled(one)][:4]
    change = {"phone_numbers": [f"{left[0]}-{left[-1]}"], "state": "suspended"}
    told = (await api.patch(NUMBERS, change | {"replace": True, "overlap": 0})).json()
    assert (told["replaced"], told["kept"], told["more"]) == (4, [], False)
    assert {one["state"] for one in told["data"]} == {"suspended"}
    after = [(await api.get(f"/v1/sessions/{one['id']}")).json() for one in opened]
    assert all(dialled(one).isdisjoint(left) for one in after)
    for one in after:
        met = (await api.post("/v1/route:explain", {"from": CUSTOMER, "to": min(dialled(one))})).json()
        assert (met["decision"], met["session"]) == ("routed", one["id"])
    assert (await api.patch(NUMBERS, change | {"replace": True})).json()["replaced"] == 0, "asked again it is done"


async def test_sessions_that_find_no_other_number_keep_theirs_and_are_told(api: Client, numbers: list[str]) -> None:
    await api.patch(NUMBERS, {"phone_numbers": [f"{X[2]}-{X[-1]}"], "state": "retired"})
    opened = [await session(api), await session(api)]
    change = {"phone_numbers": [X[0], X[1]], "state": "draining", "replace": True}
    told = (await api.patch(NUMBERS, change)).json()
    assert told["replaced"] == 0
    assert {(one["session"], one["code"]) for one in told["kept"]} == {
        (one["id"], "number_pool_exhausted") for one in opened
    }


async def test_replacing_wants_the_scope_of_sessions_and_a_state_that_is_left(
    api: Client, house: House, transport: Any, numbers: list[str]
) -> None:
    change = {"phone_numbers": X[:1], "state": "draining", "replace": True}
    narrow = Client(transport, await key_of(house, "acme", "numbers"))
    problem(await narrow.patch(NUMBERS, change), 403, "insufficient_scope")
    problem(await api.patch(NUMBERS, change | {"state": "active"}), 422, "invalid_request")
    problem(await api.patch(NUMBERS, change | {"state": "resting"}), 422, "invalid_request")


async def test_a_number_put_back_too_soon_rests_and_serves_again_by_itself(
    api: Client, house: House, numbers: list[str]
) -> None:
    await api.patch(DEFAULT, {"number_ageing": 86_400})
    await api.patch(NUMBERS, {"phone_numbers": X[:2], "state": "retired"})
    back = (await api.post(NUMBERS, {"phone_numbers": [{"phone_number": X[0]}, {"phone_number": X[3]}]})).json()["data"]
    assert [(one["state"], one["rests_until"] is None) for one in back] == [("resting", False), ("active", True)]
    assert (await api.patch(f"{NUMBERS}/{X[1]}", {"state": "active"})).json()["state"] == "resting"
    assert (await api.get(f"{DEFAULT}/pools")).json()["data"][0]["states"]["resting"] == 2
    assert await Checkup(house).round() == 0
    await api.patch(DEFAULT, {"number_ageing": 0})
    assert (await api.patch(f"{NUMBERS}/{X[1]}", {"state": "active"})).json()["state"] == "active", "as is wished now"
    await house.redis.command("ZADD", "{n}resting", 1, house.keyring.index(Number.parse(X[0])))
    assert await Checkup(house).round() == 1
    found = (await api.get(f"{NUMBERS}/{X[0]}")).json()
    assert (found["state"], found["rests_until"]) == ("active", None)


async def test_numbers_say_how_they_fare(api: Client, house: House, numbers: list[str]) -> None:
    rules = {"min_calls": 2, "min_answer_ratio": 0.5, "short_call": 5.0, "max_short_ratio": 0.9, "max_reports": 0}
    problem(await api.patch(DEFAULT, {"number_health": {"window": 5}}), 422, "invalid_request")
    assert (await api.patch(DEFAULT, {"number_health": rules})).json()["number_health"] == rules | {"window": 86_400}
    calls = [
        Outcome(X[0]),
        Outcome(X[0]),
        Outcome(X[1], True, 2.0),
        Outcome(X[1], True, 60.0),
        Outcome(X[1], report=True),
    ]
    await Checkup(house).take(calls)
    first, second, third = (await api.get(f"{NUMBERS}?limit=3")).json()["data"]
    assert (first["health"]["healthy"], first["health"]["ails"], first["health"]["calls"]) == (False, ["unanswered"], 2)
    health = {name: value for name, value in second["health"].items() if name != "last_call_at"}
    assert health == {
        "healthy": True, "ails": [], "calls": 2, "answer_ratio": 1.0, "short_call_ratio": 0.5, "reports": 1,
    }  # fmt: skip
    assert third["health"]["answer_ratio"] is None and third["health"]["last_call_at"] is None
    (pool,) = (await api.get(f"{DEFAULT}/pools")).json()["data"]
    assert (pool["unhealthy"], pool["shards"][0]["unhealthy"], pool["states"]["active"]) == (1, 1, 40)
    assert dialled(await session(api)) == {X[1]}, "the first is passed over"


async def test_a_dry_run_adds_nothing_and_says_what_would_be(api: Client, stranger: Client, numbers: list[str]) -> None:
    await api.patch(f"{NUMBERS}/{X[1]}", {"state": "retired"})
    block = [{"phone_number": "+842471000100-+842471000101"}, {"phone_number": X[0]}, {"phone_number": X[1]}]
    answer = await api.post(NUMBERS, {"phone_numbers": block, "dry_run": True})
    assert answer.status_code == 200
    assert [one["found"] for one in answer.json()["data"]] == ["new", "new", "here", "retired"]
    assert (await api.get(f"{NUMBERS}/+842471000100")).status_code == 404
    assert (await api.get(f"{NUMBERS}/{X[1]}")).json()["state"] == "retired"
    wrong = [
        {"phone_number": "12"},
        {"phone_number": "+842471000100", "trunk": "nowhere"},
        {"phone_number": "+99912345"},
    ]
    found = problem(await api.post(NUMBERS, {"phone_numbers": wrong, "dry_run": True}), 422, "invalid_phone_number")
    assert [error["field"] for error in found["errors"]] == [
        "phone_numbers[0].phone_number", "phone_numbers[1].trunk", "phone_numbers[2].phone_number",
    ]  # fmt: skip
    problem(await stranger.post(NUMBERS, {"phone_numbers": block, "dry_run": True}), 409, "phone_number_taken")
