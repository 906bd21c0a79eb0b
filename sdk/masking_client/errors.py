"""What can go wrong.

MaskingError
 ├─ Unreachable      no answer came, however often it was asked: connection refused, broken, or too slow
 ├─ NotGenuine       a webhook that does not carry our signature (`webhooks`)
 ├─ Unreadable       an answer that is not what the API says it is
 └─ Problem          the service's own refusal, RFC 9457: `code`, `status`, `detail`, `errors`
     └─ one class for each code (`problems`): NotFound, NumberPoolExhausted, SessionClosed …

A code that this version does not know is a plain `Problem`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class MaskingError(Exception):
    """Whatever this package raises beside ValueError and TypeError."""


class Unreachable(MaskingError):
    """No answer. What was asked may have happened: asked again with the same `idempotency_key` it happens once."""


class NotGenuine(MaskingError):
    """Not from the service, or not fresh: answer it 400 and do nothing."""


class Unreadable(MaskingError):
    """An answer of another shape: something between us and the service, or a service of another version."""


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field: which (`participants[0].identifier`), what was wrong, what would be right."""

    field: str
    problem: str
    expected: str


class Problem(MaskingError):
    """`said` is the whole answer; `retry_after` in seconds, where the service says when to come again."""

    code: ClassVar[str] = ""
    by_code: ClassVar[dict[str, type[Problem]]] = {}

    def __init_subclass__(cls) -> None:
        Problem.by_code[cls.code] = cls

    def __init__(self, status: int, said: dict[str, Any], retry_after: float | None = None) -> None:
        self.status = status
        self.said = said
        self.detail = str(said.get("detail") or said.get("title") or f"status {status}")
        self.errors = msgspec.convert(said.get("errors") or [], list[FieldError])
        self.retry_after = retry_after
        super().__init__(f"{said.get('code') or status}: {self.detail}")


def problem_of(status: int, headers: Any, body: bytes) -> Problem:
    """The error an answer that is no success stands for; one that is no problem+json (a proxy's) has an empty code."""
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        said = {}
    after = str(headers.get("retry-after", ""))
    kind = Problem.by_code.get(str(said.get("code")), Problem)
    try:
        return kind(status, said, float(after) if after.isdecimal() else None)
    except msgspec.ValidationError:
        return kind(status, {name: value for name, value in said.items() if name != "errors"})
