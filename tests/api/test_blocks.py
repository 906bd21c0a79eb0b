"""Blocks over HTTP: made, listed, taken back, and nobody else's."""

from __future__ import annotations

from tests.api.client import Client, problem
from tests.api.conftest import DRIVER


async def test_a_block_is_made_listed_and_taken_back(api: Client, stranger: Client) -> None:
    body = {"scope": "number", "who": {"identifier": DRIVER}, "reason": "threats"}
    answer = await api.post("/v1/blocks", body)
    made = answer.json()
    assert answer.status_code == 201 and made["who"] == "+8490…21" and DRIVER[1:] not in answer.text
    assert (await api.get("/v1/blocks")).json() == {"data": [made], "next": None}
    assert (await stranger.get("/v1/blocks")).json()["data"] == []
    path = f"/v1/blocks/{made['id']}"
    problem(await stranger("DELETE", path), 404, "not_found")
    assert (await api("DELETE", path)).status_code == 204
    problem(await api("DELETE", path), 404, "not_found")


async def test_a_block_of_nobody_names_the_field(api: Client) -> None:
    found = problem(
        await api.post("/v1/blocks", {"scope": "number", "who": {}, "reason": "threats"}), 422, "invalid_request"
    )
    assert found["errors"][0]["field"] == "who"
    problem(await api.post("/v1/blocks", {"scope": "number", "who": {"identifier": DRIVER}}), 422, "invalid_request")
