"""One class for each code the service refuses with.

Written by scripts/client from the table of the API: change that, not this.
"""

from __future__ import annotations

from masking_client.errors import Problem


class MalformedRequest(Problem):
    """The request cannot be read (400)."""

    code = "malformed_request"


class InvalidParameter(Problem):
    """A parameter cannot be used (400)."""

    code = "invalid_parameter"


class InvalidCursor(Problem):
    """The cursor cannot be used (400)."""

    code = "invalid_cursor"


class IdentifierInQuery(Problem):
    """A person's number stands in the query (400)."""

    code = "identifier_in_query"


class ReasonRequired(Problem):
    """A reason is required (400)."""

    code = "reason_required"


class Unauthenticated(Problem):
    """No valid API key (401)."""

    code = "unauthenticated"


class GrantRefused(Problem):
    """The grant does not hold (403)."""

    code = "grant_refused"


class InsufficientScope(Problem):
    """The API key lacks a scope (403)."""

    code = "insufficient_scope"


class NotFound(Problem):
    """Not found (404)."""

    code = "not_found"


class MethodNotAllowed(Problem):
    """Method not allowed (405)."""

    code = "method_not_allowed"


class RequestTimeout(Problem):
    """The request came too slowly (408)."""

    code = "request_timeout"


class Conflict(Problem):
    """In conflict with what is already here (409)."""

    code = "conflict"


class ParticipantConflict(Problem):
    """The same person twice in one session (409)."""

    code = "participant_conflict"


class UniqueNameConflict(Problem):
    """The unique_name is taken (409)."""

    code = "unique_name_conflict"


class SessionClosed(Problem):
    """The session is closed (409)."""

    code = "session_closed"


class CallRefused(Problem):
    """The call is not let through (409)."""

    code = "call_refused"


class CannotReopen(Problem):
    """The session stays closed (409)."""

    code = "cannot_reopen"


class NumberPoolExhausted(Problem):
    """No number is free (409)."""

    code = "number_pool_exhausted"


class GeoUnavailable(Problem):
    """No number in the country asked for (409)."""

    code = "geo_unavailable"


class PhoneNumberTaken(Problem):
    """The phone number is held elsewhere (409)."""

    code = "phone_number_taken"


class QuotaExceeded(Problem):
    """The tenant has what it may have (409)."""

    code = "quota_exceeded"


class RecordingHeld(Problem):
    """The recording is held (409)."""

    code = "recording_held"


class RecordingNotAvailable(Problem):
    """The recording cannot be played (409)."""

    code = "recording_not_available"


class IdempotencyInFlight(Problem):
    """The same request is under way (409)."""

    code = "idempotency_in_flight"


class BodyTooLarge(Problem):
    """The body is too large (413)."""

    code = "body_too_large"


class UnsupportedMediaType(Problem):
    """Not JSON (415)."""

    code = "unsupported_media_type"


class RangeNotSatisfiable(Problem):
    """No such range (416)."""

    code = "range_not_satisfiable"


class InvalidRequest(Problem):
    """A field cannot be used (422)."""

    code = "invalid_request"


class UnknownField(Problem):
    """A field is not known (422)."""

    code = "unknown_field"


class InvalidPhoneNumber(Problem):
    """Not a phone number that can be used (422)."""

    code = "invalid_phone_number"


class ContainsPhoneNumber(Problem):
    """A phone number stands where none may (422)."""

    code = "contains_phone_number"


class UnknownTrunk(Problem):
    """No such trunk (422)."""

    code = "unknown_trunk"


class IdempotencyConflict(Problem):
    """The Idempotency-Key was used for another request (422)."""

    code = "idempotency_conflict"


class HeadTooLarge(Problem):
    """The headers are too large (431)."""

    code = "head_too_large"


class RateLimited(Problem):
    """Too many requests (429)."""

    code = "rate_limited"


class InternalError(Problem):
    """Something of ours went wrong (500)."""

    code = "internal_error"


class NotImplemented(Problem):
    """Not built yet (501)."""

    code = "not_implemented"


class Unavailable(Problem):
    """Cannot answer now (503)."""

    code = "unavailable"
