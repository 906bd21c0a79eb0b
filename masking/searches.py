"""Finding a person's sessions and recordings by their number: for a dispute, with a reason, and never without a trace.

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
from masking.events import EventType, append_loose, seconds
from masking.refusals import FieldError, Invalid, InvalidPhoneNumber, ReasonRequired
from masking.sessions import Identifier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from masking.access import Access
    from masking.house import House


class PersonSearch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose: `participant` is the real number, E.164. Sessions: those opened before `to` that were to live until `from`
    or longer; recordings: of calls that began at `from` or later, before `to`. `reason` is kept, with who asked. Its
    repr does not show the number."""

    participant: Identifier
    from_: datetime | None = msgspec.field(name="from", default=None)
    to: datetime | None = None
    reason: Reason | UnsetType = UNSET

    def __repr__(self) -> str:
        return "<PersonSearch>"


async def search(
    house: House, access: Access, wish: PersonSearch, *, limit: int, before: shelves.Position | None
) -> shelves.Page:
    """The person's sessions of this tenant, newest first; refusals as `wanted`."""
    who = wanted(house, wish)
    page = await shelves.of_person(
        house, access, who.party, since=who.since, until=who.until, limit=limit, before=before
    )
    found = {"sessions": [session.id for session in page.data]}
    await trace(house, access, wish, "session.searched", found)
    return page


class Wanted(msgspec.Struct, frozen=True):
    """Whom a search is for, by blind index, and between which times (seconds since 1970)."""

    party: str
    since: float | None
    until: float | None


def wanted(house: House, wish: PersonSearch) -> Wanted:
    """What a search asks the archive. `ReasonRequired`, `ContainsPhoneNumber` for the reason, `InvalidPhoneNumber`,
    `Invalid` for a time without a zone."""
    if not isinstance(wish.reason, str):
        raise ReasonRequired("Say in `reason` why this person is looked for.")
    check_texts(house, {"reason": wish.reason})
    number = numbering.person(wish.participant)
    if number is None:
        error = FieldError("participant", "is not a valid phone number", checks.E164)
        raise InvalidPhoneNumber("participant is not a valid phone number.", [error])
    return Wanted(house.keyring.index(number), _seconds("from", wish.from_), _seconds("to", wish.to))


async def trace(
    house: House, access: Access, wish: PersonSearch, kind: EventType, found: Mapping[str, list[str]]
) -> None:
    """Puts on the chain of evidence who looked, why, and what was found: never for which number."""
    said = {"key": access.key, "reason": wish.reason, "from": wish.from_, "to": wish.to}
    await append_loose(house, access.tenant, kind, house.now(), {**said, **found})


def _seconds(field: str, at: datetime | None) -> float | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise Invalid.field(field, "has no time zone", "RFC 3339 with a zone, like 2030-01-01T00:00:00Z")
    return seconds(at)
