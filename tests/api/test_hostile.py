"""Whatever is sent, the answer is one of the document's and never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from masking.api.routes import TABLE
from tests.api.client import Client
from tests.api.conftest import CUSTOMER, DRIVER

PEOPLE = [{"identifier": CUSTOMER}, {"identifier": DRIVER}]
FIELDS = [
    "service", "unique_name", "participants", "ttl", "expires_at", "mode", "direction", "stages", "number_model",
    "geo_match", "pair_quarantine", "record", "pin", "metadata", "identifier", "identifiers", "role", "language",
    "phone_numbers", "phone_number", "trunk", "state", "friendly_name",
]  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([CUSTOMER, "0901234567", "112", "always", "default", "2026-11-22T00:00:00Z", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=9), inner),
    max_leaves=12,
)
WRITES = sorted(
    {(row.method, row.path) for row in TABLE if row.method != "GET" and row.handler is not None},
)
AGAIN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = {"Content-Type": "application/json"}


async def send(api: Client, method: str, path: str, raw: bytes) -> None:
    answer = await api(method, path, content=raw, headers=JSON)
    assert answer.status_code < 500, answer.text
    assert "901234567" not in answer.text


@pytest.mark.usefixtures("numbers")
@AGAIN
@given(row=st.sampled_from(WRITES), body=VALUES, name=st.sampled_from(["default", "ses_x", "x" * 300, "+842471000001"]))
async def test_any_json_at_any_write(api: Client, row: tuple[str, str], body: Any, name: str) -> None:
    method, path = row
    for parameter in ("service", "session", "number", "recording"):
        path = path.replace("{" + parameter + "}", name)
    await send(api, method, path, json.dumps(body, allow_nan=True).encode())


@pytest.mark.usefixtures("numbers")
@AGAIN
@given(field=st.sampled_from(FIELDS), value=VALUES)
async def test_any_value_in_any_field_of_a_session(api: Client, field: str, value: Any) -> None:
    await send(api, "POST", "/v1/sessions", json.dumps({"participants": PEOPLE, field: value}).encode())
    people = [{"identifier": CUSTOMER, field: value}, {"identifier": DRIVER}]
    await send(api, "POST", "/v1/sessions", json.dumps({"participants": people}).encode())


@AGAIN
@given(raw=st.binary(max_size=200))
async def test_any_bytes_as_a_body(api: Client, raw: bytes) -> None:
    await send(api, "POST", "/v1/sessions", raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"stages":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"metadata":{' + b",".join(b'"%d":"v"' % n for n in range(50_000)) + b"}}",
        b'{"ttl":' + b"9" * 100_000 + b"}",
        b'{"ttl":-' + b"9" * 5000 + b',"participants":[{},{}]}',
        b'{"ttl":1e999999999}',
        b'{"unique_name":"' + b"\\u0041" * 100_000 + b'"}',
        b'{"unique_name":"\\u0000","participants":[]}',
        b'{"unique_name":"\xed\xa0\x80"}',
        b'{"participants":[],"participants":[],"participants":7}',
        b'{"unique_name":"a","unique_name":"b"}',
        b"\xef\xbb\xbf{}",
        b"\x00" * 1000,
        b"null",
        b"true",
        b'""',
        b"NaN",
    ],
    ids=lambda raw: repr(raw[:24]),
)
async def test_bodies_made_to_hurt(api: Client, raw: bytes) -> None:
    for method, path in WRITES:
        await send(api, method, path.replace("{", "").replace("}", ""), raw)


@AGAIN
@given(
    row=st.sampled_from(
        [row.path for row in TABLE if row.method == "GET" and row.handler is not None and not row.endless]
    ),
    query=st.dictionaries(
        st.sampled_from(["limit", "cursor", "number", "unique_name", "status", "session", "from", "to", "format", "x"]),
        st.text(max_size=20)
        | st.sampled_from(["2026-11-22T00:00:00Z", "0001-01-01T00:00:00+14:00", "cAAAA", CUSTOMER]),
        max_size=3,
    ),
)
async def test_any_query_at_any_read(api: Client, row: str, query: dict[str, str]) -> None:
    try:
        "".join(query.values()).encode()
    except UnicodeEncodeError:
        return
    answer = await api.get(row.replace("{", "").replace("}", ""), params=query, headers={"X-Reason": "why"})
    assert answer.status_code < 500, answer.text


@AGAIN
@given(raw=st.binary(max_size=60))
async def test_any_bytes_as_a_query(api: Client, raw: bytes) -> None:
    answer = await api.get("/v1/recordings?" + "".join(f"%{byte:02x}" for byte in raw))
    assert answer.status_code in (200, 400)


@AGAIN
@given(
    name=st.sampled_from(["X-Reason", "Range", "If-Range", "Idempotency-Key", "Authorization", "Content-Type"]),
    value=st.binary(max_size=40),
)
async def test_any_bytes_in_a_header(api: Client, name: str, value: bytes) -> None:
    for method, path in (("GET", "/v1/recordings/rec_x/media"), ("POST", "/v1/services")):
        answer = await api(method, path, headers={name: value}, content=b"{}" if method == "POST" else None)
        assert answer.status_code < 500, answer.text
