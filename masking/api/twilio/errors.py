"""What goes wrong, in Twilio's shape and by Twilio's numbers: `{"code", "message", "more_info", "status"}`.

The core refuses in its own words (`masking.refusals`), HTTP in its own (`masking.api.problems`); each has its number
here. A message is our own sentence and repeats no value of the request.
"""

from __future__ import annotations

from typing import Final

import msgspec

from masking.api.problems import Declined
from masking.refusals import Refused

# A problem's code -> HTTP status, Twilio's number.
NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "malformed_request": (400, 20001),
    "invalid_parameter": (400, 20001),
    "identifier_in_query": (400, 20001),
    "invalid_cursor": (400, 20001),
    "invalid_request": (400, 20001),
    "unknown_field": (400, 20001),
    "contains_phone_number": (400, 20001),
    "unauthenticated": (401, 20003),
    "insufficient_scope": (403, 20403),
    "not_found": (404, 20404),
    "method_not_allowed": (405, 20004),
    "request_timeout": (408, 20001),
    "body_too_large": (413, 20001),
    "unsupported_media_type": (415, 20001),
    "rate_limited": (429, 20429),
    "internal_error": (500, 20500),
    "not_implemented": (501, 20001),
    "unavailable": (503, 20503),
    "conflict": (409, 20409),
    "participant_conflict": (400, 80103),
    "geo_unavailable": (400, 80203),
    "number_pool_exhausted": (400, 80206),
    "invalid_phone_number": (400, 80404),
    "phone_number_taken": (400, 80601),
    "unique_name_conflict": (400, 80603),
    "number_in_use": (400, 80604),
    "cannot_reopen": (400, 80604),
    "session_closed": (400, 80607),
    "session_full": (400, 80609),
    "quota_exceeded": (400, 20409),
}
NO_NUMBERS, SERVICE_NAME, NOT_IN_SERVICE, STATUS_INVALID = 80205, 80602, 80605, 80608
BAD_REQUEST: Final = 20001


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    code: int
    message: str
    more_info: str
    status: int


class Trouble(Exception):
    """A request that the face turns away itself, by one of Twilio's numbers."""

    def __init__(self, number: int, message: str, status: int = 400) -> None:
        super().__init__(number)
        self.number = number
        self.message = message
        self.status = status

    @property
    def body(self) -> Wrong:
        more = f"https://www.twilio.com/docs/errors/{self.number}"
        return Wrong(code=self.number, message=self.message, more_info=more, status=self.status)


def of(error: Trouble | Declined | Refused) -> Trouble:
    """The refusal by Twilio's number. A code without a number of its own is a bad request, never a 500."""
    if isinstance(error, Trouble):
        return error
    status, number = NUMBERS.get(error.code, (400, BAD_REQUEST))
    return Trouble(number, error.detail, status)
