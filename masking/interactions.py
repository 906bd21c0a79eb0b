"""Interactions: one per attempt on a session, folded from the facts its call left in the stream.

The edge claims a call (`masking.routes.claim`), makes a `Call` of the route, and tells its facts here:

    call = interactions.Call.of(route)
    await interactions.ringing(house, call, at)
    await interactions.answered(house, call, at, by="callee")
    await interactions.recording_started(house, call, at, channels=…)
    await interactions.bridged(house, call, at, notices=…)
    await interactions.ended(house, call, at, Ending(…))

Each is one append (one Redis round trip); `ended` also gives the call's slot back and is idempotent: however often and
by whomever it is told, the stream holds one `call.ended`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec

from masking import sessions
from masking.events import Event, EventType, append_loose, fact
from masking.records import events_of
from masking.refusals import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from masking.house import House
    from masking.routes import Route
    from pools.grants import Fact

Decision = Literal[
    "routed", "no_binding", "ended", "pin", "limit", "mode", "direction", "blocked", "unavailable", "emergency"
]
# What a verified PASSporT says of a caller (RFC 8588 5); `failed`: it had one that does not hold.
Attestation = Literal["A", "B", "C", "failed"]
Status = Literal[
    "ringing", "in_progress", "completed", "busy", "declined", "no_answer", "canceled", "failed", "refused"
]
Side = Literal["caller", "callee", "platform"]


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One leg as it ended: the trunk it used, its last SIP code and Q.850 cause, the codec it spoke."""

    trunk: str | None = None
    sip_code: int | None = None
    q850: int | None = None
    codec: str | None = None


RecordingFault = Literal["disk_full", "disk_error", "no_key", "media"]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that a prompt was played: `leg` 1 is the caller's, `at` and `to` are seconds from the recording's start."""

    asset: str
    sha256: str
    leg: int
    at: float
    to: float


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Who is heard on a recording's channel; 1 is what the caller's phone sent, 2 what the callee's sent."""

    index: int
    participant: str
    role: str | None = None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended, set once by whoever ended it.

    blame    who ended it: `caller` and `callee` by hanging up, declining or being busy, `platform` by a limit or fault.
    reason   a word: hangup · canceled · busy · declined · no_answer · unreachable · limit · media_lost · fault ·
             owner_lost …
    sip_code the code that said so (200 for a talked call's BYE, 487, 486, 603, …).
    legs     caller's leg first.
    """

    blame: Side
    reason: str
    sip_code: int
    legs: tuple[Leg, ...] = ()


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to reach somebody through a session, as the API shows it."""

    id: str
    session: str | None
    type: Literal["call", "message"] = "call"
    direction: Literal["inbound", "outbound"] = "inbound"
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    dialled: str | None = None
    decision: Decision = "routed"
    forwarded: bool = False  # its session had ended: it went to the support number (`late_call`)
    attestation: Attestation | None = None
    reason: str | None = None
    status: Status = "ringing"
    answered_by: Literal["callee", "platform"] | None = None
    started_at: datetime | None = None
    ringing_at: datetime | None = None
    answered_at: datetime | None = None
    bridged_at: datetime | None = None
    ended_at: datetime | None = None
    billable: float = 0.0
    conversation: float = 0.0
    hangup_by: Side | None = None
    legs: list[Leg] = []
    recordings: list[str] = []


class Call(msgspec.Struct, kw_only=True):
    """A live call as its owner keeps it in memory: what its facts are told with. `owner`: the edge's heartbeat name.

    `begun`: the session knows already that a call was routed; a refused call is made with it, and never says so.
    `reached`: the callee has answered.
    """

    interaction: str
    session: str
    tenant: str
    owner: str = ""
    recording: str | None = None
    begun: bool = True
    sliding: bool = False  # its session lives on after each call
    answered_at: float | None = None
    reached: bool = False
    bridged_at: float | None = None
    ended: bool = False

    @classmethod
    def of(cls, route: Route) -> Call:
        """The call that `route` opened."""
        return cls(
            interaction=route.interaction,
            session=route.session,
            tenant=route.tenant,
            owner=route.owner,
            recording=route.recording,
            begun=False,
            sliding=route.sliding,
        )


class Told(NamedTuple):
    """One fact of a call, ready to be told: its event, or what another owner needs (`state`), or its end."""

    call: Call
    event: Fact | None = None
    state: bytes | None = None
    ends: bool = False


def ringing_fact(call: Call, at: float) -> Told:
    """The callee's phone rings."""
    return _fact(call, "call.ringing", at)


def answered_fact(
    call: Call, at: float, by: Literal["callee", "platform"] = "callee", decision: Decision | None = None
) -> Told:
    """The caller's leg got its 200 at `at`: `billable` counts from here, unless the call is refused. `by`: the callee,
    or the platform with an announcement or a keypad dialogue, whose `decision` it tells; the callee may then answer
    too."""
    call.answered_at = call.answered_at or at
    call.reached = call.reached or by == "callee"
    return _fact(call, "call.answered", at, by=by, **({"decision": decision} if decision else {}))


def recording_started_fact(call: Call, at: float, channels: tuple[Channel, ...]) -> Told:
    """The capture of `call.recording` runs; the catalogue shows it as `recording`."""
    return _fact(call, "recording.started", at, recording=call.recording, channels=channels)


def recording_failed_fact(call: Call, at: float, recording: str, reason: RecordingFault) -> Told:
    """The recording could not begin, or takes no more from `at` on, while the call goes on. What there is of one that
    had begun is made available all the same, with its gap."""
    return _fact(call, "recording.failed", at, recording=recording, reason=reason)


def recording_changed_fact(call: Call, at: float, what: Literal["paused", "resumed", "stopped"]) -> Told:
    """The recording that runs is silence from `at` on, or no longer, or is over before its call."""
    kinds: dict[str, EventType] = {
        "paused": "recording.paused", "resumed": "recording.resumed", "stopped": "recording.stopped"
    }  # fmt: skip
    return _fact(call, kinds[what], at, recording=call.recording)


def bridged_fact(call: Call, at: float, notices: tuple[Notice, ...] = ()) -> Told:
    """Both hear each other from `at` on: `conversation` counts from here. `notices`: the proof of what was played."""
    call.bridged_at = at
    return _fact(call, "call.bridged", at, notices=notices, recording=call.recording)


def missed_fact(call: Call, at: float, route: Route, side: Side, reason: str) -> Told:
    """The person on that side was rung and not reached: who tried, and what the person dials to call back."""
    if side == "caller":
        who, other, number, extension = (
            route.from_participant, route.to_participant, route.dialled, route.callee_extension
        )  # fmt: skip
    else:
        who, other, number, extension = (
            route.to_participant, route.from_participant, route.shows, route.caller_extension
        )  # fmt: skip
    call_back = {"number": number, "extension": extension}
    return _fact(call, "call.missed", at, participant=who, caller=other, reason=reason, call_back=call_back)


def ended_fact(call: Call, at: float, ending: Ending, notices: tuple[Notice, ...] = ()) -> Told:
    """The call is over. `notices`: when some were played and the bridge never opened."""
    data = {
        "interaction": call.interaction,
        "status": status_of(ending, call.reached),
        "reason": ending.reason,
        "hangup_by": ending.blame,
        "sip_code": ending.sip_code,
        "legs": ending.legs,
        "recording": call.recording,
        "notices": notices,
    }
    call.ended = True
    return Told(call, fact("call.ended", at, data), ends=True)


def _fact(call: Call, kind: EventType, at: float, **data: Any) -> Told:
    return Told(call, fact(kind, at, {"interaction": call.interaction} | data))


async def tell(house: House, told: Sequence[Told]) -> bool:
    """Facts of one call, oldest first, in one append. False when somebody had ended the call before: then the end is
    not told twice, and what happened before it still is."""
    call, last = told[0].call, told[-1]
    events = [one.event for one in told if one.event is not None]
    begun = None if call.begun or not events else {"begun": 1}  # a call's first fact makes its session `in_progress`
    states = [one.state for one in told if one.state is not None]
    appended = await house.leases.append(
        call.session,
        events,
        set_fields=begun,
        end_call=call.interaction if last.ends else None,
        call_facts=(call.interaction, call.owner, states[-1]) if states and not last.ends else None,
    )
    if appended.outcome == "ended" and (before := events[: -1 if last.ends else None]):
        await house.leases.append(call.session, before, set_fields=begun)
    call.begun = call.begun or bool(events)
    if call.sliding and last.ends:
        await sessions.slide(house, call.session)
    return appended.outcome == "appended"


async def ringing(house: House, call: Call, at: float) -> None:
    """Tells `ringing_fact`."""
    await tell(house, [ringing_fact(call, at)])


async def answered(house: House, call: Call, at: float, by: Literal["callee", "platform"] = "callee") -> None:
    """Tells `answered_fact`."""
    await tell(house, [answered_fact(call, at, by)])


async def recording_started(house: House, call: Call, at: float, channels: tuple[Channel, ...]) -> None:
    """Tells `recording_started_fact`."""
    await tell(house, [recording_started_fact(call, at, channels)])


async def bridged(house: House, call: Call, at: float, notices: tuple[Notice, ...] = ()) -> None:
    """Tells `bridged_fact`."""
    await tell(house, [bridged_fact(call, at, notices)])


async def ended(house: House, call: Call, at: float, ending: Ending, notices: tuple[Notice, ...] = ()) -> bool:
    """Tells `ended_fact` and frees the call's slot. True unless somebody had ended it before, so it may be told again
    after `Unavailable`."""
    return await tell(house, [ended_fact(call, at, ending, notices)])


async def snapshot(house: House, call: Call, state: bytes) -> None:
    """Keeps what another owner would need to take the call over, beside its live facts."""
    await tell(house, [Told(call, state=state)])


async def refused(
    house: House,
    *,
    interaction: str,
    decision: Decision,
    at: float,
    tenant: str | None = None,
    session: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """One `call.refused` of a call that `routes.claim` did not journal: an emergency number dialled, or a call that was
    claimed and then could not be tried (with `session`; it also frees the slot).

    `data` adds to the event: `reason`, `dialled` (a virtual or an emergency number, never a person's), `legs`, `trunk`.
    Without a session and a tenant the courier asks whose numbers leave by `data["trunk"]`.
    """
    told = {"interaction": interaction, "decision": decision, "reason": decision, "from": None, "to": None} | (
        data or {}
    )
    if session is None:
        await append_loose(house, tenant, "call.refused", at, told)
    else:
        await house.leases.append(session, [fact("call.refused", at, told)], end_call=interaction)


STATUS_OF_REASON: Final[dict[str, Status]] = {
    "canceled": "canceled",
    "busy": "busy",
    "declined": "declined",
    "hangup": "canceled",  # from a keypad dialogue: only the platform had answered
    "no_answer": "no_answer",
}


def status_of(ending: Ending, answered: bool) -> Status:
    """The word an interaction ends with. Answered by the callee is completed, unless the platform failed it."""
    if answered:
        return "failed" if ending.reason in ("fault", "owner_lost") else "completed"
    return STATUS_OF_REASON.get(ending.reason, "failed")


def fold(events: Iterable[Event]) -> list[Interaction]:
    """The interactions that a session's events tell, in the order they began. The order of one call's events does not
    matter: state moves one way, and a late or repeated receipt never moves it back."""
    found: dict[str, Interaction] = {}
    for event in events:
        name = event.data.get("interaction")
        if isinstance(name, str) and (after := apply(found.get(name), event)) is not None:
            found[name] = after
    return sorted(found.values(), key=lambda one: (one.started_at is None, one.started_at, one.id))


ENDED: Final = frozenset({"completed", "busy", "declined", "no_answer", "canceled", "failed", "refused"})


def apply(interaction: Interaction | None, event: Event) -> Interaction | None:
    """One step of the fold; an event that says nothing about an interaction leaves it as it is."""
    step = _STEPS.get(event.type)
    name = event.data.get("interaction")
    if step is None or not isinstance(name, str):
        return interaction
    before = interaction or Interaction(id=name, session=event.session)
    return _measured(msgspec.structs.replace(before, **step(before, event)))


Changes = dict[str, Any]


def _initiated(before: Interaction, event: Event) -> Changes:
    data = event.data
    return {
        "started_at": before.started_at or event.occurred_at,
        "direction": data.get("direction", "inbound"),
        "dialled": data.get("dialled"),
        "from_": data.get("from"),
        "to": data.get("to"),
        "decision": data.get("decision", before.decision),
        "forwarded": data.get("forwarded", False),
        "attestation": data.get("attestation"),
    }


def _ringing(before: Interaction, event: Event) -> Changes:
    return {"ringing_at": before.ringing_at or event.occurred_at}


def _answered(before: Interaction, event: Event) -> Changes:
    by = event.data.get("by", "callee")
    return {
        "answered_at": min(before.answered_at or event.occurred_at, event.occurred_at),
        "answered_by": "callee" if "callee" in (before.answered_by, by) else by,
        "decision": event.data.get("decision", before.decision),
        "status": before.status if before.status in ENDED else "in_progress",
    }


def _bridged(before: Interaction, event: Event) -> Changes:
    return {"bridged_at": before.bridged_at or event.occurred_at}


def _recorded(before: Interaction, event: Event) -> Changes:
    recording = event.data["recording"]
    known = before.recordings
    return {"recordings": known if recording in known else [*known, recording]}


def _ended(before: Interaction, event: Event) -> Changes:
    if before.status in ENDED:
        return {}
    data = event.data
    return {
        "ended_at": event.occurred_at,
        "status": data["status"],
        "reason": data.get("reason"),
        "hangup_by": data.get("hangup_by"),
        "legs": msgspec.convert(data.get("legs", []), list[Leg]),
    }


def _refused(before: Interaction, event: Event) -> Changes:
    if before.status in ENDED:
        return {}
    data = event.data
    return {
        "type": "message" if event.type == "message.refused" else "call",
        "started_at": before.started_at or event.occurred_at,
        "ended_at": event.occurred_at,
        "status": "refused",
        "decision": data["decision"],
        "attestation": before.attestation or data.get("attestation"),
        "reason": data.get("reason"),
        "dialled": before.dialled or data.get("dialled"),
        "from_": before.from_ or data.get("from"),
        "to": before.to or data.get("to"),
        "legs": msgspec.convert(data.get("legs", []), list[Leg]),
    }


_STEPS: Final = {
    "call.initiated": _initiated,
    "call.ringing": _ringing,
    "call.answered": _answered,
    "call.bridged": _bridged,
    "call.ended": _ended,
    "call.refused": _refused,
    "message.refused": _refused,
    "recording.started": _recorded,
}


def _measured(one: Interaction) -> Interaction:
    """`billable` from the caller's 200, `conversation` from the bridge, both to the end; measured, decimal seconds.
    What is refused costs nothing, whoever answered."""
    if one.ended_at is None:
        return one
    billable = 0.0
    if one.answered_at is not None and one.status != "refused":
        billable = max(0.0, (one.ended_at - one.answered_at).total_seconds())
    conversation = max(0.0, (one.ended_at - one.bridged_at).total_seconds()) if one.bridged_at is not None else 0.0
    return msgspec.structs.replace(one, billable=round(billable, 3), conversation=round(conversation, 3))


async def of_session(house: House, tenant: str, session: str) -> list[Interaction]:
    """A session's interactions, oldest first; `NotFound` if the session is not the tenant's."""
    return fold(await events_of(house, tenant, session))


async def get(house: House, tenant: str, interaction: str) -> Interaction:
    """One interaction by its id, as the archive has it; `NotFound`."""
    if house.archive is not None:
        from masking import archive

        async with house.archive.connect() as connection:
            body = await archive.interaction_body(connection, tenant, interaction)
        if body is not None:
            return msgspec.json.decode(body, type=Interaction)
    raise NotFound("No such interaction.")
