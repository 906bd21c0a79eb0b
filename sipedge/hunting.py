"""Ringing a person on one leg of a call: on one phone after the other, by one trunk after the other, on each machine of
a trunk, until somebody answers or says why not.

What a phone says (busy, declined) ends it there; what a machine or a network says moves on to the next, as long as the
phone does not ring. A person who has several phones is sought on the next one unless they declined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from masking.numbering import Number
from sipedge import session_timers
from sipedge.causes import NO_ANSWER, TIMER_EXPIRED, human
from sipedge.circuits import SIDES, Over
from sipedge.legs import DialledLeg, cause_in
from sipedge.media.plane import Leg as PlaneLeg
from sipedge.sip.events import Answered, Failed, Progressed
from sipedge.sip.messages import Malformed
from sipedge.targets import Hop
from sipedge.trunks import Trunk

if TYPE_CHECKING:
    from sipedge.calls import Call

SILENCE: Final = 2.0  # seconds without any response, not even 100, until a trunk is passed over

# A trunk that answers so has not reached the person: another may be tried. No human says any of these.
PASSED_OVER: Final = frozenset({408, 500, 502, 503, 504})
# What a callee's network says that a caller is told in the same words; everything else is 480.
UNREACHABLE: Final = frozenset({404, 480, 484, 488})
# Of several phones that were not reached, which one's word counts.
NEAREST: Final = {"declined": 0, "busy": 1, "no_answer": 2, "unreachable": 3}


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ring on which leg: `phones` in turn, which see the virtual number `shows`, which leaves by `trunk` (None:
    any of its `country`). `ring_timeout`: seconds for all of them."""

    leg: PlaneLeg
    phones: tuple[Number, ...]
    shows: str
    trunk: str | None
    country: str
    ring_timeout: int


class Unreached(Over):
    """Nobody answered: why, as the other side is told."""


class Hunt:
    """One person sought for one call."""

    def __init__(self, call: Call, sought: Sought) -> None:
        self.call = call
        self.circuit = call.circuit
        self.exchange = call.exchange
        self.sought = sought
        self.side = SIDES[sought.leg]
        self._dialled_at = 0.0
        self._phone = sought.phones[0]
        self._deadline = 0.0

    async def reach(self) -> Answered:
        """The phones in turn, each for an equal share of the time that is left; `Unreached`, as the phone that came
        nearest to an answer was, when nobody takes the call."""
        until = self.circuit.loop.time() + self.sought.ring_timeout
        failures: list[Unreached] = []
        for tried, phone in enumerate(self.sought.phones):
            now = self.circuit.loop.time()
            self._phone = phone
            self._deadline = now + (until - now) / (len(self.sought.phones) - tried)
            try:
                return await self._ring()
            except Unreached as failure:
                failures.append(failure)
                if failure.reason == "declined":
                    break
        raise min(failures, key=lambda failure: NEAREST.get(failure.reason, len(NEAREST))).with_traceback(None)

    async def _ring(self) -> Answered:
        """One phone, by the trunks, best first."""
        failure = Unreached("platform", "no_trunk", 480, 3)
        for trunk in self._trunks():
            full = self.call.take(trunk)
            if full is not None:
                failure = Unreached("platform", "trunk_limit", 480, full)
                continue
            trunk.health.begins(self.circuit.loop.time())
            outcome = await self._try(trunk)
            now = self.circuit.loop.time()
            if isinstance(outcome, Answered):
                trunk.health.answered(now)
                return outcome
            if isinstance(outcome, Failed) and not self._goes_on(outcome):
                if outcome.status in (401, 407):  # it does not know us: nobody was reached
                    self.exchange.counts["trunk_refused_us"] += 1
                    trunk.health.failed(now)
                else:
                    trunk.health.reached(now)
                raise self._said(outcome)
            self.exchange.counts["trunks_passed_over"] += 1
            trunk.doubted = True
            trunk.health.failed(now, rest_asked_by(outcome))
            failure = Unreached(self.side, "unreachable", 480, cause_in(outcome) if outcome else TIMER_EXPIRED)
        raise failure

    def _trunks(self) -> list[Trunk]:
        sought, now = self.sought, self.circuit.loop.time()
        return self.exchange.trunks.leaving(sought.trunk, sought.country, self._phone, self.exchange.random, now)

    async def _try(self, trunk: Trunk) -> Answered | Failed | None:
        """By one of the trunk's machines after the other (RFC 3263 4.3): how the last attempt ended."""
        outcome: Answered | Failed | None = None
        ours = self.exchange.house.config.sip.session_expires
        for hop in trunk.targets.in_order(self.circuit.loop.time(), self.exchange.random):
            outcome = await self._dial(trunk, hop, ours)
            if isinstance(outcome, Failed) and (least := session_timers.wanted(outcome)):
                outcome = await self._dial(trunk, hop, least)
            if isinstance(outcome, Answered) or (outcome is not None and not self._goes_on(outcome)):
                trunk.targets.works(hop)
                break
            if outcome is None or outcome.status == 503:  # said by it, or that it could not be reached
                trunk.targets.failed(hop, self.circuit.loop.time())
        return outcome

    def _goes_on(self, failed: Failed) -> bool:
        """Is there anything left to try after this?"""
        leg = self.circuit.legs[self.sought.leg]
        assert isinstance(leg, DialledLeg)
        return not leg.rung and passed_over(failed)

    async def _dial(self, trunk: Trunk, hop: Hop, interval: int) -> Answered | Failed | None:
        """One attempt: how it ended, None when the machine stayed silent. `interval`: the session's, in seconds."""
        self.call.dials(self.sought.leg)
        leg = self.circuit.dial(self.sought.leg, trunk, hop, self._phone, self.sought.shows, interval)
        self.call.opened()
        self._dialled_at = self.circuit.loop.time()
        silent_at = min(self._deadline, self._dialled_at + SILENCE)
        while True:
            match await self.circuit.hear(self._deadline if leg.heard_of else silent_at):
                case Answered() | Failed() as outcome if outcome.leg == leg.token:
                    return outcome
                case Progressed() as early if early.leg == leg.token:
                    await self._progressed(leg, early)
                case None if not leg.heard_of:
                    return None
                case None if self.circuit.loop.time() >= self._deadline:
                    (trunk.health.reached if leg.rung else trunk.health.failed)(self._deadline)
                    raise Unreached(self.side, "no_answer", 480, NO_ANSWER)

    async def _progressed(self, leg: DialledLeg, early: Progressed) -> None:
        if leg.rung and not leg.told_ringing:
            leg.told_ringing = True
            now = self.circuit.loop.time()
            leg.trunk.health.rang(now - self._dialled_at, now)
            await self.call.rings(leg)
        if early.status == 183 and early.response.description and self.call.passes_early_media(leg):
            await self.circuit.pass_early_media(leg, early.response)

    def _said(self, failed: Failed) -> Unreached:
        """Somebody was reached and did not answer: who said it, in which of our words."""
        cause = cause_in(failed)
        match human(failed.status, cause):
            case 486 | 600:
                return Unreached(self.side, "busy", 486, cause)
            case 603 | 607 | 608:
                return Unreached(self.side, "declined", 603, cause)
            case code if code in UNREACHABLE:
                return Unreached(self.side, "unreachable", code, cause)
            case _:
                return Unreached(self.side, "unreachable", 480, cause)


def passed_over(failed: Failed) -> bool:
    """Did the trunk fail to reach the person? A gateway's 503 that means "busy" has reached them."""
    return human(failed.status, cause_in(failed)) in PASSED_OVER


def rest_asked_by(outcome: Failed | None) -> int | None:
    """The seconds of a 503's Retry-After (RFC 3261 21.5.4)."""
    if outcome is None or outcome.status != 503 or outcome.response is None:
        return None
    try:
        return outcome.response.retry_after
    except Malformed:
        return None
