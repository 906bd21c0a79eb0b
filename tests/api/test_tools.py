"""What operators and machines ask."""

from __future__ import annotations

import re

import httpx2
import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from masking import archive, services
from masking.api.app import App
from masking.api.desk import Desk
from masking.api.openapi import codes_of
from masking.api.problems import CODES
from masking.api.routes import TABLE
from masking.house import House
from pools.redis import Unavailable
from tests.api.client import DOCUMENT, Client, problem, untruths
from tests.api.conftest import CUSTOMER, key_of


async def test_a_process_that_serves_is_alive_and_ready(nobody: Client) -> None:
    assert (await nobody.get("/healthz")).json() == {"status": "alive"}
    assert (await nobody.get("/readyz")).json() == {"status": "ready", "redis": "ok", "archive": "ok"}


async def test_a_draining_process_is_not_ready(nobody: Client, desk: Desk) -> None:
    desk.draining = True
    answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")


async def test_without_redis_or_archive_it_is_not_ready(
    nobody: Client, desk: Desk, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(type(house.redis), "command", gone)
    answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "not_ready", "redis": "gone", "archive": "ok"})
    assert (await nobody.get("/healthz")).status_code == 200


async def test_metrics_need_no_key_on_loopback_only(nobody: Client, desk: Desk, house: House) -> None:
    assert (await nobody.get("/metrics")).status_code == 200
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        problem(await nobody.get("/metrics", headers={name: "127.0.0.1"}), 401, "unauthenticated")
    far = httpx2.ASGITransport(App(desk), client=("192.0.2.1", 1234))
    problem(await Client(far, None).get("/metrics"), 401, "unauthenticated")
    problem(await Client(far, "nonsense").get("/metrics"), 401, "unauthenticated")
    problem(await Client(far, await key_of(house, "acme", "sessions")).get("/metrics"), 403, "insufficient_scope")
    assert (await Client(far, await key_of(house, "acme", "admin")).get("/metrics")).status_code == 200


async def test_metrics_count_routes_never_values(api: Client, nobody: Client) -> None:
    await api.get(f"/v1/sessions/{CUSTOMER}")
    await api.get(f"/{CUSTOMER}")
    await api(f"X{CUSTOMER[1:]}", f"/v1/interactions/{CUSTOMER}")
    text = (await nobody.get("/metrics")).text
    assert "901234567" not in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    routes = {sample.labels["route"] for sample in families["masking_http_requests"].samples}
    assert routes == {"/v1/sessions/{session}", "", "/v1/interactions/{interaction}"}


async def test_the_log_has_routes_never_values(api: Client, capsys: pytest.CaptureFixture[str]) -> None:
    await api.get(f"/v1/sessions/{CUSTOMER}?number={CUSTOMER}")
    out = capsys.readouterr().out
    assert "/v1/sessions/{session}" in out
    assert "901234567" not in out


async def test_an_error_of_ours_tells_its_place_never_its_text(
    api: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(f"could not read {CUSTOMER}")

    monkeypatch.setattr(services, "create", broken)
    for headers in ({}, {"Idempotency-Key": "k"}, {"Idempotency-Key": "k"}):
        problem(await api.post("/v1/services", {}, headers=headers), 500, "internal_error")
    out = capsys.readouterr().out
    assert "RuntimeError" in out and "test_tools.py" in out
    assert "901234567" not in out and "Traceback" not in out


async def test_a_gone_archive_is_a_503(api: Client, house: House) -> None:
    assert house.archive is not None
    async with house.archive.begin() as connection:
        await connection.run_sync(archive.metadata.drop_all)
    answer = await api.get("/v1/events")
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/healthz", 418, {"status": "alive"}),
        ("GET", "/healthz", 200, {"status": 7}),
        ("GET", "/healthz", 200, {}),
        ("GET", "/v1/nowhere", 200, {}),
        ("GET", "/v1/sessions", 401, {"code": "unauthenticated"}),
        ("GET", "/v1/services/x", 200, {"id": "svc_x", "created_at": "yesterday", "unique_name": None}),
    ],
)
def test_an_answer_that_is_not_the_documents_is_found_out(
    method: str, path: str, status: int, body: dict[str, object]
) -> None:
    """The judge of all the other tests, judged."""
    request = httpx2.Request(method, "http://masking.test" + path)
    assert list(untruths(httpx2.Response(status, json=body, request=request)))


async def test_the_document_is_valid_openapi_and_served(nobody: Client) -> None:
    served = (await nobody.get("/openapi.json")).json()
    assert served == DOCUMENT
    validate(served)
    assert served["openapi"].startswith("3.1")


def test_every_code_of_a_route_is_in_the_table_of_codes() -> None:
    for operation in TABLE:
        assert set(codes_of(operation)) - {"not_implemented_field"} <= set(CODES)


def test_operations_have_names_of_their_own() -> None:
    names = [op["operationId"] for methods in DOCUMENT["paths"].values() for op in methods.values()]
    assert len(names) == len(set(names))


def test_every_path_parameter_is_described() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


async def test_the_page_for_people_needs_nothing_from_anywhere(nobody: Client) -> None:
    answer = await nobody.get("/docs")
    page = answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert all(link.startswith("#") or link == "/openapi.json" for link in re.findall(r'href="([^"]*)"', page))
    assert not re.search(r"<script|src=|@import|url\(", page)
    for operation in TABLE:
        assert operation.path in page
    for code in CODES:
        assert f'id="{code}"' in page


@pytest.mark.parametrize("operation", TABLE, ids=lambda op: f"{op.method} {op.path}")
async def test_every_route_answers_as_its_document_says(api: Client, nobody: Client, operation: object) -> None:
    """The client itself holds each answer against the document; here every row is asked as nobody would."""
    row = next(op for op in TABLE if op is operation)
    path = re.sub(r"\{\w+\}", "nothing", row.path)
    endless = any(said.media_type == "text/event-stream" for said in row.answers.values())
    for client in (api, nobody):
        if not endless or client is nobody:  # a stream that is granted has no end, and tests of its own
            await client(row.method, path)
        await client(row.method, f"{path}?limit=0&nonsense=1")
        if row.method != "GET":
            await client(row.method, path, content=b"[", headers={"Content-Type": "application/json"})
            await client(row.method, path, content=b"[]", headers={"Content-Type": "application/json"})
            await client(row.method, path, content=b"{}", headers={"Content-Type": "text/plain"})
            await client(row.method, path, content=b'{"nonsense":1}')
