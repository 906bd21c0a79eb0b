"""Finding a person's sessions by their number: for a dispute, with a reason, and never without a trace.

The archive knows people as the pools do, by the blind index of their number. Whoever asks gets an entry on the chain of
evidence before the answer, which says what was found and why it was looked for, never for which number.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from masking import checks, numbering, shelves
from masking.disputes import Reason, check_texts
from masking.events import append_loose, seconds
from masking.refusals import FieldError, Invalid, InvalidPhoneNumber, ReasonRequired
from masking.sessions import Identifier

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House


class PersonSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose sessions: `participant` is the real number, E.164; those opened before `to` that were to live until `from`
    or longer. `reason` is kept, with who asked. Its repr does not show the number."""

    participant: Identifier
    from_: datetime | None = msgspec.field(name="from", default=None)
    to: datetime | None = None
    reason: Reason | UnsetType = UNSET

    def __repr__(self) -> str:
        return "<PersonSearch>"


async def search(
    house: House, access: Access, wish: PersonSearch, *, limit: int, before: shelves.Position | None
) -> shelves.Page:
    """The person's sessions of this tenant, newest first. `ReasonRequired`, `ContainsPhoneNumber` for the reason,
    `InvalidPhoneNumber`, `Invalid` for a time without a zone."""
    if not isinstance(wish.reason, str):
        raise ReasonRequired("Say in `reason` why this person's sessions are looked for.")
    check_texts(house, {"reason": wish.reason})
    number = numbering.person(wish.participant)
    if number is None:
        error = FieldError("participant", "is not a valid phone number", checks.E164)
        raise InvalidPhoneNumber("participant is not a valid phone number.", [error])
    page = await shelves.of_person(
        house,
        access,
        house.keyring.index(number),
        since=_seconds("from", wish.from_),
        until=_seconds("to", wish.to),
        limit=limit,
        before=before,
    )
    said = {"key": access.key, "reason": wish.reason, "from": wish.from_, "to": wish.to}
    found = {"sessions": [session.id for session in page.data]}
    await append_loose(house, access.tenant, "session.searched", house.now(), said | found)
    return page


def _seconds(field: str, at: datetime | None) -> float | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise Invalid.field(field, "has no time zone", "RFC 3339 with a zone, like 2030-01-01T00:00:00Z")
    return seconds(at)
