"""From msgspec's words to the contract's: the field, the problem, what would be right, and never the value."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest

from masking.api.problems import Declined
from masking.api.validation import body_of, query_of


class Person(msgspec.Struct, forbid_unknown_fields=True):
    identifier: Annotated[str, msgspec.Meta(min_length=1, max_length=8)]
    age: Annotated[int, msgspec.Meta(ge=0, le=150)] | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    people: Annotated[list[Person], msgspec.Meta(min_length=1, max_length=2)]
    mode: Literal["on", "off"] = "on"
    words: dict[Annotated[str, msgspec.Meta(max_length=3)], Annotated[str, msgspec.Meta(max_length=3)]] = {}
    at: datetime | None = None
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0
    flag: bool | msgspec.UnsetType = msgspec.UNSET


def refusal(raw: bytes, not_built: frozenset[str] = frozenset()) -> Declined:
    with pytest.raises(Declined) as caught:
        body_of(raw, Body, not_built)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "field", "problem", "expected"),
    [
        (b"[]", "body", "is an array", "an object"),
        (b"{}", "people", "is missing", "an array of 1..2 items, each an object"),
        (b'{"people":[]}', "people", "cannot be used", "an array of 1..2 items, each an object"),
        (b'{"people":[{}]}', "people[0].identifier", "is missing", "a string of 1..8 characters"),
        (b'{"people":[{"identifier":"a"},7]}', "people[1]", "is an integer", "an object"),
        (b'{"people":[{"identifier":"a","age":-1}]}', "people[0].age", "cannot be used", "an integer 0..150 or null"),
        (b'{"people":[{"identifier":"a","age":1.5}]}', "people[0].age", "is float", "an integer 0..150 or null"),
        (
            b'{"people":[{"identifier":"a","age":1e999}]}',
            "people[0].age",
            "cannot be used",
            "an integer 0..150 or null",
        ),
        (b'{"mode":"+84901234567"}', "mode", "cannot be used", "one of off, on"),
        (b'{"words":{"a":7}}', "words[...]", "is an integer", "a string of 0..3 characters"),
        (b'{"words":{"long":"a"}}', "words (a key)", "cannot be used", "a string of 0..3 characters"),
        (b'{"at":"yesterday"}', "at", "cannot be used", "a time with its zone, e.g. 2026-11-22T09:30:00Z or null"),
        (b'{"share":2}', "share", "cannot be used", "a number 0..1"),
        (b'{"flag":null}', "flag", "is null", "true or false"),
        (b'{"peeple":[]}', "peeple", "is not known", "people"),
        (b'{"zzz":[]}', "zzz", "is not known", "one of people, mode, words, at, share, flag"),
        (b'{"84901234567":[]}', "…", "is not known", "one of people, mode, words, at, share, flag"),
        (b'{"people":[{"identifer":"a"}]}', "people[0].identifer", "is not known", "identifier"),
        (b'{"mode":"\\u0000"}', "body", "holds a control character", "texts without control characters"),
        (b'{"mode":"\\\\\\u001f"}', "body", "holds a control character", "texts without control characters"),
    ],
)
def test_the_field_is_named(raw: bytes, field: str, problem: str, expected: str) -> None:
    (error,) = refusal(raw).errors
    assert (error.field, error.problem, error.expected) == (field, problem, expected)


def test_an_escaped_backslash_is_no_control_character() -> None:
    body = body_of(rb'{"people":[{"identifier":"\\u0000"}]}', Body)
    assert body.people[0].identifier == r"\u0000"


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b'{"mode":"\xff"}', b'{"mode":"\\ud800"}', b'{"mode":"a\nb"}', b"nul"],
)
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    assert refusal(raw).code == "malformed_request"


def test_deep_nesting_is_refused_not_suffered() -> None:
    class Anything(msgspec.Struct):
        value: Any

    with pytest.raises(Declined) as caught:
        body_of(b'{"value":' + b"[" * 400_000, Anything)
    assert caught.value.code == "malformed_request"


def test_a_field_of_the_contract_that_is_not_built_is_named_as_that() -> None:
    refused = refusal(b'{"pin":{}}', frozenset({"pin"}))
    assert (refused.code, refused.status) == ("not_implemented", 422)
    assert refused.errors[0].field == "pin"


def test_a_query_reads_numbers_out_of_text() -> None:
    class Query(msgspec.Struct, forbid_unknown_fields=True):
        limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50
        status: Literal["open", "closed"] | None = None
        since: datetime | None = msgspec.field(name="from", default=None)

    assert query_of({"limit": "7"}, Query).limit == 7
    assert query_of({"from": "2026-11-22T09:30:00Z"}, Query).since == datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    shapes = ({"limit": "7_0"}, {"limit": ""}, {"limit": "9" * 5000}, {"limits": "7"})
    for wrong in (*shapes, {"status": "null"}, {"from": "null"}, {"from": "0.5"}):
        with pytest.raises(Declined) as caught:
            query_of(wrong, Query)
        assert (caught.value.code, caught.value.status) == ("invalid_parameter", 400)
