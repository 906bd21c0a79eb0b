"""Services and their virtual numbers over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, X

NUMBERS = "/v1/services/default/phone_numbers"


def batch(*numbers: str, trunk: str | None = "carrier-vn") -> dict[str, object]:
    return {"phone_numbers": [{"phone_number": number, "trunk": trunk} for number in numbers]}


async def test_default_is_there_from_the_start_and_records(api: Client) -> None:
    (default,) = (await api.get("/v1/services")).json()["data"]
    assert (default["unique_name"], default["record"], default["ttl"]) == ("default", "always", 3600)
    assert (await api.get("/v1/services/default")).json() == default
    assert (await api.get(f"/v1/services/{default['id']}")).json() == default


async def test_other_services_start_without_recording(api: Client) -> None:
    answer = await api.post("/v1/services", {"unique_name": "hanoi", "ttl": 600})
    assert answer.status_code == 201
    assert (answer.json()["record"], answer.json()["ttl"]) == ("never", 600)
    assert (await api.post("/v1/services")).status_code == 201


async def test_a_service_is_changed_by_id_or_name(api: Client) -> None:
    service = (await api.post("/v1/services", {"unique_name": "hanoi"})).json()
    assert (await api.patch("/v1/services/hanoi", {"record": "always"})).json()["record"] == "always"
    assert (await api.patch(f"/v1/services/{service['id']}", {"ttl": 60})).json()["record"] == "always"


async def test_a_services_name_is_its_own(api: Client) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi"})
    problem(await api.post("/v1/services", {"unique_name": "hanoi"}), 409, "unique_name_conflict")
    await api.post("/v1/services", {"unique_name": "hue"})
    problem(await api.patch("/v1/services/hue", {"unique_name": "hanoi"}), 409, "unique_name_conflict")


async def test_a_services_fields_are_checked(api: Client) -> None:
    problem(await api.post("/v1/services", {"ttl": 5}), 422, "invalid_request")
    problem(await api.post("/v1/services", {"consent_policy": "one_party"}), 422, "invalid_request")
    found = problem(
        await api.post("/v1/services", {"consent_policy": {"places": {"US-TX": "beep"}}}), 422, "invalid_request"
    )
    assert found["errors"][0]["field"] == "consent_policy.places.US-TX" and "US-CA" not in found["errors"][0]["problem"]
    problem(await api.post("/v1/services", {"unique_nam": "x"}), 422, "unknown_field")
    problem(await api.post("/v1/services", {"unique_name": CUSTOMER}), 422, "contains_phone_number")
    problem(await api.patch("/v1/services/default", {"friendly_name": CUSTOMER}), 422, "contains_phone_number")
    problem(await api.get("/v1/services/nowhere"), 404, "not_found")
    problem(await api.patch("/v1/services/nowhere", {}), 404, "not_found")


async def test_tenants_have_services_of_their_own(api: Client, stranger: Client) -> None:
    ours = (await api.post("/v1/services", {"unique_name": "hanoi"})).json()
    for name in ("hanoi", ours["id"]):
        problem(await stranger.get(f"/v1/services/{name}"), 404, "not_found")
        problem(await stranger.patch(f"/v1/services/{name}", {"ttl": 60}), 404, "not_found")
        problem(await stranger.get(f"/v1/services/{name}/phone_numbers"), 404, "not_found")
        problem(await stranger.post(f"/v1/services/{name}/phone_numbers", batch(X[0])), 404, "not_found")
    assert [row["unique_name"] for row in (await stranger.get("/v1/services")).json()["data"]] == ["default"]
    assert (await stranger.post("/v1/services", {"unique_name": "hanoi"})).status_code == 201


async def test_numbers_are_added_and_found(api: Client) -> None:
    added = await api.post(NUMBERS, batch(X[0], X[1]))
    assert added.status_code == 201
    first, second = added.json()["data"]
    assert (first["phone_number"], first["country"], first["trunk"], first["state"]) == (
        X[0],
        "VN",
        "carrier-vn",
        "active",
    )
    for name in (first["id"], X[0], "%2B" + X[0][1:]):
        assert (await api.get(f"{NUMBERS}/{name}")).json() == first
    assert (await api.get(NUMBERS)).json() == {"data": [first, second], "next": None}


async def test_a_number_already_here_is_no_error(api: Client) -> None:
    first = (await api.post(NUMBERS, batch(X[0]))).json()
    again = await api.post(NUMBERS, batch(X[0], X[1]))
    assert again.status_code == 201
    assert again.json()["data"][0] == first["data"][0]


async def test_a_number_held_elsewhere_is_taken_and_nothing_is_added(api: Client, stranger: Client) -> None:
    await stranger.post(NUMBERS, batch(X[1]))
    found = problem(await api.post(NUMBERS, batch(X[0], X[1])), 409, "phone_number_taken")
    assert [error["field"] for error in found["errors"]] == ["phone_numbers[1].phone_number"]
    assert (await api.get(NUMBERS)).json()["data"] == []
    await api.post("/v1/services", {"unique_name": "hanoi"})
    await api.post(NUMBERS, batch(X[2]))
    problem(await api.post("/v1/services/hanoi/phone_numbers", batch(X[2])), 409, "phone_number_taken")


async def test_of_two_tenants_racing_for_a_number_one_has_it(api: Client, stranger: Client) -> None:
    answers = await asyncio.gather(*(client.post(NUMBERS, batch(*X[:10])) for client in (api, stranger)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_an_unknown_trunk_is_named(api: Client) -> None:
    body = {"phone_numbers": [{"phone_number": X[0]}, {"phone_number": X[1], "trunk": "nowhere"}]}
    found = problem(await api.post(NUMBERS, body), 422, "unknown_trunk")
    assert found["errors"][0]["field"] == "phone_numbers[1].trunk"
    assert "carrier-vn" in found["errors"][0]["expected"]
    assert (await api.get(NUMBERS)).json()["data"] == []


@pytest.mark.parametrize(
    "number", ["", "02471000001", "+84", "+999999999999", "+84 24 7100 0001", "x", "+8424710000011111"]
)
async def test_what_is_no_number_is_refused(api: Client, number: str) -> None:
    found = problem(await api.post(NUMBERS, batch(X[0], number)), 422, "invalid_phone_number")
    assert found["errors"][0]["field"] == "phone_numbers[1].phone_number"
    assert (await api.get(NUMBERS)).json()["data"] == []


async def test_an_empty_or_endless_batch_is_refused(api: Client) -> None:
    problem(await api.post(NUMBERS, {"phone_numbers": []}), 422, "invalid_request")
    problem(await api.post(NUMBERS, batch(*["+842471000001"] * 1001)), 422, "invalid_request")


async def test_a_number_changes_its_state_by_id_or_as_itself(api: Client) -> None:
    added = (await api.post(NUMBERS, batch(X[0], trunk=None))).json()["data"][0]
    assert added["trunk"] is None
    for name, state in ((X[0], "draining"), (added["id"], "suspended"), ("%2B" + X[0][1:], "active")):
        changed = await api.patch(f"{NUMBERS}/{name}", {"state": state})
        assert (changed.status_code, changed.json()["state"]) == (200, state)
    problem(await api.patch(f"{NUMBERS}/{X[0]}", {"state": "asleep"}), 422, "invalid_request")


async def test_a_number_of_another_service_or_tenant_is_not_found(api: Client, stranger: Client) -> None:
    await api.post("/v1/services", {"unique_name": "hanoi"})
    await api.post(NUMBERS, batch(X[0]))
    for client, path in ((api, "/v1/services/hanoi/phone_numbers"), (stranger, NUMBERS), (api, NUMBERS)):
        for name in (X[0], "num_" + X[0][1:]) if (client, path) != (api, NUMBERS) else (X[1], "num_x", CUSTOMER):
            answer = await client.get(f"{path}/{name}")
            problem(answer, 404, "not_found")
            assert "901234567" not in answer.text
            problem(await client.patch(f"{path}/{name}", {"state": "retired"}), 404, "not_found")
    assert (await api.get(f"{NUMBERS}/{X[0]}")).json()["state"] == "active"


async def test_a_block_is_added_and_changed_as_one(api: Client) -> None:
    answer = await api.post(NUMBERS, batch("+842471000000-+842471000019", "+842471000500"))
    assert answer.status_code == 201
    added = [number["phone_number"] for number in answer.json()["data"]]
    assert added == [f"+8424710000{place:02}" for place in range(20)] + ["+842471000500"]
    change = {"phone_numbers": ["+842471000000-+842471000004", "+842471000004", "+842471000500"], "state": "suspended"}
    changed = (await api.patch(NUMBERS, change)).json()["data"]
    assert [one["phone_number"] for one in changed] == [*added[:5], "+842471000500"]
    listed = (await api.get(NUMBERS)).json()["data"]
    assert [one["phone_number"] for one in listed if one["state"] == "suspended"] == [*added[:5], "+842471000500"]


async def test_a_block_with_a_number_that_is_not_here_changes_nothing(api: Client, stranger: Client) -> None:
    await api.post(NUMBERS, batch("+842471000000-+842471000003"))
    await stranger.post(NUMBERS, batch("+842471000004"))
    change = {"phone_numbers": ["+842471000002", "+842471000000-+842471000004"], "state": "retired"}
    told = problem(await api.patch(NUMBERS, change), 422, "invalid_phone_number")
    assert told["errors"][0]["field"] == "phone_numbers[1]"
    assert {one["state"] for one in (await api.get(NUMBERS)).json()["data"]} == {"active"}
    taken = problem(await api.post(NUMBERS, batch("+842471000003-+842471000005")), 409, "phone_number_taken")
    assert [error["field"] for error in taken["errors"]] == ["phone_numbers[0].phone_number"]


@pytest.mark.parametrize(
    "block",
    [
        "+842471000009-+842471000000",
        "+842471000000-",
        "-+842471000000",
        "+84247100000-+842471000009",
        "+8424-+8425",
        "1-2",
    ],
)
async def test_a_block_that_is_none_is_refused(api: Client, block: str) -> None:
    problem(await api.post(NUMBERS, batch(block)), 422, "invalid_phone_number")
    problem(await api.patch(NUMBERS, {"phone_numbers": [block], "state": "active"}), 422, "invalid_phone_number")


async def test_a_request_carries_a_thousand_numbers_at_most(api: Client) -> None:
    problem(await api.post(NUMBERS, batch("+842471000000-+842471001000")), 422, "invalid_request")
    problem(await api.post(NUMBERS, batch("+842471000000-+842479999999")), 422, "invalid_phone_number")


async def test_a_service_asks_its_app_at_a_url_with_a_secret_told_once(api: Client) -> None:
    wish = {"intercept_url": "https://app.example.com/calls", "intercept_on_error": "deny", "intercept_timeout_ms": 900}
    assert wish.items() <= (await api.patch("/v1/services/default", wish)).json().items()
    first = (await api.post("/v1/services/default:rotate_secret")).json()
    second = (await api.post("/v1/services/default:rotate_secret")).json()
    assert first["secret"].startswith("whsec_") and first["secret"] != second["secret"]
    service = (await api.get("/v1/services/default")).json()
    assert service["webhook_secrets"] == 2 and first["secret"] not in str(service)
    number = f"https://app.example.com/{CUSTOMER}"
    for url in ("https://127.0.0.1/", "http://app.example.com/", number, "nonsense"):
        code = "contains_phone_number" if url == number else "invalid_request"
        refused = problem(await api.patch("/v1/services/default", {"intercept_url": url}), 422, code)
        assert refused["errors"][0]["field"] == "intercept_url"
    problem(await api.patch("/v1/services/default", {"intercept_timeout_ms": 6000}), 422, "invalid_request")
    problem(await api.post("/v1/services/nowhere:rotate_secret"), 404, "not_found")
    assert (await api.patch("/v1/services/default", {"intercept_url": None})).json()["intercept_url"] is None


async def test_a_person_has_one_handle_within_a_tenant(api: Client, stranger: Client) -> None:
    asked = {"identifier": CUSTOMER}
    mine = (await api.post("/v1/callers:lookup", asked)).json()["caller"]
    assert mine.startswith("clr_") and (await api.post("/v1/callers:lookup", asked)).json()["caller"] == mine
    assert (await stranger.post("/v1/callers:lookup", asked)).json()["caller"] != mine
    problem(await api.post("/v1/callers:lookup", {"identifier": "113"}), 422, "invalid_phone_number")


async def test_a_session_speaks_its_services_words_and_its_own(api: Client, numbers: list[str]) -> None:
    words = {"trip_ended": "not_allowed", "callee_busy": None}
    changed = await api.patch("/v1/services/default", {"announcements": words})
    assert changed.json()["announcements"] == words
    people = [{"identifier": "+84901234567"}, {"identifier": "+84907654321"}]
    own = {"callee_busy": "no_answer"}
    session = (await api.post("/v1/sessions", {"participants": people, "announcements": own})).json()
    assert session["announcements"] == words | own
    assert (await api.get(f"/v1/sessions/{session['id']}")).json()["announcements"] == words | own
    for wrong in ({"press_key": None}, {"no_answer": "nowhere"}):
        assert (await api.patch("/v1/services/default", {"announcements": wrong})).status_code == 422
