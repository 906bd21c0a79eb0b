"""Changing an open session's leases: another person in a participant's place, another number in a number's place.

Whoever stays keeps the number they dial and see. A person who is replaced has a tombstone from then on: they hear that
the trip has ended, and reach nobody. All of it is one step in the session's shard, or nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from masking import alarms, checks, extensions, pins, records, sessions, stages
from masking.events import PARTIES, fact, filled, moment_of
from masking.records import Line, Person, Record
from masking.refusals import (
    Conflict,
    FieldError,
    Invalid,
    NumberPoolExhausted,
    ParticipantConflict,
    SessionClosed,
    Unserved,
)
from pools.grants import End, Exhausted, Fact, Holder, Lease, Take
from pools.leases import Step

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.pins import Way
    from masking.sessions import NewParticipant, Session

RETRY_WITHOUT_A_DATE: Final = 60


class Amendment(msgspec.Struct, frozen=True):
    """What is asked of the pools, the record that tells it, and its events."""

    steps: list[Step]
    targets: list[str]
    record: Record
    events: list[Fact]
    elsewhere: dict[str, list[Step]] = {}  # by shard, of a session with numbers of several pools


async def swap(house: House, access: Access, session: str, participant: str, new: NewParticipant) -> Session:
    """Puts another person in the participant's place: under an id of their own, with the old one's role unless they
    bring one. The others' numbers stay as they are; the newcomer dials the old one's too, or one of their own where
    they have that number with somebody else.

    Refuses with `Invalid` and its kin, `ParticipantConflict`, `NumberPoolExhausted`, `SessionClosed`, `NotFound`.
    """
    phones = checks.phones_of(house, new, "replacement")
    person = checks.person_of(house, phones, new, session[-22:])
    texts = [("replacement.role", new.role), ("replacement.friendly_name", new.friendly_name)]
    checks.texts(house, texts, [person.country], phones)
    await checks.virtual(house, [person], house.inventory.in_pools(person.parties), "replacement")

    def swapped(beside: bool) -> Callable[[Holder, Record], Amendment]:
        return lambda holder, record: _swapped(house, holder, record, participant, person, beside=beside)

    if not await amend(house, access, session, swapped(beside=False), across=True):
        await amend(house, access, session, swapped(beside=True), across=True)
    return await sessions.get(house, access, session)


async def replace_number(house: House, access: Access, session: str, number: str, overlap: int) -> Session:
    """Gives the session another virtual number in the place of `number`, which works on for `overlap` seconds. Refuses
    as `swap` does."""

    def renumbered(holder: Holder, record: Record) -> Amendment:
        return _renumbered(house, holder, record, number, overlap * 1000)

    await amend(house, access, session, renumbered, across=True)
    return await sessions.get(house, access, session)


async def amend(
    house: House,
    access: Access,
    session: str,
    made: Callable[[Holder, Record], Amendment],
    *,
    across: bool = False,
) -> bool:
    """Does what `made` makes of the session as it is; False when a number is taken for its new party. `across`: it
    knows of several pools."""
    for _ in range(sessions.TRIES):
        holder, record = await sessions.held_open(house, access, session)
        if holder.shards:
            if not across:
                raise Unserved("The session has numbers of several pools; this version cannot change those so.")
            whole = await house.leases.read_whole(session)
            if whole is None or whole.rev != holder.rev:
                continue
            holder = whole
        wish = made(holder, record)
        try:
            told = await house.leases.amend(
                session,
                wish.steps,
                targets=wish.targets,
                expect_rev=holder.rev,
                fields={
                    "record": records.packed(wish.record),
                    **stages.fields(wish.record, wish.targets),
                },
                events=wish.events,
                elsewhere=wish.elsewhere,
            )
        except Exhausted as short:
            raise NumberPoolExhausted(
                "No other virtual number is free for these participants.",
                needed=short.needed,
                retry_after=max(1, round(short.retry_after or RETRY_WITHOUT_A_DATE)),
            ) from None
        if told.outcome == "ended":
            raise SessionClosed("The session is closed.", session=session)
        await alarms.tell_low(house, record, told.tight)
        if told.outcome != "conflict":
            await records.touch(house, access.tenant, session)
            return told.outcome == "amended"
    raise Conflict("The session is being changed by many at once; try again.")


# ---- another person ------------------------------------------------------------------------------------------------


def _swapped(
    house: House, holder: Holder, record: Record, participant: str, person: Person, *, beside: bool
) -> Amendment:
    """`beside`: the newcomer dials numbers of their own."""
    old = next((one for one in record.people if one.id == participant), None)
    if old is None:
        raise Invalid.field("participant", "is no participant of the session", "the id of one, par_…")
    if not set(person.parties).isdisjoint(record.parties):
        error = FieldError("replacement.identifier", "is a participant already", "another number")
        raise ParticipantConflict("That person is in the session already.", [error])
    after, chosen = _with(house, holder, record, old, msgspec.structs.replace(person, role=person.role or old.role))
    slots: dict[Way, int] = {}
    if beside:
        after, slots = _split(after, person.id)
    targets = [_renamed(target, old.id, person.id) for target in holder.targets]
    steps: defaultdict[str, list[Step]] = defaultdict(list)  # by shard
    leases: dict[tuple[str, int], list[tuple[int, str]]] = {}
    taken: set[tuple[Way, bool]] = set()
    for grant in holder.grants:
        source, target = holder.targets[grant.ordinal].split("|")
        if source != old.id:
            continue
        way = (person.id, target)
        secret = pins.party(house, chosen[way]) if _is_secret(grant.party) else None
        steps[grant.shard].append(End(grant.ordinal))
        if (way, secret is None) in taken:  # another phone of the old one's
            continue
        taken.add((way, secret is None))
        for party in _dialling(house, after, person, way, secret):
            to = len(targets)
            targets.append("|".join(way))
            if beside:
                leases.setdefault((grant.shard, slots[way]), []).append((to, party))
            else:
                steps[grant.shard].append(Take(grant.ordinal, to, party))
    for (shard, slot), entries in sorted(leases.items()):
        steps[shard].append(Lease(slot, tuple(entries)))
    said = {PARTIES: {person.id: list(person.parties)}, "replaced": {"from": old.id, "to": person.id}}
    told = news(house, holder, after, sorted(slot for _, slot in leases), said)
    return Amendment(steps.pop("", []), targets, after, told, dict(steps))


def _renamed(target: str, old: str, new: str) -> str:
    """Whoever is called is the newcomer; whoever calls, while an entry of theirs still stands, is nobody any more."""
    source, _, called = target.partition("|")
    return f"{source}|{new}" if called == old else target


def _is_secret(party: str) -> bool:
    """Is the party a PIN (`pools.grants.secret`)?"""
    return party.startswith("k") and "." in party


def _dialling(house: House, record: Record, person: Person, way: Way, secret: str | None) -> list[str]:
    """The parties that go the way: a PIN, or each phone of the person, with an extension where there is one."""
    if secret is not None:
        return [secret]
    return [extensions.dials(house, party, record.extensions.get(way[1])) for party in person.parties]


def _with(house: House, holder: Holder, record: Record, old: Person, person: Person) -> tuple[Record, dict[Way, str]]:
    """The record with `person` in the place of `old`, and its PINs: those of the ways to the old one stay, since others
    have been told them; those of the ways from there are drawn anew."""

    def renamed(way: Way) -> Way:
        source, target = (person.id if name == old.id else name for name in way)
        return source, target

    known = pins.unsealed(house, holder.holder, record.pins)
    chosen = {renamed(way): pin for way, pin in known.items()}
    for way, pin in known.items():
        while way[0] == old.id and chosen[renamed(way)] in known.values():
            (chosen[renamed(way)],) = pins.draw(house, [way], len(pin)).values()
    after = msgspec.structs.replace(
        record,
        people=tuple(person if one is old else one for one in record.people),
        lines=tuple(Line(tuple(renamed(way) for way in line.ways)) for line in record.lines),
        extensions={person.id if name == old.id else name: word for name, word in record.extensions.items()},
        pins=pins.sealed(house, holder.holder[-22:], chosen) if chosen else b"",
    )
    return after, chosen


def _split(record: Record, person: str) -> tuple[Record, dict[Way, int]]:
    """The record with a line of their own for whatever the person dials, and which line each of those ways has then."""
    lines = list(record.lines)
    slots: dict[Way, int] = {}
    for index, line in enumerate(record.lines):
        theirs = tuple(way for way in line.ways if way[0] == person)
        others = tuple(way for way in line.ways if way[0] != person)
        if not theirs:
            continue
        if others:
            lines[index] = Line(others)
            lines.append(Line(theirs))
        slots |= dict.fromkeys(theirs, len(lines) - 1 if others else index)
    return msgspec.structs.replace(record, lines=tuple(lines)), slots


# ---- another number ------------------------------------------------------------------------------------------------


def _renumbered(house: House, holder: Holder, record: Record, number: str, overlap_ms: int) -> Amendment:
    slots = [slot for slot, known in enumerate(holder.numbers) if known == number]
    if not slots:
        raise Invalid.field("number", "is no number of the session", "one of its participants' proxies")
    steps: defaultdict[str, list[Step]] = defaultdict(list)  # by shard
    targets = list(holder.targets)
    for slot in slots:
        ways = {"|".join(way) for way in record.lines[slot].ways}
        theirs = [grant for grant in holder.grants if holder.targets[grant.ordinal] in ways]
        entries = []
        for grant in theirs:
            entries.append((len(targets), grant.party))
            targets.append(holder.targets[grant.ordinal])
        shard = theirs[0].shard  # a number's entries are all in its own
        steps[shard] += [End(grant.ordinal, overlap_ms) for grant in theirs]
        steps[shard].append(Lease(slot, tuple(entries)))
    until = moment_of(min(house.now_ms + overlap_ms, holder.expires))
    gone = fact("number.released", None, {"number": number, "until": until})
    told = [*news(house, holder, record, slots, {}), gone]
    return Amendment(steps.pop("", []), targets, record, told, dict(steps))


def news(house: House, holder: Holder, record: Record, slots: list[int], said: Mapping[str, Any]) -> list[Fact]:
    """The events: the session as it is then, with a place for each number that is leased anew."""
    numbers = [*holder.numbers, *[""] * (len(record.lines) - len(holder.numbers))]
    for slot in slots:
        numbers[slot] = filled(f"x{slot}")
    after = msgspec.structs.replace(holder, numbers=tuple(numbers))
    view = msgspec.to_builtins(sessions.live_view(after, record, house.now_ms))
    leased = [{"number": numbers[slot], "ways": record.lines[slot].ways} for slot in slots]
    return [
        fact("session.updated", None, view | dict(said)),
        *(fact("number.leased", None, data) for data in leased),
    ]
