"""A client that believes nothing: every answer is held against the OpenAPI document the service itself gives out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from masking.api import openapi

DOCUMENT = openapi.document()
PROBLEM = "application/problem+json"
BASE = "http://masking.test"


def _regex(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\})", path)
    return re.compile(
        "".join((".+" if part == "{path}" else "[^/:]+") if part[:1] == "{" else re.escape(part) for part in parts)
    )


# Fixed paths before patterns, as the service looks them up.
PATHS = sorted(((_regex(path), path) for path in DOCUMENT["paths"]), key=lambda entry: "{" in entry[1])


def operation_of(method: str, path: str) -> dict[str, Any] | None:
    """The document's operation for a request; None where it names none (404 and 405 then)."""
    template = next((template for regex, template in PATHS if regex.fullmatch(path)), None)
    if template is None:
        return None
    found: dict[str, Any] | None = DOCUMENT["paths"][template].get("get" if method == "HEAD" else method.lower())
    return found


def untruths(response: httpx2.Response) -> Iterator[str]:
    """What an answer does that the document does not say."""
    request = response.request
    operation = operation_of(request.method, request.url.path)
    kind = response.headers.get("content-type", "").partition(";")[0]
    if operation is None:
        if response.status_code not in (401, 404, 405):
            yield f"no such operation, and yet {response.status_code}"
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
    else:
        said = operation["responses"].get(str(response.status_code))
        if said is None:
            yield f"status {response.status_code} is not in the document: {response.text[:500]}"
            return
        if "content" not in said:
            if response.content:
                yield "an answer that has no body, and yet there is one"
            return
        if kind not in said["content"]:
            yield f"content type {kind} is not in the document"
            return
        schema = said["content"][kind]["schema"]
        for name in said.get("headers", {}):
            if name.lower() not in response.headers:
                yield f"header {name} is missing"
    if kind.endswith("json") and request.method != "HEAD":
        body = response.json()
        validator = Draft202012Validator(
            {**schema, "components": DOCUMENT["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        for error in validator.iter_errors(body):
            yield f"{error.json_path}: {error.message}"
        if kind == PROBLEM and body["status"] != response.status_code:
            yield "the problem tells another status"
        if kind == PROBLEM and operation is not None and f"`{body['code']}`" not in said["description"]:
            yield f"the code {body['code']} is not in the document for {response.status_code}"


class Client:
    """One tenant's client of the service."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, key: str | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers)

    async def __call__(self, method: str, path: str, **given: Any) -> httpx2.Response:
        response = await self.http.request(method, path, **given)
        assert list(untruths(response)) == [], f"{method} {path} -> {response.status_code}"
        return response

    async def get(self, path: str, **given: Any) -> httpx2.Response:
        return await self("GET", path, **given)

    async def post(self, path: str, body: Any = None, **given: Any) -> httpx2.Response:
        return await self("POST", path, json=body, **given) if body is not None else await self("POST", path, **given)

    async def patch(self, path: str, body: Any, **given: Any) -> httpx2.Response:
        return await self("PATCH", path, json=body, **given)


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """The problem a response must be."""
    assert response.headers["content-type"] == PROBLEM, response.text
    found: dict[str, Any] = response.json()
    assert (response.status_code, found["code"]) == (status, code), response.text
    return found
