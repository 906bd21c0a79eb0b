"""Swapping a person and replacing a number over HTTP, and what the archive makes of it."""

from __future__ import annotations

from masking.courier.outbox import Outbox
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, THIRD
from tests.api.test_searches import carry, courier, ids, opened  # noqa: F401 (a fixture)


async def test_a_swap_is_answered_told_and_found_by_person(
    api: Client,
    numbers: list[str],
    courier: Outbox,  # noqa: F811
) -> None:
    session = await opened(api, CUSTOMER, DRIVER)
    before = (await api.get(f"/v1/sessions/{session}")).json()
    body = {"participant": before["participants"][1]["id"], "replacement": {"identifier": THIRD, "role": "driver"}}
    answer = await api.post(f"/v1/sessions/{session}:swap_participant", body)
    after = answer.json()
    assert after["participants"][0]["proxies"][0]["number"] == before["participants"][0]["proxies"][0]["number"]
    assert after["participants"][1]["role"] == "driver" and THIRD[1:] not in answer.text
    await carry(courier)
    for person in (CUSTOMER, DRIVER, THIRD):
        assert await ids(api, {"participant": person, "reason": "rider reported a threat"}) == [session]


async def test_what_cannot_be_amended_names_the_field(api: Client, stranger: Client, numbers: list[str]) -> None:
    session = await opened(api, CUSTOMER, DRIVER)
    path = f"/v1/sessions/{session}"
    person = (await api.get(path)).json()["participants"][1]["id"]
    swap = {"participant": person, "replacement": {"identifier": "driver"}}
    found = problem(await api.post(f"{path}:swap_participant", swap), 422, "invalid_phone_number")
    assert found["errors"][0]["field"] == "replacement.identifier"
    swap["replacement"] = {"identifier": THIRD}
    problem(await api.post(f"{path}:swap_participant", swap | {"participant": "par_x"}), 422, "invalid_request")
    problem(await stranger.post(f"{path}:swap_participant", swap), 404, "not_found")
    problem(await api.post(f"{path}:replace_number", {"number": CUSTOMER}), 422, "invalid_request")
    assert (await api.post(f"{path}:close")).status_code == 200
    problem(await api.post(f"{path}:swap_participant", swap), 409, "session_closed")
