"""How a trunk fares, as its calls and its OPTIONS show: who gets how much of what several could carry.

Everything measured fades with a half-life, so that a trunk is judged by what it did lately and gets another chance by
itself. `now` is the loop's clock; nobody is asked here.

    up        carries its share
    sick      most of its calls fail: a smaller share among its equals
    dead      silent to OPTIONS, or every call failed for a while: none, while another may carry the call
    resting   told us by a 503 when to come back (RFC 3261 21.5.4): none at all until then
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

State = Literal["up", "sick", "resting", "dead"]

HALF_LIFE: Final = 300.0  # seconds
FADE_SECONDS: Final = 1.0  # less than that is not worth the reckoning
EVIDENCE: Final = 10.0  # calls that count as much as what is believed of a trunk nobody knows
BELIEVED: Final = 0.5  # its answer-seizure ratio until then
LEAST: Final = 0.05  # of its weight: even the sickest shows now and then whether it is well again
SLOW: Final = 2.0  # so many times the best post-dial delay among equals is still as good as it
QUICK: Final = 1.0  # seconds of post-dial delay that nobody minds
STREAK: Final = 10  # failures in a row until a trunk is thought dead
PROBE_FIRST: Final = 5.0  # seconds from one call that tries a dead trunk to the next, doubling
PROBE_LAST: Final = 60.0
MAX_REST: Final = 300.0  # seconds: whoever asks for more is asked again after that


class Health:
    """What one trunk's calls have come to. `counts`: since the start, for the operator."""

    __slots__ = ("_answered", "_at", "_delay", "_failed", "_pause", "_probe_at", "_rang", "_rests_until", "_streak",
                 "_tried", "answers_pings", "counts")  # fmt: skip

    def __init__(self) -> None:
        self.answers_pings = True  # one that was never asked is believed in
        self.counts: Counter[str] = Counter()
        self._at = 0.0  # when the fading figures were last faded
        self._tried = self._answered = self._failed = self._rang = self._delay = 0.0
        self._streak = 0
        self._pause = PROBE_FIRST
        self._probe_at = 0.0
        self._rests_until = 0.0

    # ---- what happened -----------------------------------------------------------------------------------------------

    def begins(self, now: float) -> None:
        """A call leaves by it; a trunk thought dead is not tried by the next one too."""
        self.counts["tried"] += 1
        if self._streak >= STREAK:
            self._probe_at = now + self._pause
            self._pause = min(2 * self._pause, PROBE_LAST)

    def rang(self, delay: float, now: float) -> None:
        """The person's phone rings, so many seconds after the INVITE (the post-dial delay)."""
        self._fade(now)
        self._rang += 1.0
        self._delay += delay
        self._well()

    def answered(self, now: float) -> None:
        """The person, or whoever picks up for them, is there."""
        self._fade(now)
        self._tried += 1.0
        self._answered += 1.0
        self.counts["answered"] += 1
        self._well()

    def reached(self, now: float) -> None:
        """No answer, but the person's own no, or that of their network."""
        self._fade(now)
        self._tried += 1.0
        self.counts["reached"] += 1
        self._well()

    def failed(self, now: float, rest: float | None = None) -> None:
        """The trunk did not get as far as the person. `rest`: the seconds of a Retry-After."""
        self._fade(now)
        self._tried += 1.0
        self._failed += 1.0
        self.counts["failed"] += 1
        self._streak += 1
        if self._streak == STREAK:
            self._probe_at = now + self._pause
        if rest:
            self._rests_until = now + min(rest, MAX_REST)

    def pinged(self, answers: bool) -> None:
        """What its OPTIONS came to; one that is back from silence starts anew."""
        if answers and not self.answers_pings:
            self._well()
        self.answers_pings = answers

    def _well(self) -> None:
        self._streak, self._pause = 0, PROBE_FIRST

    def _fade(self, now: float) -> None:
        if now - self._at < FADE_SECONDS:
            return
        kept = 0.5 ** ((now - self._at) / HALF_LIFE)
        self._at = now
        self._tried *= kept
        self._answered *= kept
        self._failed *= kept
        self._rang *= kept
        self._delay *= kept

    # ---- what follows ------------------------------------------------------------------------------------------------

    def state(self, now: float) -> State:
        if now < self._rests_until:
            return "resting"
        if not self.answers_pings or (self._streak >= STREAK and now < self._probe_at):
            return "dead"
        self._fade(now)
        return "sick" if self._tried >= EVIDENCE / 2 and 2 * self._failed > self._tried else "up"

    def rest(self, now: float) -> float:
        """Seconds it still rests."""
        return max(0.0, self._rests_until - now)

    def answer_ratio(self, now: float) -> float:
        """The answer-seizure ratio: what is believed at first, what is measured ever more."""
        self._fade(now)
        return (self._answered + EVIDENCE * BELIEVED) / (self._tried + EVIDENCE)

    @property
    def post_dial_delay(self) -> float | None:
        """Seconds from INVITE to ringing, lately; None when none has rung."""
        return self._delay / self._rang if self._rang > 0.01 else None


def shares(equals: list[Health], now: float) -> list[float]:
    """What part of its weight each of several equal trunks gets, `LEAST`..1: measured by the best of them, since all
    of them call the same people."""
    ratios = [one.answer_ratio(now) for one in equals]
    best = max(ratios, default=1.0)
    delays = [one.post_dial_delay for one in equals]
    bearable = SLOW * max(QUICK, min([delay for delay in delays if delay is not None], default=QUICK))
    return [
        max(LEAST, ratio / best * (min(1.0, bearable / delay) if delay else 1.0))
        for ratio, delay in zip(ratios, delays, strict=True)
    ]
