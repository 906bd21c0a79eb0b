"""What schemathesis is told besides the document: loaded into its process by SCHEMATHESIS_HOOKS.

Its own check compares single reads of two users. Ours reads every answer: an id that one tenant was shown may never
stand in an answer to the other, whatever was asked.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import schemathesis

IDS = re.compile(r"\b[a-z]{2,3}_[0-9A-Za-z]{20,}")
TENANTS: dict[str, str] = json.loads(os.environ["SCHEMATHESIS_TENANTS"])  # Authorization -> whose it is
PEOPLE = itertools.cycle([f"+8490{n}" for n in range(7734001, 7734041)])
KNOWN: dict[str, Iterator[str]] = {  # a field -> what the tenants have of it, by turns
    name: itertools.cycle(values) for name, values in json.loads(os.environ["SCHEMATHESIS_KNOWN"]).items()
}
FITTING = 32  # characters: no text as short is too long anywhere
TURNS = itertools.cycle([True, True, False])
COUNT = itertools.count()
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
given: dict[str, str] = {}  # an id -> whose answers have shown it


@schemathesis.check
def no_tenant_reads_what_is_anothers(ctx: Any, response: Any, case: Any) -> None:
    tenant = TENANTS.get(response.request.headers.get("Authorization", ""))
    found = set(IDS.findall(response.content.decode("utf-8", "replace")))
    if tenant is None:
        assert not found or response.status_code == 200, "an id for somebody without a key"
        return
    for one in found:
        assert given.setdefault(one, tenant) == tenant, f"{tenant} reads {one}, which is of {given[one]}"


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """Two requests under one Idempotency-Key are a conflict, and a conflict is all one would see."""
    if headers and _fits(headers.get("Idempotency-Key")) and next(TURNS):
        headers["Idempotency-Key"] = f"key-{next(COUNT)}"
    return headers


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """What a schema cannot say, said right more often than not: else hardly a session would ever be opened. What does
    not fit the schema is left as it is."""
    return _mended("", body)


def _mended(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_mended(name, one) for one in value]
    if isinstance(value, dict):
        if name in ("participants", "replacement", "who", "to") and all(map(_fits, value.values())) and next(TURNS):
            value = {one: value[one] for one in value if one in ("role", "language")} | {"identifier": "+"}
        return {inner: _mended(inner, one) for inner, one in value.items()}
    if not isinstance(value, str):
        return value
    if not _fits(value):
        return value
    if name == "identifier":
        return next(PEOPLE)
    if name in KNOWN and next(TURNS):
        return next(KNOWN[name])
    return CONTROL.sub("~", value)


def _fits(value: Any) -> bool:
    """Is it a text that is allowed wherever a text is?"""
    return isinstance(value, str) and 0 < len(value) <= FITTING
