"""Every mistake has its problem: a stable code, the field, what was wrong and what would be right."""

from __future__ import annotations

from typing import Any

import pytest

from masking.house import House
from tests.api.client import Client, problem
from tests.api.conftest import CUSTOMER, DRIVER, key_of


async def test_without_a_key_nothing_is_answered(nobody: Client) -> None:
    answer = await nobody.get("/v1/sessions")
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer nonsense", "Basic QUM6a2V5", "Bearer key_x.y", "Bearer \xe9\xff"]
)
async def test_a_key_that_is_none_is_refused(nobody: Client, header: str) -> None:
    answer = await nobody.get("/v1/sessions", headers={"Authorization": header.encode("latin-1")})
    problem(answer, 401, "unauthenticated")


async def test_a_key_without_the_scope_is_refused(house: House, transport: Any) -> None:
    numbers_only = Client(transport, await key_of(house, "acme", "numbers"))
    found = problem(await numbers_only.get("/v1/sessions"), 403, "insufficient_scope")
    assert "sessions" in found["detail"]


async def test_a_path_that_is_none_is_a_problem(api: Client) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/sessions/", "/v1/sessions/a/b/c", f"/v1/{CUSTOMER}"):
        found = problem(await api.get(path), 404, "not_found")
        assert CUSTOMER not in str(found)


async def test_a_method_that_is_not_served_names_those_that_are(api: Client) -> None:
    for path, allow in {
        "/v1/sessions": "GET, HEAD, POST",
        "/v1/sessions/ses_x": "GET, HEAD, PATCH",
        "/v1/sessions/ses_x:close": "POST",
        "/healthz": "GET, HEAD",
    }.items():
        answer = await api("DELETE", path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allow


async def test_a_body_that_is_no_json_is_400(api: Client) -> None:
    for raw in (b"{", b"", b"\xff\xfe", b'{"unique_name":"\\ud800"}', b"\xef\xbb\xbf{}", b'{"participants":[', b"nul"):
        answer = await api("POST", "/v1/sessions", content=raw, headers={"Content-Type": "application/json"})
        problem(answer, 400, "malformed_request")


async def test_another_content_type_is_415(api: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"):
        answer = await api("POST", "/v1/sessions", content=b"{}", headers={"Content-Type": kind})
        problem(answer, 415, "unsupported_media_type")


async def test_json_may_say_its_charset(api: Client) -> None:
    kind = 'application/json; charset="UTF-8"'
    answer = await api("POST", "/v1/sessions", content=b"{}", headers={"Content-Type": kind})
    problem(answer, 422, "invalid_request")


async def test_a_body_over_its_bound_is_413(api: Client) -> None:
    answer = await api.post("/v1/sessions", {"unique_name": "x" * (1 << 20)})
    problem(answer, 413, "body_too_large")


async def test_a_body_in_chunks_is_bounded_too(api: Client) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65536

    answer = await api("POST", "/v1/sessions", content=endless(), headers={"Content-Type": "application/json"})
    problem(answer, 413, "body_too_large")


async def test_a_field_that_is_not_known_is_named_with_its_nearest(api: Client) -> None:
    body = {"participants": [{"identifier": CUSTOMER, "rol": "customer"}, {"identifier": DRIVER}]}
    found = problem(await api.post("/v1/sessions", body), 422, "unknown_field")
    assert found["errors"] == [{"field": "participants[0].rol", "problem": "is not known", "expected": "role"}]


async def test_a_field_of_the_wrong_kind_says_what_would_be_right(api: Client) -> None:
    found = problem(await api.post("/v1/sessions", {"participants": [{"identifier": 7}, {}]}), 422, "invalid_request")
    (error,) = found["errors"]
    assert error["field"] == "participants[0].identifier"
    assert error["problem"] == "is an integer"
    assert error["expected"].startswith("a string")


async def test_a_missing_field_is_named(api: Client) -> None:
    found = problem(await api.post("/v1/sessions", {}), 422, "invalid_request")
    assert found["errors"][0]["field"] == "participants"
    assert found["errors"][0]["problem"] == "is missing"


async def test_an_error_never_repeats_a_number(api: Client) -> None:
    bodies: list[dict[str, Any]] = [
        {CUSTOMER: 1},
        {"record": CUSTOMER, "participants": []},
        {"participants": [{"identifier": CUSTOMER, DRIVER: 1}]},
        {"participants": [{"identifier": CUSTOMER, "role": 7}]},
        {"participants": CUSTOMER},
        {"metadata": {CUSTOMER: 7}, "participants": []},
        {"expires_at": CUSTOMER, "participants": []},
    ]
    for body in bodies:
        answer = await api.post("/v1/sessions", body)
        assert answer.status_code == 422
        for spelled in (CUSTOMER, DRIVER, CUSTOMER[1:], DRIVER[1:], "0901234567"):
            assert spelled not in answer.text


async def test_a_parameter_that_cannot_be_used_is_400(api: Client) -> None:
    for query, field in {
        "limit=0": "limit",
        "limit=501": "limit",
        "limit=ten": "limit",
        "limit=1.5": "limit",
        "status=opened": "status",
        "colour=red": "colour",
    }.items():
        found = problem(await api.get(f"/v1/sessions?{query}"), 400, "invalid_parameter")
        assert found["errors"][0]["field"] == field
    problem(await api.get("/v1/sessions?limit=5&limit=6"), 400, "invalid_parameter")
    problem(await api.get("/v1/sessions?status=%00"), 400, "invalid_parameter")
    problem(await api.get("/v1/sessions?status=%ff"), 400, "malformed_request")


async def test_a_persons_number_in_the_query_is_400(api: Client, numbers: list[str]) -> None:
    for spelled in ("%2B84901234567", "+84901234567", "84901234567", "0901234567", "0084901234567", "+84 90 123 45 67"):
        for name in ("number", "unique_name", "status", "cursor", "nonsense"):
            answer = await api.get(f"/v1/sessions?{name}={spelled}")
            problem(answer, 400, "identifier_in_query")
            assert "901234567" not in answer.text


async def test_a_virtual_number_of_another_tenant_is_as_unknown_as_any(
    api: Client, stranger: Client, numbers: list[str]
) -> None:
    theirs = await stranger.get("/v1/sessions", params={"number": numbers[0]})
    nobodys = await stranger.get("/v1/sessions", params={"number": "+842479999999"})
    assert theirs.json() == nobodys.json()
    problem(theirs, 400, "identifier_in_query")


async def test_what_is_not_built_yet_says_so(api: Client, nobody: Client) -> None:
    problem(await api("POST", "/v1/sessions/ses_x:message"), 501, "not_implemented")
    problem(await nobody("POST", "/v1/sessions/ses_x:message"), 401, "unauthenticated")
