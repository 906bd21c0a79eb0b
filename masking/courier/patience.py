"""How long a webhook receiver is waited for: the pauses between attempts, and a breaker for one that answers nobody.

Pure: the time and the dice are given. Over 75 hours an event is tried some fifteen times; then it is a dead letter,
which can be replayed.
"""

from __future__ import annotations

from typing import Final

HOUR: Final = 3600.0
GIVE_UP: Final = 75 * HOUR  # seconds from the first attempt
PAUSES: Final = (4.0, 30.0, 120.0, 600.0, 1800.0, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR)
SPREAD: Final = 0.25  # of a pause, either way: receivers that fell together do not get everything back together
TRIPS_AT: Final = 5  # failures on end
LONGEST: Final = 60.0  # seconds an open breaker waits between two tries: so soon a receiver that is back is noticed


def pause(attempts: int, dice: float) -> float:
    """Seconds until the next attempt after `attempts` that failed; `dice` is 0..1. The first comes within 5 s."""
    planned = PAUSES[min(attempts, len(PAUSES)) - 1]
    return planned * (1 - SPREAD + 2 * SPREAD * dice)


class Breaker:
    """One an endpoint. Closed: send. Open: wait. After the wait: one delivery, whose outcome decides."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0

    def may_send(self, now: float) -> bool:
        return now >= self._open_until

    @property
    def probing(self) -> bool:
        """True while only one delivery at a time is worth the receiver's trouble."""
        return self._failures >= TRIPS_AT

    def opens_at(self) -> float:
        """When a delivery may be tried again; seconds since 1970."""
        return self._open_until

    def succeeded(self) -> None:
        self._failures = 0
        self._open_until = 0.0

    def failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= TRIPS_AT:
            self._open_until = now + min(LONGEST, 5.0 * 2 ** (self._failures - TRIPS_AT))
