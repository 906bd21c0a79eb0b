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
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from masking.events import Event

if TYPE_CHECKING:
    from masking.house import House
    from masking.routes import Route

Decision = Literal[
    "routed", "no_binding", "ended", "pin", "limit", "mode", "direction", "blocked", "unavailable", "emergency"
]
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

    blame    who ended it: `caller` and `callee` by hanging up, declining or being busy; `platform` by a limit or a fault.
    reason   a word: hangup · canceled · busy · declined · no_answer · unreachable · limit · media_lost · fault · owner_lost …
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
    session: str
    type: Literal["call"] = "call"
    direction: Literal["inbound", "outbound"] = "inbound"
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    dialled: str | None = None
    decision: Decision = "routed"
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
    """A live call's facts, as its owner keeps them in memory and as the sweeper finds them when the owner dies."""

    interaction: str
    session: str
    tenant: str
    recording: str | None = None
    started_at: float = 0.0
    answered_at: float | None = None
    bridged_at: float | None = None
    ended: bool = False

    @classmethod
    def of(cls, route: Route) -> Call:
        """The call that `route` opened."""
        raise NotImplementedError


async def ringing(house: House, call: Call, at: float) -> None:
    """The callee's phone rings."""
    raise NotImplementedError


async def answered(house: House, call: Call, at: float, by: Literal["callee", "platform"] = "callee") -> None:
    """The caller's leg got its 200 at `at`: `billable` counts from here."""
    raise NotImplementedError


async def recording_started(house: House, call: Call, at: float, channels: tuple[Channel, ...]) -> None:
    """The capture of `call.recording` runs; the catalogue shows it as `recording`."""
    raise NotImplementedError


async def bridged(house: House, call: Call, at: float, notices: tuple[Notice, ...] = ()) -> None:
    """Both hear each other from `at` on: `conversation` counts from here. `notices` are the proof of what was played."""
    raise NotImplementedError


async def ended(house: House, call: Call, at: float, ending: Ending, notices: tuple[Notice, ...] = ()) -> None:
    """The call is over: appends its one `call.ended`, frees its slot. `notices` when the bridge never opened."""
    raise NotImplementedError


async def snapshot(house: House, call: Call, state: bytes) -> None:
    """Keeps what another owner would need to take the call over, beside its live facts."""
    raise NotImplementedError


def status_of(ending: Ending, answered: bool) -> Status:
    """The word an interaction ends with."""
    raise NotImplementedError


def fold(events: list[Event]) -> list[Interaction]:
    """The interactions that a session's events tell, in the order they began. The order of one call's events does not
    matter: state moves one way, and a late or repeated receipt never moves it back."""
    raise NotImplementedError


def apply(interaction: Interaction | None, event: Event) -> Interaction | None:
    """One step of the fold; events that say nothing about an interaction leave it as it is."""
    raise NotImplementedError


async def of_session(house: House, tenant: str, session: str) -> list[Interaction]:
    """A session's interactions, oldest first; `NotFound` if the session is not the tenant's."""
    raise NotImplementedError


async def get(house: House, tenant: str, interaction: str) -> Interaction:
    """One interaction by its id; `NotFound`."""
    raise NotImplementedError


async def refused(
    house: House, *, tenant: str, session: str | None, interaction: str, decision: Decision, data: dict[str, Any], at: float
) -> None:
    """A refusal that the edge decided after or without a claim (emergency, no usable codec): one `call.refused`."""
    raise NotImplementedError
