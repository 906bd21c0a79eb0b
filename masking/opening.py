"""Opening a session: check, claim the name, bind the numbers.

A name is claimed before the bind (`masking.names`). Whoever may have lost it meanwhile (it was stopped for seconds)
looks again, and then gives its own numbers back and answers as the winner's repetition.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from masking import (
    alarms,
    bindings,
    callers,
    checks,
    consent,
    extensions,
    guests,
    latecalls,
    names,
    numbering,
    pins,
    quotas,
    records,
    sentences,
    services,
    sessions,
    stages,
)
from masking.events import PARTIES, append_loose, fact, filled
from masking.records import Person, Record, RecordingNotice
from masking.refusals import GeoUnavailable, Invalid, NumberPoolExhausted, Refused, UniqueNameConflict
from masking.sentences import OURS
from masking.sessions import NewSession, Session
from pools.grants import letters_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from masking.access import Access
    from masking.bindings import Ground, Plan, Wish
    from masking.house import House
    from masking.records import Person
    from masking.services import GeoMatch, Service
    from pools.grants import Bound, Fact, Holder
    from pools.numbers import Number

# A pool that another process has added is seen when there is no number in those known, or after so many seconds.
POOLS_REMEMBERED: Final = 1.0
OF_SERVICES: Final = frozenset({"extension", "one_party"})  # models that a service's numbers have for every caller
POLL: Final = 0.02  # seconds between looks at a name that another request is claiming right now


async def open_session(
    house: House,
    access: Access,
    new: NewSession,
    *,
    token: str | None = None,
    letters: Callable[[bytes], str] = letters_of,
    fewest: int = checks.FEWEST,
) -> tuple[Session, bool]:
    """Opens a session; False beside it when `unique_name` with the same participants was open already.

    `token` names the request (an Idempotency-Key's identity): asked twice with it, one session is opened. `letters`
    makes the session's id, but for its shard, of random bytes; `fewest`: how many participants there must be.
    Refuses with `Invalid` and its kin, `ParticipantConflict`, `UniqueNameConflict` (extra `session`),
    `NumberPoolExhausted`, `GeoUnavailable`, `NotFound` for the service.
    """
    checks.built(new)
    service = await services.lately(house, access.tenant, new.service)
    try:
        async with callers.redeemed(house, access.tenant, new) as known:
            try:
                return await _open(house, access, known, service, _random(house, token), letters, fewest)
            except _Lost:
                return await _open(house, access, known, service, house.random(17), letters, fewest)
    except NumberPoolExhausted as short:
        data = {"service": service.name, "needed": short.needed, "retry_after": short.retry_after}
        await append_loose(house, access.tenant, "number.exhausted", house.now(), data)
        raise


class _Lost(Exception):
    """The name went to another session while this one was being bound; its numbers are given back."""


def _random(house: House, token: str | None) -> bytes:
    return blake2b(token.encode(), digest_size=17).digest() if token else house.random(17)


async def _open(
    house: House,
    access: Access,
    new: NewSession,
    service: Service,
    random: bytes,
    named: Callable[[bytes], str],
    fewest: int,
) -> tuple[Session, bool]:
    letters = named(random)
    late_call = await _late_call(house, access, new, service, letters)
    phones = checks.numbers(house, new, *((1, 1) if service.number_model == "one_party" else (fewest,)))
    wish, record = _wish(house, access, new, service, random, letters, late_call, phones)
    virtual = house.inventory.in_pools(record.parties)
    pools = await house.inventory.recent_pools(wish.tenant, wish.service, POOLS_REMEMBERED)
    try:
        return await _open_in(house, wish, record, bindings.survey(wish, pools), virtual)
    except (NumberPoolExhausted, GeoUnavailable):
        await checks.virtual(house, wish.people, virtual)
        grown = await house.inventory.recent_pools(wish.tenant, wish.service, 0)
        if grown == pools:
            raise
        return await _open_in(house, wish, record, bindings.survey(wish, grown), virtual)


async def _open_in(
    house: House, wish: Wish, record: Record, ground: Ground, virtual: Awaitable[int]
) -> tuple[Session, bool]:
    if record.unique_name is not None:
        key = names.key(wish.tenant, wish.service, record.unique_name)
        return await _open_named(house, wish, record, ground, virtual, key)
    return await _bind(house, wish, record, ground, virtual), True


async def _late_call(
    house: House, access: Access, new: NewSession, service: Service, letters: str
) -> latecalls.KeptLateCall:
    """What late callers of the session with these letters meet: what it says, else what its service says."""
    if new.late_call is not None:
        return await latecalls.kept(house, new.late_call, letters)
    if service.late_call.policy == "announce":
        return latecalls.ANNOUNCED
    theirs = await services.late_call(house, access.tenant, service)
    return latecalls.moved(house, theirs, service.id, letters)


def _wish(
    house: House,
    access: Access,
    new: NewSession,
    service: Service,
    random: bytes,
    letters: str,
    late_call: latecalls.KeptLateCall,
    phones: list[list[Number]],
) -> tuple[Wish, Record]:
    """What is to be bound, and the record of it, whose lines the plan gives later."""
    model = new.number_model or service.number_model
    if model != service.number_model and OF_SERVICES.intersection((model, service.number_model)):
        raise Invalid.field("number_model", "is not its service's", "none: its numbers mean the same to all who dial")
    if new.degrade and model not in ("auto", "shared"):
        raise Invalid.field("degrade", "does not go with the number_model", "number_model shared or auto")
    guest = guests.guest(house.token("par_")) if model == "one_party" else None
    pin = pins.checked(new.pin)
    if guest is not None and (pin.policy != "none" or new.caller_trust != "any"):
        raise Invalid.field("pin", "does not go with one party", "none, and caller_trust any: whoever calls is welcome")
    numbers = [number for theirs in phones for number in theirs]
    checks.texts(house, _texts(new), map(numbering.country_of, numbers), numbers)
    people = checks.people(house, new, phones, letters)
    staged = stages.checked(new.stages, (*people, guest) if guest is not None else people, house.now_ms)
    quarantine = service.pair_quarantine if new.pair_quarantine is None else new.pair_quarantine
    wish = bindings.Wish(
        tenant=access.tenant,
        service=service.id,
        people=people,
        number_model=model,
        geo_match=_geo(new.geo_match) or service.geo_match,
        degrade="per_party" in new.degrade,
        anywhere=new.geo_match_level == "none",
        areas=_areas(new, people, phones),
        number_selection=new.number_selection or service.number_selection,
        ttl_ms=_lives_ms(house, new, service),
        quarantine_ms=quarantine * 1000,
        random=random,
        letters=letters,
        partner=guest.id if guest is not None else house.token("par_") if len(people) == 1 else "",
    )
    record = Record(
        tenant=access.tenant,
        service=service.id,
        service_name=service.name,
        unique_name=new.unique_name,
        created_at=round(house.now(), 3),
        mode=new.mode,
        direction=new.direction,
        record=new.record or service.record,
        pair_quarantine=quarantine,
        ring_timeout=service.ring_timeout if new.ring_timeout is None else new.ring_timeout,
        call_time_limit=service.call_time_limit if new.call_time_limit is None else new.call_time_limit,
        warning_at=service.warning_at if new.warning_at is None else new.warning_at,
        max_concurrent_calls=new.max_concurrent_calls or service.max_concurrent_calls,
        metadata=new.metadata,
        people=people,
        lines=(),
        guest=guest,
        pin=pin,
        caller_trust=new.caller_trust,
        max_call_attempts_per_hour=new.max_call_attempts_per_hour,
        answer_confirm=new.answer_confirm,
        on_expiry_in_call=new.on_expiry_in_call,
        stages=staged,
        late_call=late_call,
        consent=service.consent_policy,
        recording_notice=_notice(new, service, people),
        announcements=sentences.checked(house, new.announcements or OURS).over(service.announcements),
        sliding=(new.ttl or service.ttl) if new.ttl_mode == "sliding" else 0,
    )
    stages.fields(record)  # Invalid, before anything is claimed
    return wish, record


def _notice(new: NewSession, service: Service, people: Sequence[Person]) -> RecordingNotice:
    """Whether people are told; `Invalid` where somebody has to be told and shall not."""
    if new.recording_notice is not None:
        return "spoken"
    owed = [service.consent_policy.owed_to(person) for person in people]
    if len(people) < checks.FEWEST:  # the other one may be anywhere
        owed.append(service.consent_policy.strictest)
    if consent.strictest(owed) != "one_party":
        raise Invalid.field(
            "recording_notice",
            "may not be left out there",
            "a service whose consent_policy says one_party of all of them",
        )
    return "none"


def _lives_ms(house: House, new: NewSession, service: Service) -> int:
    """The milliseconds it lives: as it says, else as its last stage does, else as its service does."""
    lives_ms = checks.ending(new.ttl, new.expires_at, service.ttl, house.now())
    last = stages.end_ms(new.stages)
    if last is None:
        return lives_ms
    staged_ms = checks.ending(None, new.stages[-1].until, 0, house.now())
    return staged_ms if new.ttl is None and new.expires_at is None else min(lives_ms, staged_ms)


def _texts(new: NewSession) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = [("unique_name", new.unique_name), *checks.metadata_fields(new.metadata)]
    found += checks.stage_fields(new.stages)
    for index, participant in enumerate(new.participants):
        found += [
            (f"participants[{index}].role", participant.role),
            (f"participants[{index}].friendly_name", participant.friendly_name),
        ]
    return found


def _areas(new: NewSession, people: tuple[Person, ...], phones: list[list[Number]]) -> dict[str, str]:
    """How the numbers of the people's own areas begin, where that is asked for."""
    if new.geo_match_level != "area_code":
        return {}
    found = [(person.id, numbering.area_of(theirs[0])) for person, theirs in zip(people, phones, strict=True)]
    return {person: area for person, area in found if area is not None}


def _geo(said: str | None) -> GeoMatch | None:
    """`country` is the level, the only one there is; alone it means that a foreign number is better than none."""
    if said is None:
        return None
    return "strict" if said.endswith("strict") else "soft"


async def _bind(
    house: House, wish: Wish, record: Record, ground: Ground, virtual: Awaitable[int], noted: str = ""
) -> Session:
    """Binds the wish once nobody of it is a virtual number, if the tenant may have another session."""
    await checks.virtual(house, wish.people, virtual)
    if record.record != "never":
        await quotas.room_for_recordings(house, wish.tenant)
    async with quotas.one_session_more(house, wish.tenant, wish.letters, house.now_ms + wish.ttl_ms):
        if wish.number_model == "extension":
            return await _bind_extensions(house, wish, record, ground, noted)
        return await _bind_pins(house, wish, record, ground, noted)


async def _bind_extensions(house: House, wish: Wish, record: Record, ground: Ground, noted: str) -> Session:
    """Binds the wish; with longer extensions where those drawn meet others of the same callers on every number."""
    for length in range(extensions.SHORTEST, extensions.LONGEST + 1):
        drawn = extensions.draw(house, [person.id for person in wish.people], length)
        parties = {person.id: person.parties for person in wish.people}
        callers = {
            way: tuple(extensions.party(house, party, drawn[way[1]]) for party in parties[way[0]])
            for way in record.ways
        }
        try:
            return await _bind_pins(
                house,
                msgspec.structs.replace(wish, callers=callers),
                msgspec.structs.replace(record, extensions=drawn),
                ground,
                noted,
            )
        except NumberPoolExhausted:
            if length == extensions.LONGEST:
                raise
    raise AssertionError("the last length either binds or raises")


async def _bind_pins(house: House, wish: Wish, record: Record, ground: Ground, noted: str) -> Session:
    """Binds the wish; with longer PINs where no number has room for more of that length."""
    if not record.has_pins:
        return await _bind_with(house, wish, record, ground, {}, noted)
    length = record.pin.length
    while True:
        chosen = pins.draw(house, record.ways, length)
        try:
            return await _bind_with(house, wish, record, ground, chosen, noted)
        except NumberPoolExhausted:
            if not pins.SHORTEST <= length < pins.LONGEST:
                raise
            length += 1


async def _bind_with(
    house: House, wish: Wish, record: Record, ground: Ground, chosen: Mapping[pins.Way, str], noted: str
) -> Session:
    if chosen:
        record = msgspec.structs.replace(record, pins=pins.sealed(house, wish.letters, chosen))
        if len(next(iter(chosen.values()))) >= pins.SHORTEST:  # a shorter one is only asked of a phone that is known
            secrets = {way: pins.party(house, pin) for way, pin in chosen.items()}
            wish = msgspec.structs.replace(wish, secrets=secrets)
    draft = _Draft(record, house.now_ms + wish.ttl_ms)
    bound, _ = await bindings.bind(house, wish, ground, draft.write, noted)
    await alarms.tell_low(house, record, bound.tight)
    if not bound.fresh:  # the same request before, answered then or not
        found = await records.held(house, wish.tenant, bound.holder)
        if found is not None:
            return sessions.told(house, *found)
    return draft.opened(bound, chosen)


class _Draft:
    """A session before its numbers are known: each has a place in it, which the pools fill in the event and
    `opened` in the session itself."""

    def __init__(self, record: Record, ends_ms: int) -> None:
        self._record = record
        self._ends_ms = ends_ms
        self._session: Session | None = None

    def write(self, holder: str, plan: Plan) -> tuple[dict[str, str | bytes | int], list[Fact]]:
        """What a bind stores: the record, what the pools' route reads, and the first events."""
        drawn = msgspec.structs.replace(self._record, lines=plan.lines)
        places = [filled(f"x{index}") for index in range(len(plan.lines))]
        now_ms = round(drawn.created_at * 1000)
        self._session = opened = sessions.shown(holder, drawn, places, self._ends_ms, at_ms=now_ms)
        fields: dict[str, str | bytes | int] = {
            "record": records.packed(drawn),
            "max_calls": drawn.max_concurrent_calls,
            "mode": drawn.mode,
            sessions.ENDS: self._ends_ms,
        }
        fields |= {name: ways for name, ways in stages.fields(drawn).items() if ways}
        if wakes := stages.next_ms(drawn.stages, now_ms):
            fields["wakes"] = wakes
        if late := records.late(drawn):
            fields["late"] = late
        leased = [
            fact("number.leased", None, {"number": place, "ways": line.ways})
            for place, line in zip(places, plan.lines, strict=True)
        ]
        return fields, [
            fact(
                "session.opened",
                None,
                msgspec.structs.asdict(opened) | {"tenant": drawn.tenant, PARTIES: drawn.parties_of},
            ),
            *leased,
        ]

    def opened(self, bound: Bound, chosen: Mapping[pins.Way, str]) -> Session:
        """The session that was written last, with its numbers and its PINs."""
        assert self._session is not None, "what was bound has been written"
        numbers = {filled(f"x{index}"): number for index, number in enumerate(bound.numbers)}
        for participant in self._session.participants:
            for proxy in participant.proxies:
                proxy.number = numbers[proxy.number]
                proxy.pin = chosen.get((participant.id, proxy.to))
        return self._session


async def _open_named(
    house: House, wish: Wish, record: Record, ground: Ground, virtual: Awaitable[int], key: str
) -> tuple[Session, bool]:
    mine = names.Holding(
        claim=wish.random.hex(),
        people=digest(record),
        lives=names.kept(wish.ttl_ms),
        candidates=ground.holders(wish.letters),
    )
    other, asked = await take_name(house, wish.tenant, key, mine)
    if other is not None:
        if digest(other[1]) != mine.people:
            raise UniqueNameConflict(
                "The unique_name belongs to an open session with other participants.", session=other[0].holder
            )
        return sessions.told(house, *other), False
    try:
        session = await _bind(house, wish, record, ground, virtual, mine.candidates[0])
    except Refused:
        await names.give_up(house, key, mine)
        raise
    if abs(house.now_ms - asked) < names.UNDOUBTED_MS or await names.still(house, key, mine):
        return session, True
    await house.leases.release(session.id, reason="replaced", events=[replaced()])
    await quotas.session_moved(house, wish.tenant, session.id, house.now_ms)
    raise _Lost


async def take_name(
    house: House, tenant: str, key: str, mine: names.Holding
) -> tuple[tuple[Holder, Record] | None, int]:
    """Claims the name: the open session that has it already, or None and when it became ours (ms)."""
    seen, asked = names.NOBODY, house.now_ms
    while (held := await names.claim(house, tenant, key, seen, mine)) is not None:
        other, ended = await _holder_of(house, tenant, held.holding)
        if other is not None:
            return other, asked
        if held.young and not ended and held.holding is not None and held.holding.claim != mine.claim:
            await asyncio.sleep(POLL)  # another request claimed it a moment ago, and is binding right now
            seen = names.NOBODY
        else:
            seen = held  # an ended session's, or a dead opener's: ours if nobody is faster
        asked = house.now_ms
    return None, asked


async def named_otherwise(house: House, record: Record) -> bool:
    """Has another open session this one's unique_name by now?"""
    if record.unique_name is None:
        return False
    holding = await names.holding(house, names.key(record.tenant, record.service, record.unique_name))
    return (await _holder_of(house, record.tenant, holding))[0] is not None


def replaced() -> Fact:
    """The last event of a session whose name went to another one while its opener was stopped."""
    return fact("session.closed", None, {"status": "closed", "closed_reason": "replaced"})


async def _holder_of(
    house: House, tenant: str, holding: names.Holding | None
) -> tuple[tuple[Holder, Record] | None, bool]:
    """The open session that a claim became, and whether it became one that has ended."""
    ended = False
    for session in holding.candidates if holding is not None else ():
        found = await records.held(house, tenant, session)
        if found is not None and sessions.live_view(*found, house.now_ms).status != "closed":
            return found, False
        ended = ended or found is not None
    return None, ended


def digest(record: Record) -> str:
    """Who takes part, in any order: keyed hashes alone, hashed once more so that the name's key links to nobody."""
    return blake2b(
        " ".join(sorted("+".join(person.parties) for person in record.people)).encode(), digest_size=16
    ).hexdigest()
