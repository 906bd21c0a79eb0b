"""Reopening: an ended session goes on with the numbers it had, while they still rest for its people.

A number rests for a pair through the pair's quarantine; after that somebody else may have met one of them on it. So it
is all of the numbers within that time, or a refusal that says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from masking import checks, names, opening, quotas, records, services, sessions, stages
from masking.events import fact, moment_of
from masking.refusals import CannotReopen, QuotaExceeded, UniqueNameConflict
from pools.inventory import CALLABLE

if TYPE_CHECKING:
    from datetime import datetime

    from masking.access import Access
    from masking.house import House
    from masking.records import Record
    from masking.sessions import Session
    from pools.grants import Holder

ORDINARY: Final = frozenset({"api", "expired", "stage_end"})  # the ends after which a late call opens a session again
WHY: Final = {
    "rested": "The session's numbers have rested for its people; by now they may stand for somebody else.",
    "crowded": "Its numbers have no room for its PINs any more.",
    "number_lost": "One of its numbers is suspended or retired.",
}


async def reopen(
    house: House, access: Access, session: str, *, ttl: int | None, expires_at: datetime | None
) -> Session:
    """Opens an ended session again for `ttl` seconds, until `expires_at`, or for its service's ttl; an open one stays
    as it is. `CannotReopen` (extra `reason`: `rested`, `crowded`, `number_lost`), `UniqueNameConflict`, `NotFound`."""
    found = await records.held(house, access.tenant, session)
    if found is None:
        await sessions.get(house, access, session)  # NotFound, when nobody has heard of it
        raise _refusal("rested")
    holder, record = found
    if sessions.live_view(holder, record, house.now_ms).status != "closed":
        return sessions.told(house, holder, record)
    await _reopen(house, holder, record, ttl=ttl, expires_at=expires_at)
    await records.touch(house, access.tenant, session)
    return await sessions.get(house, access, session)


async def for_late_call(house: House, session: str, caller: str) -> bool:
    """Opens an ended session again because a participant of it calls; False where it stays closed."""
    holder = await house.leases.read(session)
    record = records.unpacked(holder.fields["record"]) if holder is not None and "record" in holder.fields else None
    if holder is None or record is None or not welcome_back(holder, record, caller, house.now_ms):
        return False
    try:
        await _reopen(house, holder, record)
    except (CannotReopen, UniqueNameConflict, QuotaExceeded):
        return False
    await records.touch(house, record.tenant, session)
    return True


def welcome_back(holder: Holder, record: Record, caller: str, now_ms: int) -> bool:
    """Is the session one that ended as sessions do, and the caller still of it? Who was replaced in a session reaches
    nobody through it any more."""
    view = sessions.live_view(holder, record, now_ms)
    ended = view.status == "closed" and view.closed_reason in ORDINARY
    return ended and any(person.id == caller for person in record.people)


async def _reopen(
    house: House, holder: Holder, record: Record, *, ttl: int | None = None, expires_at: datetime | None = None
) -> None:
    default = (await services.lately(house, record.tenant, record.service)).ttl
    lives_ms = checks.ending(ttl, expires_at, record.sliding or default, house.now())
    lasting = stages.lasting(record.stages, house.now_ms)
    if (last := stages.end_ms(lasting)) is not None:
        lives_ms = min(lives_ms, last - house.now_ms)
    record = msgspec.structs.replace(record, stages=lasting)
    if holder.status == "open":  # its end has come, and nobody has written it down yet
        await sessions.release(house, holder, sessions.ending(holder, record))
    await numbers_work(house, holder)
    if record.unique_name is None:
        await _revive(house, holder, record, lives_ms)
    else:
        await _revive_named(house, holder, record, lives_ms)


async def numbers_work(house: House, holder: Holder) -> None:
    """`CannotReopen` unless each of its numbers takes calls."""
    for spelled in dict.fromkeys(holder.numbers):
        number = await house.inventory.find(spelled)
        if number is None or number.state not in CALLABLE:
            raise _refusal("number_lost")


async def _revive_named(house: House, holder: Holder, record: Record, lives_ms: int) -> None:
    """The name first, as when a session is opened: another one may have it by now."""
    key = names.key(record.tenant, record.service, str(record.unique_name))
    mine = names.Holding(
        claim=house.token(""),
        people=opening.digest(record),
        lives=names.kept(lives_ms),
        candidates=[holder.holder],
    )
    other, asked = await opening.take_name(house, record.tenant, key, mine)
    if other is not None:
        raise UniqueNameConflict("The unique_name belongs to another open session by now.", session=other[0].holder)
    try:
        await _revive(house, holder, record, lives_ms)
    except (CannotReopen, QuotaExceeded):
        await names.give_up(house, key, mine)
        raise
    if abs(house.now_ms - asked) >= names.UNDOUBTED_MS and not await names.still(house, key, mine):
        await house.leases.release(holder.holder, reason="replaced", events=[opening.replaced()])
        await quotas.session_moved(house, record.tenant, holder.holder, house.now_ms)
        raise UniqueNameConflict("The unique_name went to another session meanwhile.")


async def _revive(house: House, holder: Holder, record: Record, lives_ms: int) -> None:
    expires_ms = house.now_ms + lives_ms
    alive = msgspec.structs.replace(holder, status="open", reason="", expires=expires_ms)
    view = sessions.live_view(alive, record, house.now_ms)
    told = {
        "status": view.status,
        "closed_reason": None,
        "closed_at": None,
        "expires_at": moment_of(expires_ms),
        "stages": view.stages,
        "stage": view.stage,
    }
    leased = [fact("number.leased", None, {"number": number}) for number in dict.fromkeys(holder.numbers)]
    fields: dict[str, str | bytes | int] = {sessions.ENDS: expires_ms}
    if record.stages:
        fields |= {
            "record": records.packed(record),
            **stages.fields(record, holder.targets),
            "wakes": stages.next_ms(record.stages, house.now_ms) or "",
        }
    async with quotas.one_session_more(house, record.tenant, quotas.letters_of(holder.holder), expires_ms):
        outcome = await house.leases.reopen(
            holder.holder,
            expires=expires_ms,
            events=[fact("session.reopened", None, told), *leased],
            fields=fields,
        )
        if outcome.outcome not in ("reopened", "open"):
            raise _refusal("crowded" if outcome.outcome == "crowded" else "rested")


def _refusal(reason: str) -> CannotReopen:
    return CannotReopen(WHY[reason], reason=reason)
