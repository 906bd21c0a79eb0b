"""`*7` in a call: whoever presses it reports the other.

The keys are those that phones tell as keys (RFC 4733, INFO). Tones in the audio are not listened for while people talk:
speech may sound like keys, and nobody is to be blocked by a laugh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from masking import reports
from sipedge.media.plane import Digit, PlaneError

if TYPE_CHECKING:
    from masking.routes import Route
    from sipedge.calls import Call

log = structlog.get_logger("sipedge.calls")

CODE: Final = "*7"
WITHIN: Final = 3.0  # seconds between two keys of it


class Keys:
    """What is keyed on the legs of one call."""

    def __init__(self) -> None:
        self._keyed: dict[tuple[int, str], tuple[str, float]] = {}  # by leg and way: the keys so far, and when
        self._reported: set[int] = set()

    def complete(self, pressed: Digit, now: float) -> bool:
        """Does this key end the code, for the first time on its leg? A phone that tells its keys in two ways is heard
        in each."""
        if pressed.way == "tone":
            return False
        place = pressed.leg, pressed.way
        before, at = self._keyed.get(place, ("", 0.0))
        keyed = (before if now - at <= WITHIN else "") + pressed.digit
        if not CODE.startswith(keyed):
            keyed = pressed.digit if CODE.startswith(pressed.digit) else ""
        self._keyed[place] = (keyed, now)
        if keyed != CODE or pressed.leg in self._reported:
            return False
        self._reported.add(pressed.leg)
        return True


async def report(call: Call, route: Route, leg: Digit) -> None:
    """Whoever is on that leg reports the other, and hears that it was taken. The call goes on: they hang up when they
    want to."""
    if not route.to_participant:  # a support desk is nobody's to report
        return
    by, about = route.from_participant, route.to_participant
    if leg.leg == 2:
        by, about = about, by
    call.exchange.counts["reports_by_key"] += 1
    call.ask(lambda: reports.by_keypad(call.house, route.tenant, route.session, call.id, by, about))
    try:
        await call.circuit.plane.confirm(call.id, leg.leg)
    except PlaneError as problem:
        log.warning("report_not_confirmed", interaction=call.id, problem=problem.code)
