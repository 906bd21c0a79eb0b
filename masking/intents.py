"""Intents: the app says that a participant is about to call, which stands in for the PIN of its next call.

For 60 seconds, once, on the numbers the participant dials. A caller whose number says nothing (withheld, or another
phone) is taken for the one participant of whom an intent stands on the number it dialled; of two it is neither.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from masking import extensions, sessions
from masking.events import moment
from masking.house import script
from masking.refusals import Invalid
from pools.journal import key

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from pools.inventory import PhoneNumber

LASTS_MS: Final = 60_000
TAKE: Final = script("intent")


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """`participant` is about to dial one of `numbers` (virtual ones)."""

    session: str
    participant: str
    numbers: list[str]
    expires_at: datetime


async def announce(house: House, access: Access, session: str, participant: str, to: str | None = None) -> Intent:
    """Notes that `participant` is about to call (`to` somebody, else anybody); `SessionClosed`, `NotFound`, `Invalid`
    for a participant the session has not."""
    holder, record = await sessions.held_open(house, access, session)
    lines = [
        (number, (source, target))
        for line, number in zip(record.lines, holder.numbers, strict=True)
        for source, target in line.ways
        if source == participant and to in (None, target)
    ]
    if not lines:
        field = "participant" if all(person.id != participant for person in record.people) else "to"
        raise Invalid.field(field, "is no participant of the session", "the id of one, par_…")
    ends = house.now_ms + LASTS_MS
    party = record.person(participant).party
    for number, (_, target) in lines:
        found = await house.inventory.find(number)
        if found is not None:
            dials = extensions.dials(house, party, record.extensions.get(target))
            await house.redis.command("ZADD", _key(found), ends, dials)
            await house.redis.command("PEXPIRE", _key(found), 2 * LASTS_MS)
    numbers = list(dict.fromkeys(number for number, _ in lines))
    return Intent(session=session, participant=participant, numbers=numbers, expires_at=moment(ends / 1000))


async def take(house: House, number: PhoneNumber, party: str | None = None) -> str | None:
    """The party whose intent to dial `number` stood, and stands no longer: `party`'s, or with None the only one."""
    found: bytes | None = await house.redis.script(TAKE, [_key(number)], [house.now_ms, party or ""])
    return found.decode() if found is not None else None


async def standing(house: House, number: PhoneNumber, at_ms: int, party: str | None = None) -> str | None:
    """Whom `take` would give at `at_ms` (ms); the intent stands on."""
    rows = await house.redis.command("ZRANGEBYSCORE", _key(number), f"({at_ms}", "+inf")
    names = [row.decode() for row in rows]
    if party is not None:
        return party if party in names else None
    return names[0] if len(names) == 1 else None


def _key(number: PhoneNumber) -> str:
    return key(number.shard, f"i:{number.position}")
