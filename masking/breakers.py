"""A breaker for a receiver that answers nobody: after failures on end it is left alone, and tried one at a time.

Pure: the time is given.
"""

from __future__ import annotations

from typing import Final

TRIPS_AT: Final = 5  # failures on end
FIRST: Final = 5.0  # seconds an open breaker waits before its first try
LONGEST: Final = 60.0  # … between two tries at most: so soon a receiver that is back is noticed


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
            self._open_until = now + min(LONGEST, FIRST * 2 ** (self._failures - TRIPS_AT))
