"""Who is reached when a participant dials a virtual number: one question, one Redis round trip.

`claim` asks the shard of the dialled number which session binds the caller there, takes the session's call slot and
writes `call.initiated` (or `call.refused`) in the same script. "No binding", "another tenant's", "wrong caller",
"unknown number" and "withheld caller" are one answer, at one price.
"""

from __future__ import annotations

import contextlib
from math import inf
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from masking import (
    barring,
    consent,
    extensions,
    guests,
    intents,
    interactions,
    pins,
    records,
    reopening,
    services,
    sessions,
    stages,
)
from masking.access import DEFAULT_TENANT, tenants
from masking.budgets import Budget
from masking.events import append_loose, fact, filled
from masking.interactions import Attestation
from masking.pins import Keyed
from masking.questions import Question
from masking.sentences import OURS, Announcements
from pools import grants
from pools.inventory import CALLABLE, PhoneNumber
from pools.numbers import Number
from pools.redis import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from masking.house import House
    from masking.questions import Advice
    from masking.records import Record
    from masking.services import Service

RefusedBy = Literal["no_binding", "ended", "pin", "limit", "mode", "direction", "blocked", "unavailable"]


WANTED: Final = ("record", "numbers")
WRONG_PINS: Final = 5  # in so many seconds, of one caller, and on one number
WRONG_PINS_SECONDS: Final = 600


Told = Literal["notice", "beep", "nothing"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the edge needs for the second leg. Phones cannot print themselves; all else may be logged."""

    interaction: str
    session: str
    tenant: str
    service: str
    owner: str
    dialled: str  # the X the caller dialled, E.164
    from_participant: str
    to_participant: str  # "": nobody of the session, but its support number
    from_role: str | None
    to_role: str | None
    callee: Number
    shows: str  # the X the callee sees, and dials to call back
    trunk: str | None  # the trunk `shows` leaves by; None: any trunk of its country
    country: str  # of `shows`
    record: bool
    recording: str | None  # the id its recording will have, when recorded
    told: Told = "notice"  # what both hear before it is
    recordable: bool = True  # may it be recorded, should the app ask for it in the call?
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    caller_language: str | None
    callee_language: str | None
    further: tuple[Number, ...] = ()  # phones of the callee's that ring in turn, after the first
    caller_extension: str | None = None  # what whoever calls the caller, or the callee, keys to say whom
    callee_extension: str | None = None
    attempts_per_hour: int = 0
    sliding: bool = False  # the session lives on after each call
    ends_with_session: bool = False  # by expiry, or by `:close`
    confirmed_by_key: bool = False  # whoever answers presses a key before the caller is let in
    decision: Literal["routed", "pin", "ended"] = "routed"  # by what the caller was let through
    question: Question | None = None  # what the app is asked before the callee's phone rings
    announcements: Announcements = OURS


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no call. Its `call.refused` is on its way already: in the session's stream, or, when nobody is bound
    to (number, caller) and `session` is None, among the events of no session. `reason`: where the decision is too
    short a word."""

    interaction: str
    decision: RefusedBy
    tenant: str | None = None
    session: str | None = None
    reason: str | None = None
    announcements: Announcements = OURS


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A call that begins. `interaction` is its own fresh `int_…` id, so that a repeated claim is the same claim;
    `owner` an edge's heartbeat name; `trunk` where it came from; `at` when; `attestation` what STIR said of its
    caller. `direction`: ``outbound``, the app asks for the call, and no trunk brought it."""

    interaction: str
    owner: str
    trunk: str
    at: float
    attestation: Attestation | None = None
    dialled: str = ""  # the X, where it is one of ours
    direction: Literal["inbound", "outbound"] = "inbound"


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """The caller is asked for a PIN: a phone whose session wants it, whose `route` waits with its slot taken; or
    whoever dials a number of a service that lets strangers key one, whether or not any session is live there. Or, in a
    service of extensions, for one (`extension`), and a stranger may key its PIN all the same (`pins`)."""

    attempt: Attempt
    number: PhoneNumber
    caller: str | None  # the party; None: withheld
    retries: int
    route: Route | None = None
    pin: Keyed | None = None
    pins: bool = True
    extension: bool = False
    announcements: Announcements = OURS

    @property
    def longest(self) -> int:
        """Digits after which no more are waited for."""
        return pins.LONGEST if self.pins else extensions.LONGEST

    def suffices(self, digits: str) -> bool:
        """Is it the right PIN already? Only known of a phone that has but one."""
        return self.pin is not None and self.pin.opens(digits)

    @property
    def budgets(self) -> list[Budget]:
        """Wrong PINs are counted per caller and per X."""
        place = Budget(f"pin:x:{self.number.shard}:{self.number.position}", WRONG_PINS, WRONG_PINS_SECONDS)
        if self.caller is None:
            return [place]
        return [Budget(f"pin:c:{self.caller}", WRONG_PINS, WRONG_PINS_SECONDS), place]


Known = Route | Refusal | Challenge


class Stranger(msgspec.Struct, frozen=True, kw_only=True):
    """A caller whom nobody is bound to, in a service whose app may make it known (`masking.introductions`), or who has
    dialled the number behind which the app says who is: it is asked at `url`, and has `within` seconds. `otherwise`:
    what the caller is asked if the app does not; None: nothing. `caller` None: withheld."""

    attempt: Attempt
    number: PhoneNumber
    caller: Number | None
    service: Service
    asked: Literal["call.out_of_session", "call.dispatch"]
    url: str
    within: float
    otherwise: Challenge | None


Claimed = Known | Stranger


async def claim(
    house: House,
    *,
    called: Number,
    caller: Number | None,
    interaction: str,
    owner: str,
    trunk: str,
    at: float,
    attestation: Attestation | None = None,
) -> Claimed:
    """The route from `caller` over `called`, with the call slot taken for `owner` (an edge's heartbeat name).

    Raises `pools.redis.Unavailable` when Redis cannot answer: the caller gets 503, nobody is routed unmasked.
    """
    attempt = Attempt(interaction=interaction, owner=owner, trunk=trunk, at=at, attestation=attestation)
    number = await house.inventory.find(called)
    if number is None:
        return _stranger(house, attempt, "no_binding", None)
    if number.state not in CALLABLE:
        return _stranger(house, attempt, "unavailable", number)
    attempt = msgspec.structs.replace(attempt, dialled=number.number)
    # A withheld caller asks as the dialled number itself, which nobody can be: the same question at the same price.
    party = house.keyring.index(caller if caller is not None else called)
    barring.look(house, number.tenant)
    services.look(house, number.tenant, number.service)
    found = await _ask(house, number, party, attempt)
    if found.decision == "no_binding":
        return await _nobody(house, number, caller, attempt)
    claimed = await _claimed(house, number, found, attempt)
    if isinstance(claimed, Refusal):
        return claimed
    return await _trusted(house, number, party, *claimed, attempt)


async def claim_outbound(house: House, number: PhoneNumber, party: str, attempt: Attempt) -> Route | Refusal:
    """As `claim`, of a call that the app asks for: as if `party` dialled `number`. Nobody's word about who calls is
    needed, so no PIN is asked; and an ended session stays ended."""
    claimed = await _claimed(house, number, await _ask(house, number, party, attempt), attempt)
    return claimed if isinstance(claimed, Refusal) else claimed[0]


async def _ask(house: House, number: PhoneNumber, party: str, attempt: Attempt) -> grants.Route:
    """Asks the shard of the number; a yes has taken the slot and is journaled, and so is a no of somebody's session."""
    common = {
        "interaction": attempt.interaction,
        "dialled": attempt.dialled,
        "from": filled("from"),
        "to": filled("to"),
    }
    if attempt.attestation is not None:
        common["attestation"] = attempt.attestation
    begun = common | {"direction": attempt.direction}
    if attempt.trunk:
        begun["trunk"] = attempt.trunk

    async def asked(channel: grants.Channel, begun: Mapping[str, object]) -> grants.Route:
        return await house.leases.route(
            number,
            party,
            attempt.interaction,
            attempt.owner,
            msgspec.json.encode({"tenant": number.tenant, "trunk": attempt.trunk, "at": attempt.at}),
            fact("call.initiated", attempt.at, begun),
            fact(
                "call.refused",
                attempt.at,
                common | {"decision": filled("decision"), "reason": filled("decision"), "legs": []},
            ),
            channel,
            want=WANTED,
        )

    found = await asked("voice" if attempt.direction == "inbound" else "refuse", begun)
    if found.decision != "late":
        return found
    policy = records.unpacked(found.fields["record"]).late_call.policy
    if policy == "forward":
        found = await asked("forward", begun | {"to": None, "decision": "ended", "forwarded": True})
    elif policy == "reopen":
        await reopening.for_late_call(house, found.holder, found.source)
    # It is live by now, as reopened or by chance, or else has ended for good.
    return await asked("refuse", begun) if found.decision == "late" else found


async def _claimed(
    house: House, number: PhoneNumber, found: grants.Route, attempt: Attempt, guest: Number | None = None
) -> tuple[Route, Record] | Refusal:
    """What the shard's answer comes to. `guest`: the number of a caller of a one-party session, unless withheld."""
    if found.decision == "no_binding":
        return _stranger(house, attempt, "no_binding", number)
    if found.decision != "routed" and found.decision != "forward":
        assert found.decision != "late", "that is settled where it is asked"
        return Refusal(
            interaction=attempt.interaction,
            decision=found.decision,
            tenant=number.tenant,
            session=found.holder,
            announcements=records.unpacked(found.fields["record"]).announcements,
        )
    record = records.unpacked(found.fields["record"])
    if found.decision == "forward":
        route = _forwarded(house, number, found, record, attempt)
    else:
        numbers = found.fields["numbers"].decode().split()
        way = (found.source, found.target)
        record = guests.calling(house, record, guest)
        if not record.person(found.target).sealed:
            call = interactions.Call(interaction=attempt.interaction, session=found.holder, tenant=number.tenant)
            return await _refuse(house, call, way, attempt.dialled, "unavailable", "nobody_called", attempt.at)
        route = await route_of(house, number, found.holder, numbers, way, record, attempt)
        if await barring.between(house, record, record.person(found.source), record.person(found.target)):
            return await _refuse_claimed(house, route, "blocked", "blocked", attempt.at)
    if route.attempts_per_hour and not found.repeated:
        budget = Budget(f"attempts:{route.session}", route.attempts_per_hour, 3600)
        if not await budget.spend(house):
            return await _refuse_claimed(house, route, "limit", "attempts", attempt.at)
    if guest is not None and not found.repeated:
        await guests.remember(house, route.session, guest)
    if route.sliding and not found.repeated:
        with contextlib.suppress(Unavailable):  # the call has its slot, and is told to slide the session when it ends
            await sessions.slide(house, route.session)
    service = await services.looked(house, number.tenant, number.service)
    if service is not None and service.intercept_url is not None and route.to_participant:
        question = _question(service, service.intercept_url, route, record, attempt)
        route = msgspec.structs.replace(route, question=question)
    return route, record


def _question(service: Service, url: str, route: Route, record: Record, attempt: Attempt) -> Question:
    """What the service's app is asked about a call that has its slot: who calls whom, in tokens."""
    return Question(
        id="req_" + attempt.interaction.removeprefix("int_"),
        type="call.intercept",
        tenant=record.tenant,
        service=service,
        url=url,
        within=service.intercept_timeout_ms / 1000,
        at=attempt.at,
        session=route.session,
        data={
            "interaction": route.interaction,
            "unique_name": record.unique_name,
            "metadata": record.metadata,
            "from": {"participant": route.from_participant, "role": route.from_role},
            "to": {"participant": route.to_participant, "role": route.to_role},
            "dialled": route.dialled,
            "trunk": attempt.trunk,
            "attestation": attempt.attestation,
        },
    )


async def advised(house: House, route: Route, advice: Advice, at: float) -> Refusal | None:
    """What the app's advice makes of the call that waited: nothing, or a refusal, told and its slot freed."""
    question, answer = route.question, advice.answer
    assert question is not None, "nobody was asked"
    if answer is not None and answer.verdict == "deny":
        reason = f"intercept:{answer.reason}" if answer.reason is not None else "intercept"
        return await _refuse_claimed(house, route, "blocked", reason, at)
    if answer is None and question.service.intercept_on_error == "deny":
        return await _refuse_claimed(house, route, "blocked", "intercept_failed", at)
    return None


async def _trusted(
    house: House, number: PhoneNumber, party: str, route: Route, record: Record, attempt: Attempt
) -> Route | Challenge:
    """The route, when the caller's number is proof enough for the session, or the app has said that it is about to
    call; else it is asked for its PIN."""
    enough = record.pin.policy != "always" and (record.caller_trust == "any" or attempt.attestation == "A")
    if enough or not record.pins or not route.to_participant:
        return route
    extension = record.extensions.get(route.to_participant)
    announced = extensions.dials(house, record.person(route.from_participant).party, extension)
    if await intents.take(house, number, announced) is not None:  # whichever of their phones they call from
        return route
    chosen = pins.unsealed(house, route.session, record.pins)
    return Challenge(
        attempt=attempt,
        number=number,
        caller=party,
        retries=record.pin.retries,
        route=route,
        pin=Keyed(chosen[route.from_participant, route.to_participant]),
    )


async def _nobody(house: House, number: PhoneNumber, caller: Number | None, attempt: Attempt) -> Claimed:
    """Nobody is bound to (X, caller). What comes next hangs on the service X belongs to alone, so that it tells a
    stranger nothing of who else is."""
    service = await services.lately(house, number.tenant, number.service)
    if number.number == service.dispatch_number and service.intercept_url is not None:
        return Stranger(
            attempt=attempt,
            number=number,
            caller=caller,
            service=service,
            asked="call.dispatch",
            url=service.intercept_url,
            within=service.intercept_timeout_ms / 1000,
            otherwise=None,
        )
    if service.number_model == "one_party":
        found = await _ask(house, number, guests.ANYBODY, attempt)
        if found.decision != "no_binding":
            claimed = await _claimed(house, number, found, attempt, caller)
            return claimed if isinstance(claimed, Refusal) else claimed[0]
    asks_pin, asks_extension = service.out_of_session == "pin", service.number_model == "extension"
    challenge = None
    if asks_pin or asks_extension:
        meant = await intents.take(house, number)
        if meant is not None:
            claimed = await _claimed(house, number, await _ask(house, number, meant, attempt), attempt)
            return claimed if isinstance(claimed, Refusal) else claimed[0]
        challenge = Challenge(
            attempt=attempt,
            number=number,
            caller=house.keyring.index(caller) if caller is not None else None,
            retries=pins.NOBODY.retries,
            pins=asks_pin,
            extension=asks_extension,
            announcements=service.announcements,
        )
    if service.out_of_session_url is not None and not asks_extension:
        return Stranger(
            attempt=attempt,
            number=number,
            caller=caller,
            service=service,
            asked="call.out_of_session",
            url=service.out_of_session_url,
            within=service.out_of_session_timeout_ms / 1000,
            otherwise=challenge,
        )
    return challenge or _stranger(house, attempt, "no_binding", number, words=service.announcements)


async def vouched(house: House, number: PhoneNumber, party: str, attempt: Attempt) -> Route | Refusal:
    """The route of a caller whom the app has just made known, over the session's `number` instead of the one that was
    dialled: nothing more is asked."""
    claimed = await _claimed(house, number, await _ask(house, number, party, attempt), attempt)
    return claimed if isinstance(claimed, Refusal) else msgspec.structs.replace(claimed[0], question=None)


def turned_away(house: House, stranger: Stranger, reason: str, problem: Mapping[str, object] | None = None) -> Refusal:
    """What every stranger meets. `reason` and `problem` are for the app, which reads them in the event."""
    words = stranger.service.announcements
    return _stranger(house, stranger.attempt, "no_binding", stranger.number, reason, problem, words)


# ---- PINs ----------------------------------------------------------------------------------------------------------


async def may_key(house: House, challenge: Challenge) -> bool:
    """Has the caller, and has the number, a wrong PIN left? Of extensions nobody counts."""
    return challenge.extension or all([await budget.left(house) for budget in challenge.budgets])


async def keyed(house: House, challenge: Challenge, digits: str) -> Known | None:
    """Who keyed these digits; None when they are wrong. A try at a PIN is counted before it is judged, and given back
    when it was right: however many calls try at once, no more tries are judged than there are."""
    if challenge.extension and len(digits) <= extensions.LONGEST:
        return await _reached_by(house, challenge, digits)
    if not challenge.pins:
        return None
    spent: list[Budget] = []
    for budget in challenge.budgets:
        if not await budget.spend(house):
            for one in spent:
                await one.give_back(house)
            return await give_up(house, challenge)
        spent.append(budget)
    found = await _opened_by(house, challenge, digits)
    if found is not None:
        for one in spent:
            await one.give_back(house)
    return found


async def _reached_by(house: House, challenge: Challenge, digits: str) -> Known | None:
    """Whom the caller means by an extension; its session may want a PIN besides."""
    if challenge.caller is None:
        return None
    number, attempt = challenge.number, challenge.attempt
    party = extensions.party(house, challenge.caller, digits)
    found = await _ask(house, number, party, attempt)
    if found.decision == "no_binding":
        return None
    claimed = await _claimed(house, number, found, attempt)
    if isinstance(claimed, Refusal):
        return claimed
    asked = await _trusted(house, number, party, *claimed, attempt)
    return msgspec.structs.replace(asked, caller=challenge.caller) if isinstance(asked, Challenge) else asked


async def _opened_by(house: House, challenge: Challenge, digits: str) -> Route | Refusal | None:
    if challenge.route is not None:
        return _by_pin(challenge.route) if challenge.suffices(digits) else None
    if not pins.SHORTEST <= len(digits) <= pins.LONGEST:
        return None
    party = pins.party(house, digits)
    if await house.leases.bound(challenge.number, party, house.now_ms) is None:
        return None  # an ended trip's is as wrong as any
    found = await _ask(house, challenge.number, party, challenge.attempt)
    claimed = await _claimed(house, challenge.number, found, challenge.attempt)
    return claimed if isinstance(claimed, Refusal) else _by_pin(claimed[0])


def _by_pin(route: Route) -> Route:
    return msgspec.structs.replace(route, decision="pin")


async def give_up(house: House, challenge: Challenge) -> Refusal:
    """No PIN was keyed that opens anything: tells so, and frees the slot that waited."""
    if challenge.route is None:
        decision: RefusedBy = "pin" if challenge.pins else "no_binding"
        return _stranger(house, challenge.attempt, decision, challenge.number, words=challenge.announcements)
    return await _refuse_claimed(house, challenge.route, "pin", "pin", challenge.attempt.at)


async def _refuse_claimed(house: House, route: Route, decision: RefusedBy, reason: str, at: float) -> Refusal:
    call = interactions.Call.of(route)
    way = (route.from_participant, route.to_participant or None)
    refused = await _refuse(house, call, way, route.dialled, decision, reason, at)
    return msgspec.structs.replace(refused, announcements=route.announcements)


async def _refuse(
    house: House,
    call: interactions.Call,
    way: tuple[str, str | None],
    dialled: str,
    decision: RefusedBy,
    reason: str,
    at: float,
) -> Refusal:
    """Tells that the call, which has its slot, is refused; that frees the slot."""
    await interactions.refused(
        house,
        interaction=call.interaction,
        decision=decision,
        at=at,
        session=call.session,
        data={"from": way[0], "to": way[1], "reason": reason, "dialled": dialled},
    )
    return Refusal(
        interaction=call.interaction, decision=decision, tenant=call.tenant, session=call.session, reason=reason
    )


def _stranger(
    house: House,
    attempt: Attempt,
    decision: RefusedBy,
    number: PhoneNumber | None,
    reason: str | None = None,
    problem: Mapping[str, object] | None = None,
    words: Announcements = OURS,
) -> Refusal:
    """Nobody is bound here. What an unknown number was is not kept: it may be a person's."""
    data: dict[str, object] = {
        "interaction": attempt.interaction,
        "decision": decision,
        "reason": reason or decision,
        "dialled": number.number if number is not None else None,
        "trunk": attempt.trunk,
    }
    if attempt.attestation is not None:
        data["attestation"] = attempt.attestation
    if problem is not None:
        data["problem"] = problem
    tenant = number.tenant if number is not None else None
    append_loose(house, tenant, "call.refused", attempt.at, data)
    return Refusal(interaction=attempt.interaction, decision=decision, tenant=tenant, announcements=words)


async def route_of(
    house: House,
    number: PhoneNumber,
    session: str,
    numbers: Sequence[str],
    way: tuple[str, str],
    record: Record,
    attempt: Attempt,
) -> Route:
    """The route of `way` (from, to) over `number`; `numbers` are the session's."""
    caller, callee = map(record.person, way)
    shows = numbers[record.line(callee.id, caller.id)]
    phones = records.phones(house, session, callee)
    shown = number if shows == number.number else await house.inventory.find(shows)
    stage = stages.current(record.stages, round(attempt.at * 1000))
    owed = consent.strictest((record.consent.owed_to(caller), record.consent.owed_to(callee)))
    recorded = (stage is not None and stage.record or record.record) == "always" and owed != "never"
    return Route(
        interaction=attempt.interaction,
        session=session,
        tenant=record.tenant,
        service=record.service,
        owner=attempt.owner,
        dialled=attempt.dialled,
        from_participant=caller.id,
        to_participant=callee.id,
        from_role=caller.role,
        to_role=callee.role,
        callee=phones[0],
        further=phones[1:],
        shows=shows,
        trunk=(shown.trunk or None) if shown else None,
        country=shown.country if shown else number.country,
        record=recorded,
        recording=recording_of(attempt.interaction) if recorded else None,
        told=_told(record, owed),
        recordable=owed != "never",
        ring_timeout=record.ring_timeout,
        call_time_limit=record.call_time_limit,
        warning_at=record.warning_at,
        caller_language=caller.language,
        callee_language=callee.language,
        caller_extension=record.extensions.get(caller.id),
        callee_extension=record.extensions.get(callee.id),
        announcements=record.announcements,
        attempts_per_hour=record.max_call_attempts_per_hour,
        sliding=record.sliding > 0,
        ends_with_session=record.on_expiry_in_call == "hangup",
        confirmed_by_key=record.answer_confirm == "keypress",
    )


def recording_of(interaction: str) -> str:
    """The id of a call's recording: a call has one."""
    return "rec_" + interaction.removeprefix("int_")


def _told(record: Record, owed: consent.Duty) -> Told:
    """What both hear before they are recorded, when the stricter place of the two asks that much."""
    if owed == "beep":
        return "beep"
    return "nothing" if owed == "one_party" and record.recording_notice == "none" else "notice"


def _forwarded(house: House, number: PhoneNumber, found: grants.Route, record: Record, attempt: Attempt) -> Route:
    """A late call's route to the support number, which sees the number that was dialled. It is nobody's conversation of
    the session's, so it is not recorded."""
    caller = next((person for person in record.people if person.id == found.source), None)  # or replaced since
    return Route(
        interaction=attempt.interaction,
        session=found.holder,
        tenant=record.tenant,
        service=record.service,
        owner=attempt.owner,
        dialled=attempt.dialled,
        from_participant=found.source,
        to_participant="",
        from_role=caller.role if caller else None,
        to_role=None,
        callee=record.late_call.number(house, found.holder[-22:]),
        shows=number.number,
        trunk=number.trunk or None,
        country=number.country,
        record=False,
        recording=None,
        recordable=False,
        ring_timeout=record.ring_timeout,
        call_time_limit=record.call_time_limit,
        warning_at=record.warning_at,
        caller_language=caller.language if caller else None,
        callee_language=None,
        attempts_per_hour=record.max_call_attempts_per_hour,
        announcements=record.announcements,
        decision="ended",
    )


async def seconds_left(house: House, route: Route) -> float:
    """How long the session of a call goes on; `inf` where its end is not the call's, or Redis has forgotten it."""
    ends = await house.leases.ends(route.session) if route.ends_with_session else None
    return (ends - house.now_ms) / 1000 if ends is not None else inf


async def tenant_of_trunk(house: House, trunk: str) -> str:
    """Whose numbers leave by the trunk: the tenant of an event that belongs to no session; `default` when nobody's do.

    It walks the inventory, so it is for rare events (an emergency number dialled), after the caller has its answer.
    """
    for tenant in await tenants(house):
        for service in await services.listing(house, tenant):
            last = ""
            while page := await house.inventory.list(tenant, service.id, after=last, limit=500):
                if any(number.trunk == trunk for number in page):
                    return tenant
                last = page[-1].number
    return DEFAULT_TENANT
