"""What the core refuses, and why: one tree, without a word of HTTP.

Refused                      code, detail, errors: what every refusal says
 ├─ NotFound                 not_found             no such thing, or not yours: the two look the same
 ├─ Invalid                  invalid_request       a field is wrong; `errors` names each
 │   ├─ InvalidPhoneNumber   invalid_phone_number
 │   ├─ ContainsPhoneNumber  contains_phone_number a free text carries a person's number
 │   └─ NotBuilt             not_implemented       documented, and not served by this version
 ├─ Conflict
 │   ├─ ParticipantConflict  participant_conflict  the same person twice in one session
 │   ├─ UniqueNameConflict   unique_name_conflict  the name is taken; `session` (or `service`) says by whom
 │   ├─ SessionClosed        session_closed
 │   ├─ SessionFull          session_full          it takes no more participants
 │   ├─ NumberInUse          number_in_use         the very number that was wished for is none for that person
 │   ├─ CallRefused          call_refused          `decision` says by what, as an interaction does
 │   ├─ CannotReopen         cannot_reopen         `reason` says why the session stays closed
 │   ├─ NumberPoolExhausted  number_pool_exhausted `needed` numbers more, worth a try in `retry_after` seconds
 │   ├─ QuotaExceeded        quota_exceeded        the tenant has what it may have; `errors` names the quota
 │   └─ GeoUnavailable       geo_unavailable       no number of the participant's country
 ├─ ReasonRequired           reason_required       nobody is looked for without one
 ├─ Unserved                 not_implemented       documented, and not served by this version for this session
 └─ Forbidden                insufficient_scope    the key lacks a scope

No refusal ever repeats a value it was given: the value may be a person's number.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One wrong field: which (`participants[0].identifier`), what was wrong, what would be right."""

    field: str
    problem: str
    expected: str


class Refused(Exception):
    """A request that cannot be granted. `code` is stable; `extra` goes beside it into the answer."""

    code: ClassVar[str] = "refused"

    def __init__(self, detail: str, errors: list[FieldError] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.extra = extra


class NotFound(Refused):
    code = "not_found"


class Forbidden(Refused):
    code = "insufficient_scope"


class Invalid(Refused):
    code = "invalid_request"

    @classmethod
    def field(cls, field: str, problem: str, expected: str) -> Invalid:
        """The refusal of one field."""
        return cls(f"{field}: {problem}", [FieldError(field, problem, expected)])


class InvalidPhoneNumber(Invalid):
    code = "invalid_phone_number"


class ContainsPhoneNumber(Invalid):
    code = "contains_phone_number"


class NotBuilt(Invalid):
    code = "not_implemented"


class Unserved(Refused):
    code = "not_implemented"


class ReasonRequired(Refused):
    code = "reason_required"


class Conflict(Refused):
    code = "conflict"


class ParticipantConflict(Conflict):
    code = "participant_conflict"


class UniqueNameConflict(Conflict):
    code = "unique_name_conflict"


class SessionClosed(Conflict):
    code = "session_closed"


class SessionFull(Conflict):
    code = "session_full"


class NumberInUse(Conflict):
    code = "number_in_use"


class CallRefused(Conflict):
    code = "call_refused"


class CannotReopen(Conflict):
    code = "cannot_reopen"


class NumberPoolExhausted(Conflict):
    code = "number_pool_exhausted"

    def __init__(self, detail: str, *, needed: int, retry_after: int) -> None:
        super().__init__(detail, needed=needed, retry_after=retry_after)
        self.needed = needed
        self.retry_after = retry_after


class QuotaExceeded(Conflict):
    code = "quota_exceeded"


class GeoUnavailable(Conflict):
    code = "geo_unavailable"
