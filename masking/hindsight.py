"""What a call would have met at a past moment, as the archive's events tell it.

The sessions that had both the number and the caller are folded up to that moment, their ends and quarantines reckoned
as the pools would have. Not looked back at are what no event tells: blocks, pauses, intents, the number's own state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec

from masking import archive, directions, interactions, shapes, stages
from masking.events import Event, seconds
from masking.interactions import Attestation, Decision, Interaction

if TYPE_CHECKING:
    from masking.house import House
    from masking.records import Person
    from masking.sessions import Session

NEAR: Final = 60.0  # seconds around the moment in which a call that there was is worth telling of
ATTEMPTS: Final = timedelta(hours=1)


class Stood(NamedTuple):
    """What bound a caller to a number then: a session as it was, the way from the caller, until when it was live, and
    until when its tombstone stood. `calls`: all there ever were on the session."""

    session: Session
    source: str
    target: str
    live_until: datetime
    until: datetime
    calls: list[Interaction]

    def is_live(self, at: datetime) -> bool:
        return self.session.closed_at is None and at < min(self.live_until, self.session.expires_at)


async def standing(house: House, tenant: str, number: str, party: str, at: datetime) -> Stood | None:
    """What bound the caller (a blind index) to the number at `at`: a live session, or the tombstone of one."""
    assert house.archive is not None, "the past is asked for where the archive is"
    found: list[Stood] = []
    async with house.archive.connect() as connection:
        for name, participants in await archive.sessions_between(connection, tenant, number, party, seconds(at)):
            events = [
                msgspec.json.decode(body, type=Event) for body in await archive.events_of(connection, tenant, name)
            ]
            stood = _stood(events, number, participants, at)
            if stood is not None and stood.is_live(at):
                return stood
            if stood is not None and at < stood.until:
                found.append(stood)
    return max(found, key=lambda one: one.until, default=None)


def _stood(events: Sequence[Event], number: str, participants: set[str], at: datetime) -> Stood | None:
    """Who of the participants dialled the number to reach whom, and until when: of a session's events."""
    shape: Session | None = None
    way: tuple[str, str] | None = None
    lost: datetime | None = None  # when the way had another number, or nobody there any more
    for event in events:
        if event.occurred_at > at:
            break
        if shape is not None:
            shape = shapes.after(shape, event)
        elif event.type == "session.opened":
            shape = shapes.opened(event)
        else:
            continue
        now = _way(shape, number, participants)
        if now is not None:
            way, lost = now, None
        elif way is not None and lost is None:
            lost = event.occurred_at
        # Told in one step with the loss: the number works on for whoever had it until then.
        if lost == event.occurred_at and event.type == "number.released" and event.data.get("number") == number:
            lost = datetime.fromisoformat(str(event.data["until"])) if "until" in event.data else lost
    if shape is None or way is None:
        return None
    ends = min(shape.closed_at or shape.expires_at, shape.expires_at)
    # A number that was given up rests from the end of its overlap on, even where the session ended before.
    until = (lost or ends) + timedelta(seconds=shape.pair_quarantine)
    return Stood(shape, *way, min(lost or ends, ends), until, interactions.fold(events))


def _way(session: Session, number: str, participants: set[str]) -> tuple[str, str] | None:
    for participant in session.participants:
        if participant.id in participants or participants == {""}:
            for proxy in participant.proxies:
                if proxy.number == number and proxy.extension is None:
                    return participant.id, proxy.to
    return None


class Refused(NamedTuple):
    """Why a bound caller would have been refused, in a sentence."""

    decision: Decision
    detail: str


def refusal(stood: Stood, at: datetime) -> Refused | None:
    """What of the session would have kept the call back, in the order in which the route looks."""
    session = stood.session
    if session.mode == "message_only":
        return Refused("mode", "The session was for messages only.")
    stage = stages.current(session.stages, round(seconds(at) * 1000))
    direction = stage.direction if stage is not None else session.direction
    people = cast("list[Person]", session.participants)  # a direction asks of them their ids and roles alone
    if f"{stood.source}|{stood.target}" in directions.denied(direction, people).split():
        return Refused("direction", "The session's direction kept this participant from calling the other.")
    taken = [one for one in stood.calls if one.status != "refused" and one.started_at is not None]
    up = sum(_began(one) < at and (one.ended_at is None or one.ended_at > at) for one in taken)
    if session.max_concurrent_calls and up >= session.max_concurrent_calls:
        return Refused("limit", f"{up} of {session.max_concurrent_calls} calls at once were up.")
    most = session.max_call_attempts_per_hour
    if most and _spent(sorted(_began(one) for one in taken if _began(one) < at), at) >= most:
        return Refused("limit", f"{most} attempts an hour had been made.")
    return None


def _began(call: Interaction) -> datetime:
    assert call.started_at is not None, "left out otherwise"
    return call.started_at


def _spent(attempts: Sequence[datetime], at: datetime) -> int:
    """How many of the hour's attempts were spent: an hour begins with its first."""
    begun: datetime | None = None
    spent = 0
    for one in attempts:
        if begun is None or one >= begun + ATTEMPTS:
            begun, spent = one, 0
        spent += 1
    return spent if begun is not None and at < begun + ATTEMPTS else 0


def asks_pin(stood: Stood, attestation: Attestation | None) -> bool:
    """Was the caller's number not proof enough?"""
    pin, trust = stood.session.pin, stood.session.caller_trust
    if pin.policy == "none" and trust == "any":
        return False
    return pin.policy == "always" or (trust != "any" and attestation != "A")


def sees(stood: Stood) -> str | None:
    """The virtual number that the callee would have seen: what they dialled to reach the caller."""
    for participant in stood.session.participants:
        if participant.id == stood.target:
            return next((proxy.number for proxy in participant.proxies if proxy.to == stood.source), None)
    return None


def call_near(stood: Stood, at: datetime) -> Interaction | None:
    """The caller's attempt that was nearest to the moment, if any was near."""
    theirs = [one for one in stood.calls if one.from_ == stood.source and one.started_at is not None]
    nearest = min(theirs, key=lambda one: abs(_began(one) - at), default=None)
    return nearest if nearest is not None and abs(_began(nearest) - at).total_seconds() <= NEAR else None
