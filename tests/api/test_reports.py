"""Reports over HTTP."""

from __future__ import annotations

from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER
from tests.api.test_searches import opened


async def test_a_report_is_answered_with_what_it_did(api: Client, stranger: Client, numbers: list[str]) -> None:
    session = await opened(api, CUSTOMER, DRIVER)
    first, second = (one["id"] for one in (await api.get(f"/v1/sessions/{session}")).json()["participants"])
    body = {"session": session, "reported_by": first, "about": second, "reason": "threats"}
    made = (await api.post("/v1/reports", body)).json()
    (block,) = (await api.get("/v1/blocks")).json()["data"]
    assert (made["block"], made["recordings"]) == (block["id"], [])
    problem(await stranger.post("/v1/reports", body), 404, "not_found")
    found = problem(await api.post("/v1/reports", body | {"about": "par_x"}), 422, "invalid_request")
    assert found["errors"][0]["field"] == "about"
