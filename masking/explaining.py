"""What a call would meet, told step by step, and nothing of it done: no slot is claimed, no event written, no intent or
budget used. The order is that of `masking.routes.claim` and of the pools' `route.lua`, and a test holds the two to the
same decisions.

No step repeats what was asked: the caller's number, and a dialled one that is not the tenant's own, may be a person's.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from masking import (
    barring,
    checks,
    extensions,
    guests,
    hindsight,
    intents,
    numbering,
    opening,
    records,
    reopening,
    services,
    stages,
)
from masking.budgets import Budget
from masking.events import moment_of, seconds
from masking.interactions import Attestation, Decision
from masking.refusals import CannotReopen, Invalid
from pools.amendments import NOWHERE
from pools.inventory import CALLABLE

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.records import Record
    from masking.services import Service
    from masking.trunks import TrunkSection
    from pools.grants import Holder, Standing
    from pools.inventory import PhoneNumber
    from pools.numbers import Number

Looked = Literal[
    "trunk", "spelling", "number", "caller", "history", "binding", "late", "limits", "pin", "app", "callee"
]
Asks = Literal["pin", "extension"]

SLACK: Final = 60.0  # seconds that a clock elsewhere may be behind ours
Spelled = Annotated[str, Meta(min_length=1, max_length=64)]


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who calls (null: withheld), what is dialled, by which trunk and when (null: now). Numbers are E.164, or spelled
    as the trunk's country does. `attestation`: what STIR would say of the caller. A past moment is told by the events
    of the archive; blocks, pauses and the number's own state are not looked back at."""

    from_: Spelled | None = msgspec.field(name="from")
    to: Spelled
    at: datetime | None = None
    trunk: Annotated[str, Meta(max_length=64)] | None = None
    attestation: Attestation | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One look: at what, what was found in a word, and a sentence for a person."""

    step: Looked
    found: str
    detail: str


class CalleeSees(msgspec.Struct, frozen=True, kw_only=True):
    """The virtual number that the callee sees and dials to call back, and the trunk it leaves by (null: any of its
    country)."""

    number: str
    country: str
    trunk: str | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What the call would come to. `asks`: what the caller is asked to key before anything else is decided.
    `forwarded`: the session has ended, and the call goes to its support number."""

    decision: Decision
    forwarded: bool = False
    asks: Asks | None = None
    at: datetime
    dialled: str | None = None
    session: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    sees: CalleeSees | None = None
    steps: list[Step]


class _Told(NamedTuple):
    """The story so far; each look adds a step or ends it."""

    house: House
    access: Access
    at_ms: int
    steps: list[Step]

    def look(self, step: Looked, found: str, detail: str) -> None:
        self.steps.append(Step(step=step, found=found, detail=detail))

    def end(
        self,
        decision: Decision,
        asks: Asks | None = None,
        number: PhoneNumber | None = None,
        session: str | None = None,
        way: tuple[str | None, str | None] = (None, None),
        sees: CalleeSees | None = None,
        *,
        forwarded: bool = False,
    ) -> Explanation:
        return Explanation(
            decision=decision,
            forwarded=forwarded,
            asks=asks,
            at=moment_of(self.at_ms),
            dialled=number.number if number is not None else None,
            session=session,
            from_=way[0],
            to=way[1],
            sees=sees,
            steps=self.steps,
        )


async def explain(house: House, access: Access, asked: Question) -> Explanation:
    """What the call would meet; `Invalid` for a trunk or a time that cannot be."""
    told = _Told(house, access, _at_ms(house, asked.at), [])
    trunk, country = _trunk(told, asked)
    countries = {country} if country else {one.country for one in house.config.trunk}
    if any(numbering.is_emergency(one, asked.to) for one in countries):
        told.look("spelling", "emergency", "An emergency number is never masked: the caller is told what to dial.")
        return told.end("emergency")
    dialled = _read(country, asked.to, "to")
    number = await _own_number(told, dialled, trunk)
    if number is None:
        return told.end("no_binding")
    past = told.at_ms < house.now_ms - SLACK * 1000
    if number.state not in CALLABLE and not past:
        return told.end("unavailable", number=number)
    caller = _caller(told, country, asked.from_)
    party = house.keyring.index(caller) if caller is not None else None
    if past:
        return await _then(told, number, party, asked, caller)
    standing = await house.leases.standing(number, party) if party is not None else None
    if standing is None or standing.until <= told.at_ms:
        return await _nobody(told, number, asked, caller)
    return await _somebody(told, number, standing, asked)


def _at_ms(house: House, at: datetime | None) -> int:
    if at is None:
        return house.now_ms
    if at.tzinfo is None:
        raise Invalid.field("at", "has no time zone", "RFC 3339 with a zone, like 2030-01-01T00:00:00Z")
    if seconds(at) < house.now() - SLACK:
        return round(seconds(at) * 1000)
    if seconds(at) > house.now() + checks.LONGEST:
        raise Invalid.field("at", "is too far away", "a time within the next 170 days")
    return max(house.now_ms, round(seconds(at) * 1000))


def _trunk(told: _Told, asked: Question) -> tuple[TrunkSection | None, str | None]:
    """The trunk the call comes by, where it is said or there is but one, and whose spelling counts."""
    trunks = told.house.config.trunk
    if asked.trunk is not None:
        trunk = told.house.config.trunk_named(asked.trunk)
        if trunk is None:
            raise Invalid.field("trunk", "is no trunk of this installation", "the name of one in the configuration")
    else:
        trunk = trunks[0] if len(trunks) == 1 else None
    countries = {one.country for one in trunks}
    country = trunk.country if trunk is not None else next(iter(countries)) if len(countries) == 1 else None
    if trunk is not None:
        told.look("trunk", trunk.name, f"Comes by {trunk.name}, where numbers are spelled as in {trunk.country}.")
    else:
        told.look("trunk", "any", "By whichever trunk it comes: the decision is the same.")
    return trunk, country


def _read(country: str | None, spelled: str, field: str) -> Number | None:
    if country is None and not spelled.startswith("+"):
        raise Invalid.field(field, "is spelled in a country's own way", "E.164, or the trunk it comes by as well")
    return numbering.read(country or "", spelled)


async def _own_number(told: _Told, dialled: Number | None, trunk: TrunkSection | None) -> PhoneNumber | None:
    """The tenant's virtual number that was dialled. Another tenant's looks like none at all."""
    if dialled is None:
        told.look("spelling", "unreadable", "What is dialled is no number in that country.")
        return None
    told.look("spelling", "read", "What is dialled is a number.")
    number = await told.house.inventory.find(dialled)
    if number is None or number.tenant != told.access.tenant:
        told.look("number", "unknown", "It is none of your virtual numbers: nobody is reached.")
        return None
    service = await services.lately(told.house, number.tenant, number.service)
    leaves = f"leaves by {number.trunk}" if number.trunk else f"leaves by any trunk of {number.country}"
    told.look("number", number.state, f"A {number.state} number of service {service.name}; {leaves}.")
    if trunk is not None and number.trunk and trunk.name != number.trunk:
        told.look("trunk", "another", f"The number is {number.trunk}'s; calls to it by {trunk.name} are taken too.")
    return number


def _caller(told: _Told, country: str | None, spelled: str | None) -> Number | None:
    caller = _read(country, spelled, "from") if spelled is not None else None
    if caller is None:
        told.look("caller", "withheld", "The caller's number says nothing: nobody is bound to it.")
    else:
        told.look("caller", "read", "The caller's number is a number.")
    return caller


async def _then(
    told: _Told, number: PhoneNumber, party: str | None, asked: Question, caller: Number | None
) -> Explanation:
    """A past moment, by the archive's events."""
    at = moment_of(told.at_ms)
    stood = await hindsight.standing(told.house, told.access.tenant, number.number, party, at) if party else None
    if stood is None:
        return await _nobody(told, number, asked, caller)
    common = (number, stood.session.id, (stood.source, stood.target))
    if (call := hindsight.call_near(stood, at)) is not None and call.started_at is not None:
        began = call.started_at.isoformat(timespec="seconds")
        told.look("history", call.status, f"{call.id} of this caller began at {began}: {call.decision}, {call.status}.")
    if not stood.is_live(at):
        rests = stood.until.isoformat(timespec="seconds")
        told.look("binding", "tombstone", f"The session had ended; until {rests} nobody else got this pair's number.")
        told.look("late", stood.session.late_call.policy, "So the session met calls that came too late.")
        return told.end("ended", None, *common)
    ends = stood.live_until.isoformat(timespec="seconds")
    told.look("binding", "live", f"A live session bound this caller to this number until {ends}.")
    refused = hindsight.refusal(stood, at)
    if refused is not None:
        told.look("limits", refused.decision, refused.detail)
        return told.end(refused.decision, None, *common)
    told.look("limits", "free", "Nothing of the session kept the call back; blocks are not looked back at.")
    if hindsight.asks_pin(stood, asked.attestation):
        told.look("pin", "asked", "The caller was asked for the session's PIN, unless the app had announced the call.")
        return told.end("pin", "pin", *common)
    shows = hindsight.sees(stood)
    shown = await told.house.inventory.find(shows) if shows is not None else None
    if shows is None or shown is None:
        told.look("callee", "rings", "The other participant's phone rang.")
        return told.end("routed", None, *common)
    told.look("callee", "rings", f"The other participant's phone rang and showed {shows}.")
    return told.end(
        "routed", None, *common, sees=CalleeSees(number=shows, country=shown.country, trunk=shown.trunk or None)
    )


async def _nobody(told: _Told, number: PhoneNumber, asked: Question, caller: Number | None) -> Explanation:
    """What `routes` makes of a caller whom nothing binds hangs on the service alone."""
    service = await services.lately(told.house, number.tenant, number.service)
    if service.number_model == "one_party":
        anybody = await told.house.leases.standing(number, guests.ANYBODY)
        if anybody is not None and anybody.until > told.at_ms:
            return await _somebody(told, number, anybody, asked, guest=caller)
    told.look("binding", "none", "Nothing binds this caller to this number, and no ended session rests on it.")
    if number.number == service.dispatch_number:
        told.look("app", "dispatch", "The app says whom this call reaches; unless it does, it is a stranger's call.")
        return told.end("no_binding", number=number)
    pin, extension = service.out_of_session == "pin", service.number_model == "extension"
    if not pin and not extension:
        _may_introduce(told, service)
        return told.end("no_binding", number=number)
    meant = await intents.standing(told.house, number, told.at_ms)
    standing = await told.house.leases.standing(number, meant) if meant is not None else None
    if meant is not None and standing is not None and standing.until > told.at_ms:
        told.look("pin", "intent", "A participant is about to dial this number: the caller is taken for that one.")
        return await _somebody(told, number, standing, asked, intended=True)
    if extension:
        told.look("pin", "extension", "The caller is asked for the extension of whom to reach.")
        return told.end("no_binding", "extension", number)
    _may_introduce(told, service)
    told.look("pin", "asked", "The service lets whoever calls key a PIN.")
    return told.end("pin", "pin", number)


def _may_introduce(told: _Told, service: Service) -> None:
    """Has the service an app that may know the caller?"""
    if service.out_of_session_url is not None:
        told.look("app", "asked", "The app may open a session for the caller; unless it does, it is a stranger's call.")


async def _somebody(
    told: _Told,
    number: PhoneNumber,
    standing: Standing,
    asked: Question,
    *,
    intended: bool = False,
    guest: Number | None = None,
) -> Explanation:
    found = await records.held(told.house, told.access.tenant, standing.holder)
    if found is None or found[0].targets[standing.ordinal] == NOWHERE:
        told.look("binding", "none", "The session is forgotten, or was to have this caller and never did.")
        return told.end("no_binding", number=number)
    holder, record = found[0], guests.calling(told.house, found[1], guest)
    source, _, target = holder.targets[standing.ordinal].partition("|")
    common = (number, holder.holder, (source, target))
    ends = moment_of(standing.expires).isoformat(timespec="seconds")
    if holder.status != "open" or min(standing.expires, holder.expires) <= told.at_ms:
        rests = moment_of(standing.until).isoformat(timespec="seconds")
        told.look("binding", "tombstone", f"The session has ended; until {rests} nobody else gets this pair's number.")
        late = await _late(told, holder, record, source)
        if late != "reopen":
            return await _forwarded(told, number, holder, record, source) if late else told.end("ended", None, *common)
    else:
        told.look("binding", "live", f"A live session binds this caller to this number until {ends}.")
    refused = await _limited(told, holder, source, target, record)
    if refused is not None:
        return told.end(refused, None, *common)
    if not intended and await _asks_pin(told, number, record, source, target, asked.attestation):
        return told.end("pin", "pin", *common)
    service = await services.looked(told.house, number.tenant, number.service)
    if service is not None and service.intercept_url is not None:
        without = "goes on" if service.intercept_on_error == "allow" else "is refused"
        told.look("app", "asked", f"The app may refuse the call; without an answer it {without}.")
    return told.end("routed", None, *common, sees=await _sees(told, number, holder, record, source, target))


async def _late(told: _Told, holder: Holder, record: Record, source: str) -> Literal["reopen", "forward"] | None:
    """What becomes of a call on an ended session; None: the announcement."""
    policy = record.late_call.policy
    if policy == "forward":
        told.look("late", "forward", "The session's support number takes the calls that come too late.")
        return "forward"
    if policy == "reopen" and await _reopens(told, holder, record, source):
        told.look("late", "reopen", "The call opens the session again.")
        return "reopen"
    told.look("late", "announce", "The caller hears that the trip has ended.")
    return None


async def _reopens(told: _Told, holder: Holder, record: Record, source: str) -> bool:
    if holder.until <= told.at_ms or not reopening.welcome_back(holder, record, source, told.at_ms):
        return False
    try:
        await reopening.numbers_work(told.house, holder)
    except CannotReopen:
        return False
    return not await opening.named_otherwise(told.house, record)


async def _forwarded(told: _Told, number: PhoneNumber, holder: Holder, record: Record, source: str) -> Explanation:
    common = (number, holder.holder, (source, None))
    refused = await _limited(told, holder, source, None, record)
    if refused is not None:
        return told.end(refused, None, *common)
    sees = CalleeSees(number=number.number, country=number.country, trunk=number.trunk or None)
    told.look("callee", "support", f"The support number rings and sees {number.number}.")
    return told.end("ended", None, *common, sees, forwarded=True)


async def _limited(told: _Told, holder: Holder, source: str, target: str | None, record: Record) -> Decision | None:
    """What refuses a bound caller, in the order in which `route.lua` and then `routes` look. Without a target the call
    goes to the support number, which no direction and no block keeps it from."""
    fields = holder.fields
    most = int(fields.get("max_calls") or 0)
    hourly = record.max_call_attempts_per_hour
    if fields.get("paused"):
        told.look("limits", "blocked", "The session is paused.")
        return "blocked"
    if fields.get("mode") == b"message_only":
        told.look("limits", "mode", "The session is for messages only.")
        return "mode"
    if target and f"{source}|{target}" in stages.denied(fields, told.at_ms):
        told.look("limits", "direction", "The session's direction keeps this participant from calling the other.")
        return "direction"
    if most and holder.calls >= most:
        told.look("limits", "limit", f"{holder.calls} of {most} calls at once are up.")
        return "limit"
    if target and not record.person(target).sealed:
        told.look("callee", "nobody", "Nobody has called the participant yet, whom it could call back.")
        return "unavailable"
    if target and await barring.between(told.house, record, record.person(source), record.person(target)):
        told.look("limits", "blocked", "A block keeps this participant from reaching the other.")
        return "blocked"
    if hourly and not await Budget(f"attempts:{holder.holder}", hourly, 3600).left(told.house):
        told.look("limits", "limit", f"{hourly} attempts an hour have been made.")
        return "limit"
    told.look("limits", "free", "Nothing of the session keeps the call back.")
    return None


async def _asks_pin(
    told: _Told, number: PhoneNumber, record: Record, source: str, target: str, attestation: Attestation | None
) -> bool:
    """Is the caller's number not proof enough, and does no intent stand in for the PIN?"""
    enough = record.pin.policy != "always" and (record.caller_trust == "any" or attestation == "A")
    if enough or not record.pins:
        return False
    announced = extensions.dials(told.house, record.person(source).party, record.extensions.get(target))
    if await intents.standing(told.house, number, told.at_ms, announced) is not None:
        told.look("pin", "intent", "The app has said that this participant is about to call.")
        return False
    told.look("pin", "asked", "The caller is asked for the session's PIN.")
    return True


async def _sees(
    told: _Told, number: PhoneNumber, holder: Holder, record: Record, source: str, target: str
) -> CalleeSees:
    shows = holder.numbers[record.line(target, source)]
    shown = number if shows == number.number else await told.house.inventory.find(shows)
    country, trunk = (shown.country, shown.trunk or None) if shown is not None else (number.country, None)
    by = f"by {trunk}" if trunk else f"by any trunk of {country}"
    told.look("callee", "rings", f"The other participant's phone rings and sees {shows}; the call leaves {by}.")
    return CalleeSees(number=shows, country=country, trunk=trunk)
