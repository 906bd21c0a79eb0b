"""Many sessions in one request: each answers for itself."""

from __future__ import annotations

from masking.api import batches
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD

PEOPLE = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]


async def test_each_session_of_a_batch_answers_for_itself(api: Client, numbers: list[str]) -> None:
    wishes = [
        {"participants": PEOPLE, "unique_name": "order-1"},
        {"participants": [{"identifier": CUSTOMER}, {"identifier": "113"}]},
        {"participants": PEOPLE, "unique_name": f"call {CUSTOMER}"},
        {"participants": PEOPLE, "colour": "red"},
        {"participants": PEOPLE, "recording_notice": None},
        {"participants": [{"identifier": CUSTOMER}, {"identifier": THIRD}], "service": "nobody's"},
        {"participants": PEOPLE, "unique_name": "order-2"},
    ]
    answer = await api.post("/v1/sessions:batch", {"sessions": wishes})
    items = answer.json()["data"]
    assert [item["status"] for item in items] == [201, 422, 422, 422, 422, 404, 201]
    codes = [item["problem"]["code"] for item in items if item["problem"]]
    assert codes == ["invalid_phone_number", "contains_phone_number", "unknown_field", "invalid_request", "not_found"]
    assert items[0]["session"]["unique_name"] == "order-1" and items[0]["problem"] is None
    assert CUSTOMER[1:] not in answer.text and DRIVER[1:] not in answer.text


async def test_a_batch_asked_twice_opens_its_sessions_once(api: Client, numbers: list[str]) -> None:
    wishes = {"sessions": [{"participants": PEOPLE}, {"participants": PEOPLE}]}
    headers = {"Idempotency-Key": "batch-1"}
    first = await api.post("/v1/sessions:batch", wishes, headers=headers)
    assert (await api.post("/v1/sessions:batch", wishes, headers=headers)).json() == first.json()
    ids = {item["session"]["id"] for item in first.json()["data"]}
    listed = (await api.get("/v1/sessions")).json()["data"]
    assert {one["id"] for one in listed} == ids and len(ids) == 2


async def test_a_name_that_stands_twice_in_a_batch_is_one_session(api: Client, numbers: list[str]) -> None:
    wish = {"participants": PEOPLE, "unique_name": "order-1"}
    items = (await api.post("/v1/sessions:batch", {"sessions": [wish, wish]})).json()["data"]
    assert sorted(item["status"] for item in items) == [200, 201]
    assert items[0]["session"]["id"] == items[1]["session"]["id"]


async def test_a_batch_has_one_to_a_hundred_sessions(api: Client, numbers: list[str]) -> None:
    problem(await api.post("/v1/sessions:batch", {"sessions": []}), 422, "invalid_request")
    problem(await api.post("/v1/sessions:batch", {"sessions": [{}] * 101}), 422, "invalid_request")
    full = (await api.post("/v1/sessions:batch", {"sessions": [{"participants": PEOPLE}] * 100})).json()["data"]
    kinds = {(item["status"], item["problem"]["code"] if item["problem"] else None) for item in full}
    assert kinds == {(201, None), (409, "number_pool_exhausted")} and batches.AT_ONCE < 100
