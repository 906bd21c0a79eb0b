"""`POST /v1/route:explain` over HTTP."""

from __future__ import annotations

from masking.house import House
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, X, key_of

EXPLAIN = "/v1/route:explain"


async def test_a_call_is_explained_without_any_persons_number(
    api: Client, stranger: Client, numbers: list[str]
) -> None:
    people = [{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}]
    session = (await api.post("/v1/sessions", {"participants": people})).json()
    called = session["participants"][0]["proxies"][0]["number"]
    for _ in range(3):  # nothing is claimed: the only slot stays free
        answer = await api.post(EXPLAIN, {"from": CUSTOMER, "to": called})
        assert CUSTOMER[3:] not in answer.text and DRIVER[3:] not in answer.text
        told = answer.json()
        assert (told["decision"], told["session"], told["dialled"]) == ("routed", session["id"], called)
        assert told["sees"] == {"number": called, "country": "VN", "trunk": "carrier-vn"}
    assert (await api.get(f"/v1/sessions/{session['id']}/interactions")).json()["data"] == []
    for caller, target in ((CUSTOMER, called), (CUSTOMER, "+842471999999")):
        theirs = (await stranger.post(EXPLAIN, {"from": caller, "to": target})).json()
        assert (theirs["decision"], theirs["dialled"], theirs["session"]) == ("no_binding", None, None)
        assert [step["found"] for step in theirs["steps"]] == ["carrier-vn", "read", "unknown"]


async def test_a_past_moment_before_every_session_met_nobody(api: Client, numbers: list[str]) -> None:
    asked = {"from": CUSTOMER, "to": X[0], "at": "2020-01-01T00:00:00Z"}
    told = (await api.post(EXPLAIN, asked)).json()
    assert (told["decision"], told["session"], told["at"]) == ("no_binding", None, "2020-01-01T00:00:00Z")


async def test_a_question_that_makes_no_sense_is_refused(api: Client, nobody: Client, house: House) -> None:
    problem(await api.post(EXPLAIN, {"from": None, "to": ""}), 422, "invalid_request")
    problem(await api.post(EXPLAIN, {"to": X[0]}), 422, "invalid_request")
    problem(await api.post(EXPLAIN, {"from": None, "to": X[0], "trunk": "none"}), 422, "invalid_request")
    problem(await api.post(EXPLAIN, {"from": None, "to": X[0], "at": "2020-01-01T00:00:00"}), 422, "invalid_request")
    problem(await nobody.post(EXPLAIN, {"from": None, "to": X[0]}), 401, "unauthenticated")
    reader = Client(api.http._transport, await key_of(house, "acme", "numbers"))
    problem(await reader.post(EXPLAIN, {"from": None, "to": X[0]}), 403, "insufficient_scope")
