"""People who come and go one by one: a session of at most two, opened with none, one or both of them.

Whoever is there has an X of their own, and keeps it: alone, they dial it in vain (the way to somebody who is not there
is closed) until a partner joins, and another one in the place of a partner who left. Who left has a tombstone. The
partner to come has an id before they come, so that an X means the same whoever takes its place.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from masking import amending, checks, services, sessions
from masking.amending import Amendment
from masking.bindings import SHARDS_TRIED
from masking.events import PARTIES, append_loose, fact
from masking.records import Line, Record
from masking.refusals import (
    FieldError,
    GeoUnavailable,
    NotFound,
    NumberInUse,
    NumberPoolExhausted,
    ParticipantConflict,
    SessionFull,
    Unserved,
)
from pools.grants import Drop, End, Holder, Lease, shard_of
from pools.inventory import PhoneNumber

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from masking.access import Access
    from masking.house import House
    from masking.records import Person
    from masking.sessions import NewParticipant, Participant, Session
    from pools.leases import Step

MOST: Final = 2


async def join(
    house: House, access: Access, session: str, new: NewParticipant, *, wish: PhoneNumber | Literal["", "sticky"] = ""
) -> tuple[Session, Participant]:
    """Takes one more person in, with an X of their own country where there is one; gives the session and who they are
    in it. `wish`: the very X they shall dial, or ``sticky`` for the one they had last.

    Refuses with `Invalid` and its kin, `ParticipantConflict`, `SessionFull`, `NumberInUse`, `NumberPoolExhausted`,
    `GeoUnavailable`, `SessionClosed`, `NotFound`, and `Unserved` for a session with PINs or extensions.
    """
    phones = checks.phones_of(house, new, "participant")
    fields = [("participant.role", new.role), ("participant.friendly_name", new.friendly_name)]
    newcomer = checks.person_of(house, phones, new, session[-22:])
    checks.texts(house, fields, [newcomer.country], phones)
    await checks.virtual(house, [newcomer], house.inventory.in_pools(newcomer.parties), "participant")

    own: list[str] = []  # the newcomer's id, of each attempt

    def joined(shard: str) -> Callable[[Holder, Record], Amendment]:
        def made(holder: Holder, record: Record) -> Amendment:
            _roomy(record, newcomer.parties)
            own.append(_awaited(record) or house.token("par_"))
            person = checks.person_of(house, phones, new, session[-22:], own[-1])
            return _joined(house, holder, record, person, shard, wish)

        return made

    _, record = await sessions.held_open(house, access, session)
    shards = [wish.shard] if isinstance(wish, PhoneNumber) else await _shards(house, session, record, newcomer.country)
    for shard in shards:
        try:
            if not await amending.amend(house, access, session, joined(shard), across=True):
                raise NumberInUse("That person holds the number already, or rests from it.")
        except NumberPoolExhausted as short:
            if shard != shards[-1]:
                continue
            data = {"service": record.service_name, "needed": short.needed, "retry_after": short.retry_after}
            await append_loose(house, access.tenant, "number.exhausted", house.now(), data)
            raise
        after = await sessions.get(house, access, session)
        for one in after.participants:
            if one.id == own[-1]:
                return after, one
        raise NotFound("That person left again at once.")
    raise AssertionError("there is always a shard to try, the session's own if no other")


async def _shards(house: House, session: str, record: Record, country: str | None) -> list[str]:
    """Where to look for an X for somebody of that country, best first: the session's own shard before others."""
    pools = await house.inventory.recent_pools(record.tenant, record.service, 0)
    home = shard_of(session)
    if country not in pools and (await services.lately(house, record.tenant, record.service)).geo_match == "strict":
        raise GeoUnavailable(f"The service has no phone number in {country or 'that country'}.", country=country)
    own = next((pool for name, pool in pools.items() if name == country), None)
    own = own or next((pool for pool in pools.values() if home in pool.shards), None)
    found = list(own.shards) if own is not None else [home]
    start = int.from_bytes(house.random(4)) % len(found)
    found = found[start:] + found[:start]
    return sorted(found, key=lambda shard: shard != home)[:SHARDS_TRIED]


def _joined(
    house: House,
    holder: Holder,
    record: Record,
    person: Person,
    shard: str,
    wish: PhoneNumber | Literal["", "sticky"],
) -> Amendment:
    partner = record.people[0].id if record.people else house.token("par_")
    slot = len(record.lines)
    lines = (*record.lines, Line(((person.id, partner),)))
    after = msgspec.structs.replace(record, people=(*record.people, person), lines=lines)
    ways = tuple((len(holder.targets) + place, party) for place, party in enumerate(person.parties))
    targets = [*holder.targets, *[f"{person.id}|{partner}"] * len(ways)]
    events = amending.news(house, holder, after, [slot], {PARTIES: {person.id: list(person.parties)}})
    lease: list[Step] = [Lease(slot, ways, wish.position if isinstance(wish, PhoneNumber) else wish)]
    if shard == shard_of(holder.holder):
        return Amendment(lease, targets, after, events)
    return Amendment([], targets, after, events, {shard: lease})


def _roomy(record: Record, parties: Sequence[str]) -> None:
    """Raises for a session that cannot take these phones in."""
    _plain(record)
    if not set(parties).isdisjoint(record.parties):
        error = FieldError("participant.identifier", "is a participant already", "another number")
        raise ParticipantConflict("That person is in the session already.", [error])
    if len(record.people) >= MOST:
        raise SessionFull(f"The session has {MOST} participants, and takes no more.")


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

    await amending.amend(house, access, session, left, across=True)
    return await sessions.get(house, access, session)


def _without(house: House, holder: Holder, record: Record, old: str, partner: str) -> Amendment:
    """The session without the participant `old`, whose place waits for `partner`."""
    steps: defaultdict[str, list[Step]] = defaultdict(list)  # by shard; "" is the session's own
    for grant in holder.grants:
        if holder.targets[grant.ordinal].startswith(old + "|"):
            steps[grant.shard].append(End(grant.ordinal))
    targets = [
        f"{target.partition('|')[0]}|{partner}" if target.endswith("|" + old) else target for target in holder.targets
    ]
    lines, kept, released = list[Line](), list[str](), list[str]()
    for slot, (line, number) in enumerate(zip(record.lines, holder.numbers, strict=True)):
        ways = tuple((source, partner if target == old else target) for source, target in line.ways if source != old)
        if ways:
            lines.append(Line(ways))
            kept.append(number)
        else:
            steps[""].append(Drop(slot))
            released.append(number)
    people = tuple(person for person in record.people if person.id != old)
    after = msgspec.structs.replace(record, people=people, lines=tuple(lines))
    view = sessions.live_view(msgspec.structs.replace(holder, numbers=tuple(kept)), after, house.now_ms)
    events = [fact("session.updated", None, msgspec.to_builtins(view))]
    events += [fact("number.released", None, {"number": number}) for number in released]
    return Amendment(steps.pop("", []), targets, after, events, dict(steps))


def _awaited(record: Record) -> str | None:
    """The id of the partner to come."""
    there = {person.id for person in record.people}
    return next((target for line in record.lines for _, target in line.ways if target not in there), None)


def _plain(record: Record) -> None:
    if record.guest is not None:
        raise Unserved("The session is one person's, whom anybody calls; nobody joins it or leaves it.")
    if record.pins or record.extensions:
        raise Unserved("The session has PINs or extensions; this version cannot change who takes part in those.")
