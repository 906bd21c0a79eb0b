"""What goes wrong, as RFC 9457 problems with a stable `code`.

The core refuses without a word of HTTP (`masking.refusals`); what only HTTP can refuse is `Declined`. One place
(`endpoints`) turns both into the answer. A detail is our own sentence: it never repeats a value of the request, which
may be a person's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from masking import refusals
from masking.refusals import FieldError

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] | msgspec.UnsetType = msgspec.UNSET
    session: str | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    decision: str | msgspec.UnsetType = msgspec.UNSET
    interaction: str | msgspec.UnsetType = msgspec.UNSET
    needed: int | msgspec.UnsetType = msgspec.UNSET
    retry_after: int | msgspec.UnsetType = msgspec.UNSET


# code -> status, title. A code never changes its meaning; new ones may come.
CODES: dict[str, tuple[int, str]] = {
    "malformed_request": (400, "The request cannot be read"),
    "invalid_parameter": (400, "A parameter cannot be used"),
    "invalid_cursor": (400, "The cursor cannot be used"),
    "identifier_in_query": (400, "A person's number stands in the query"),
    "reason_required": (400, "A reason is required"),
    "unauthenticated": (401, "No valid API key"),
    "grant_refused": (403, "The grant does not hold"),
    "insufficient_scope": (403, "The API key lacks a scope"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "request_timeout": (408, "The request came too slowly"),
    "conflict": (409, "In conflict with what is already here"),
    "participant_conflict": (409, "The same person twice in one session"),
    "unique_name_conflict": (409, "The unique_name is taken"),
    "session_closed": (409, "The session is closed"),
    "call_refused": (409, "The call is not let through"),
    "cannot_reopen": (409, "The session stays closed"),
    "number_pool_exhausted": (409, "No number is free"),
    "geo_unavailable": (409, "No number in the country asked for"),
    "phone_number_taken": (409, "The phone number is held elsewhere"),
    "quota_exceeded": (409, "The tenant has what it may have"),
    "recording_held": (409, "The recording is held"),
    "recording_not_available": (409, "The recording cannot be played"),
    "idempotency_in_flight": (409, "The same request is under way"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "Not JSON"),
    "range_not_satisfiable": (416, "No such range"),
    "invalid_request": (422, "A field cannot be used"),
    "unknown_field": (422, "A field is not known"),
    "invalid_phone_number": (422, "Not a phone number that can be used"),
    "contains_phone_number": (422, "A phone number stands where none may"),
    "unknown_trunk": (422, "No such trunk"),
    "idempotency_conflict": (422, "The Idempotency-Key was used for another request"),
    "head_too_large": (431, "The headers are too large"),
    "rate_limited": (429, "Too many requests"),
    "internal_error": (500, "Something of ours went wrong"),
    "not_implemented": (501, "Not built yet"),
    "unavailable": (503, "Cannot answer now"),
}


class Declined(Exception):
    """A request that HTTP's own rules turn away: one of `CODES`, our sentence about it, the fields it is about.

    `status` only where the code's usual one does not fit (`not_implemented` of a field is 422).
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status = status or CODES[code][0]
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = {name: value for name, value in (extra or {}).items() if name in EXTRA}
        if "retry_after" in self.extra:
            self.headers["Retry-After"] = str(self.extra["retry_after"])

    def problem(self) -> Problem:
        return Problem(
            type=f"/docs#{self.code}",
            title=CODES[self.code][1],
            status=self.status,
            code=self.code,
            detail=self.detail,
            errors=self.errors or msgspec.UNSET,
            **self.extra,
        )


EXTRA = {field.name for field in msgspec.structs.fields(Problem) if field.default is msgspec.UNSET} - {"errors"}


def bad_field(code: str, field: str, problem: str, expected: str, *, status: int | None = None) -> Declined:
    """The usual refusal: one field is at fault."""
    return Declined(
        code, f"{field}: {problem}; expected {expected}", errors=[FieldError(field, problem, expected)], status=status
    )


def from_core(refused: refusals.Refused) -> Declined:
    """The core's refusal in HTTP's words. A code this table does not know is a conflict, never a 500."""
    code = refused.code if refused.code in CODES else "conflict"
    # A field, unlike a call, that is not built yet is a request the client can mend.
    status = 422 if isinstance(refused, refusals.Invalid) else None
    return Declined(code, refused.detail, errors=refused.errors, status=status, extra=refused.extra)


def unavailable(retry_after: int) -> Declined:
    """Redis or the archive cannot answer: nothing was half done, come again."""
    return Declined(
        "unavailable",
        "What this answer stands on cannot be reached. Nothing was changed half-way; try again.",
        extra={"retry_after": retry_after},
    )
