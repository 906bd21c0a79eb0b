"""People who come and go one by one: a session of at most two, opened with none, one or both of them.

Whoever is there has an X of their own, and keeps it: alone, they dial it in vain (the way to somebody who is not there
is closed) until a partner joins, and another one in the place of a partner who left. Who left has a tombstone. The
partner to come has an id before they come, so that an X means the same whoever takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from masking import amending, checks, sessions
from masking.amending import Amendment
from masking.events import PARTIES, fact
from masking.records import Line, Record
from masking.refusals import FieldError, NotFound, NumberInUse, ParticipantConflict, SessionFull, Unserved
from pools.grants import Drop, End, Holder, Lease, Retarget

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.sessions import NewParticipant, Session
    from pools.leases import Step

MOST: Final = 2


async def join(
    house: House, access: Access, session: str, new: NewParticipant, *, wish: int | Literal["", "sticky"] = ""
) -> Session:
    """Takes one more person in, as the last of its participants. `wish`: the position of the X they shall dial, or
    ``sticky`` for the one they had last.

    Refuses with `Invalid` and its kin, `ParticipantConflict`, `SessionFull`, `NumberInUse`, `NumberPoolExhausted`,
    `SessionClosed`, `NotFound`, and `Unserved` for a session with PINs, extensions, or numbers of several pools.
    """
    phones = checks.phones_of(house, new, "participant")
    fields = [("participant.role", new.role), ("participant.friendly_name", new.friendly_name)]
    newcomer = checks.person_of(house, phones, new, session[-22:])
    checks.texts(house, fields, [newcomer.country], phones)
    await checks.virtual(house, [newcomer], house.inventory.in_pools(newcomer.parties), "participant")

    def joined(holder: Holder, record: Record) -> Amendment:
        _plain(record)
        if not set(newcomer.parties).isdisjoint(record.parties):
            error = FieldError("participant.identifier", "is a participant already", "another number")
            raise ParticipantConflict("That person is in the session already.", [error])
        if len(record.people) >= MOST:
            raise SessionFull(f"The session has {MOST} participants, and takes no more.")
        own = _awaited(record) or house.token("par_")
        partner = record.people[0].id if record.people else house.token("par_")
        person = checks.person_of(house, phones, new, session[-22:], own)
        slot = len(record.lines)
        after = msgspec.structs.replace(
            record, people=(*record.people, person), lines=(*record.lines, Line(((own, partner),)))
        )
        ways = tuple((len(holder.targets) + place, party) for place, party in enumerate(person.parties))
        targets = [*holder.targets, *[f"{own}|{partner}"] * len(ways)]
        events = amending.news(house, holder, after, [slot], {PARTIES: {own: list(person.parties)}})
        return Amendment([Lease(slot, ways, wish)], targets, after, events)

    if not await amending.amend(house, access, session, joined):
        raise NumberInUse("That person holds the number already, or rests from it.")
    return await sessions.get(house, access, session)


async def leave(house: House, access: Access, session: str, participant: str) -> Session:
    """Takes a person out: the number they dial rests for them, the other's stays. `NotFound`, `SessionClosed`,
    `Unserved` as `join`."""

    def left(holder: Holder, record: Record) -> Amendment:
        _plain(record)
        if all(person.id != participant for person in record.people):
            raise NotFound("No such participant.")
        if len(record.people) > MOST:
            raise Unserved("Nobody leaves a session of more than two; this version cannot change those.")
        return _without(house, holder, record, participant, house.token("par_"))

    await amending.amend(house, access, session, left)
    return await sessions.get(house, access, session)


def _without(house: House, holder: Holder, record: Record, old: str, partner: str) -> Amendment:
    """The session without the participant `old`, whose place waits for `partner`."""
    steps: list[Step] = []
    targets = list(holder.targets)
    for grant in holder.grants:
        source, target = holder.targets[grant.ordinal].split("|")
        if source == old:
            steps.append(End(grant.ordinal))
        elif target == old:
            steps.append(Retarget(grant.ordinal, len(targets)))
            targets.append(f"{source}|{partner}")
    lines, kept, released = list[Line](), list[str](), list[str]()
    for slot, (line, number) in enumerate(zip(record.lines, holder.numbers, strict=True)):
        ways = tuple((source, partner if target == old else target) for source, target in line.ways if source != old)
        if ways:
            lines.append(Line(ways))
            kept.append(number)
        else:
            steps.append(Drop(slot))
            released.append(number)
    people = tuple(person for person in record.people if person.id != old)
    after = msgspec.structs.replace(record, people=people, lines=tuple(lines))
    view = sessions.live_view(msgspec.structs.replace(holder, numbers=tuple(kept)), after, house.now_ms)
    events = [fact("session.updated", None, msgspec.to_builtins(view))]
    events += [fact("number.released", None, {"number": number}) for number in released]
    return Amendment(steps, targets, after, events)


def _awaited(record: Record) -> str | None:
    """The id of the partner to come."""
    there = {person.id for person in record.people}
    return next((target for line in record.lines for _, target in line.ways if target not in there), None)


def _plain(record: Record) -> None:
    if record.guest is not None:
        raise Unserved("The session is one person's, whom anybody calls; nobody joins it or leaves it.")
    if record.pins or record.extensions:
        raise Unserved("The session has PINs or extensions; this version cannot change who takes part in those.")
