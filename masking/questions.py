"""What is asked of an app about a call that waits, and what it says: neutral of how either is spelt (`Wording`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from masking.house import House
    from masking.services import Service

Kind = Literal["call.intercept", "call.out_of_session", "call.dispatch"]
Verdict = Literal["allow", "deny"]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What an app is asked. `id` is the same however often it is sent; `within`: seconds until it is answered, or was
    not; `at`: seconds since 1970. `data` holds tokens and virtual numbers alone."""

    id: str
    type: Kind
    tenant: str
    service: Service
    url: str
    within: float
    at: float
    session: str | None = None
    data: dict[str, Any]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the app said. `reason`: its own word for a denial. Of a caller whom nobody is bound to: `session`, as
    `POST /v1/sessions` takes it or the id of one, and `to`, the role of whom the call is to reach."""

    verdict: Verdict = "allow"
    reason: str | None = None
    session: dict[str, Any] | str | None = None
    to: str | None = None


class Advice(msgspec.Struct, frozen=True):
    """What came of a question: the answer, or None and a word why there is none; seconds it took."""

    answer: Answer | None
    error: str | None
    took: float


class Wording(Protocol):
    """How a question is put, and how its answer is understood."""

    async def write(self, house: House, question: Question) -> tuple[dict[str, str], bytes]:
        """Headers (`content-type` too, where it is not JSON) and body."""
        ...

    def read(self, question: Question, status: int, body: bytes) -> Answer | None:
        """The answer; None for one that cannot be understood: that counts as none."""
        ...
