"""What stands beside each call in /openapi.json and /docs, sent as it stands: it asks just that call."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from masking.api import docs, openapi
from masking.api.operations import Operation
from masking.api.routes import TABLE
from masking.api.samples import BODIES, PLACES
from masking.api.validation import body_of
from masking_client import Client, Problem
from masking_client.calls import Calls
from tests.docs.test_readme import requests_of

SERVED = [operation for operation in TABLE if operation.handler is not None]


def asked(operation: Operation) -> tuple[str, str, Any]:
    return operation.method, operation.path.format(**PLACES), BODIES.get(operation.name)


def sources(operation: Operation) -> dict[str, str]:
    document = openapi.document()["paths"][operation.path][operation.method.lower()]
    return {sample["lang"]: sample["source"] for sample in document["x-codeSamples"]}


def test_every_call_that_needs_a_body_has_an_example_and_every_example_is_one() -> None:
    needed = {one.name for one in SERVED if one.body is not None and one.body_required}
    assert needed <= set(BODIES) <= {one.name for one in SERVED}
    for operation in SERVED:
        if operation.name in BODIES:
            body_of(msgspec.json.encode(BODIES[operation.name]), operation.body)


@pytest.mark.parametrize("operation", SERVED, ids=lambda one: one.name)
def test_the_samples_of_a_call_ask_that_call(operation: Operation, tmp_path: Path) -> None:
    ((method, url, headers, body),) = requests_of(sources(operation)["Shell"])
    assert (method, url.removeprefix("$BASE"), body and msgspec.json.decode(body)) == asked(operation)
    assert headers.get("Authorization") == (None if operation.public else "Bearer $KEY")

    heard: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        heard.append(request)
        return httpx2.Response(404)

    with Client("http://masking.test", "k", transport=httpx2.MockTransport(answer)) as client, pytest.raises(Problem):
        exec(sources(operation)["Python"], {"client": client})
    (request,) = heard
    assert (request.method, request.url.path, msgspec.json.decode(request.content or b"{}") or None) == asked(operation)


def test_the_client_has_every_call_of_the_document_and_no_other() -> None:
    served = {one["operationId"] for path in openapi.document()["paths"].values() for one in path.values()
              if "x-not-implemented" not in one}  # fmt: skip
    assert {name for name in vars(Calls) if not name.startswith("_")} == served


def test_the_page_shows_them_all_and_needs_nothing_from_elsewhere() -> None:
    page = docs.page().decode()
    for operation in SERVED:
        assert all(escape(source) in page for source in sources(operation).values())
    assert not re.search(r"<script|<link|<img|src=", page)
