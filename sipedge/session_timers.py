"""Session timers (RFC 4028): each leg shows by itself that its peer still knows the call.

We answer an interval that a peer proposes and let it do the refreshing; whom we call is proposed ours
(`sip.session_expires`). Where it is on us to refresh, UPDATE does it, or a re-INVITE with what we last said for a peer
that does not take UPDATE.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from sipedge.sip.events import Cause, Failed, Responded
from sipedge.sip.grammar import Malformed
from sipedge.sip.messages import Message, Request, Response

if TYPE_CHECKING:
    from sipedge.circuits import Circuit
    from sipedge.legs import Leg

TIMER: Final = "timer"
MARGIN: Final = (
    32.0  # seconds before the end of an interval, or its last third, that the call is given up (RFC 4028 10)
)
AGAIN: Final = 4.0  # seconds until a refresh that was refused is tried again
GONE: Final = frozenset({408, 481})  # the peer does not know the call any more (RFC 4028 10)
Headers = list[tuple[str, str]]


@dataclass(slots=True)
class SessionTimer:
    """One leg's interval in seconds; `ours`: it is on us to refresh; `since`: when it last was.

    `waits`: our refresh under way; `again`: when a refused one is tried again.
    """

    interval: int
    ours: bool
    since: float
    waits: str | None = None
    again: float = 0.0

    @property
    def ends(self) -> float:
        """When the leg is given up."""
        return self.since + self.interval - min(MARGIN, self.interval / 3)

    @property
    def due(self) -> float:
        """When something is to be done: a refresh of ours, or the end."""
        if not self.ours or self.waits is not None:
            return self.ends
        return min(self.ends, max(self.since + self.interval / 2, self.again))


def granted(request: Request, now: float) -> tuple[Headers, SessionTimer | None]:
    """What our 2xx to an INVITE or UPDATE says, and the interval that runs from it (RFC 4028 9).

    The peer refreshes unless it asks us to, or does not know how: then a proxy on its way wanted the interval.
    """
    seconds = request.session_expires
    if seconds is None:
        return [], None
    ours = TIMER not in request.supported or request.refresher == "uas"
    headers = [("Session-Expires", f"{seconds};refresher={'uas' if ours else 'uac'}")]
    return headers if ours else [*headers, ("Require", TIMER)], SessionTimer(seconds, ours, now)


def proposed(interval: int) -> Headers:
    """What our INVITE says (RFC 4028 7.1). Who refreshes is the callee's choice."""
    return [("Session-Expires", str(interval))] if interval else []


def wanted(failed: Failed) -> int:
    """The least interval that whoever refused ours takes (422, RFC 4028 7.3); 0: it was not about that."""
    return min_se(failed.response) if failed.status == 422 and failed.response is not None else 0


def accepted(response: Response, now: float) -> SessionTimer | None:
    """The interval that runs from a 2xx to a request of ours (RFC 4028 7.2); None when it names none that can be
    read."""
    try:
        seconds = response.session_expires
        return None if not seconds else SessionTimer(seconds, response.refresher != "uas", now)
    except Malformed:
        return None


def takes_update(message: Message) -> bool:
    """Does the peer say that it takes UPDATE (RFC 3311 4)?"""
    try:
        return "UPDATE" in message.values("allow")
    except Malformed:
        return False


def refresh(circuit: Circuit, leg: Leg, timer: SessionTimer, now: float) -> None:
    """Shows the peer that we are there."""
    headers = [("Session-Expires", f"{timer.interval};refresher=uac"), ("Supported", TIMER)]
    method, body = ("UPDATE", b"") if leg.updates else ("INVITE", leg.description)
    timer.waits = circuit.request(leg, method, headers, body)
    timer.again = now + AGAIN


def heard(circuit: Circuit, leg: Leg, timer: SessionTimer, answer: Responded, now: float) -> bool:
    """What a refresh of ours came to. False: the peer is gone, and the call with it."""
    timer.waits = None
    response = answer.response
    if 200 <= answer.status < 300 and response is not None:
        leg.timer = accepted(response, now) or SessionTimer(timer.interval, True, now)
    elif answer.cause is not Cause.RESPONSE or answer.status in GONE:
        return False
    elif answer.status == 491:  # both at once: whoever owns the Call-ID waits longer (RFC 3261 14.1)
        timer.again = now + back_off(circuit.exchange.random, leg.ours)
    elif answer.status == 422 and response is not None:
        timer.interval = max(timer.interval, min_se(response))
        timer.again = now
    return True


def back_off(dice: Random, owner: bool) -> float:
    """2.1 to 4 s for who owns the Call-ID, 0 to 2 s for the other, in steps of 10 ms (RFC 3261 14.1)."""
    return dice.randrange(210, 401) / 100 if owner else dice.randrange(0, 201) / 100


def min_se(response: Response) -> int:
    """The shortest interval the peer takes (RFC 4028 6); 0 when it does not say so."""
    try:
        return response.min_se or 0
    except Malformed:
        return 0
