"""Erasing a person's voice: every recording of their calls, at their wish, with a reason, on the chain of evidence."""

from __future__ import annotations

import msgspec

from masking import searches
from masking.api.operations import Answer, Asked
from masking.api.problems import Declined
from masking.api.recordings import check_reason, told
from masking.disputes import Reason
from masking.refusals import FieldError
from masking.searches import PersonSearch
from masking.sessions import Identifier
from recordings import catalogue
from recordings.catalogue import Filter, Recording

PAGE = 500
NAMED = 20  # recordings that a refusal names


class PersonErasure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose: the real number, E.164; `reason` is kept, with who asked. Its repr does not show the number."""

    identifier: Identifier
    reason: Reason

    def __repr__(self) -> str:
        return "<PersonErasure>"


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased now; what was erased before is not named again."""

    recordings: list[str]


async def erase_person(asked: Asked) -> Answer:
    """All of them or none: a hold on one of them, or a call that goes on, is said before anything is erased."""
    wish: PersonErasure = asked.body
    check_reason(asked, "reason", wish.reason)
    search = PersonSearch(participant=wish.identifier, reason=wish.reason)
    left = [one for one in await _of(asked, searches.wanted(asked.house, search).party) if one.status != "erased"]
    _refuse("recording_held", "is held; release it first", [one for one in left if one.hold is not None])
    talking = [one for one in left if one.status == "recording"]
    _refuse("recording_not_available", "is of a call that still goes on", talking)
    for one in left:
        await told(asked, one, "recording.erased", {"reason": wish.reason})
    erased = [one.id for one in left]
    await searches.trace(asked.house, asked.access, search, "person.erased", {"recordings": erased})
    return Answer(200, Erased(recordings=erased))


async def _of(asked: Asked, party: str) -> list[Recording]:
    """Every recording of the person's calls, by the blind index of their number."""
    found: list[Recording] = []
    async with asked.archive.connect() as connection:
        while True:
            before = catalogue.position(found[-1]) if found else None
            page = await catalogue.page(connection, asked.tenant, Filter(person=party), before=before, limit=PAGE)
            found += page
            if len(page) < PAGE:
                return found


def _refuse(code: str, why: str, recordings: list[Recording]) -> None:
    if recordings:
        names = [one.id for one in recordings[:NAMED]]
        errors = [FieldError("identifier", f"{name} {why}", "no such recording") for name in names]
        raise Declined(code, f"Nothing was erased: {', '.join(names)} {why}.", errors=errors)
