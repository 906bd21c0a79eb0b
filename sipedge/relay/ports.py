"""Which RTP port next: even ports (RTCP at + 1), the one that rested longest first.

A port rests after its call, so that a new call never hears the late packets of an old one: `rest` seconds while the
range allows, never under `least`. Oldest first makes that one rule: whoever is at the head has rested longest, so a
rest shorter than `rest` happens only when every free port rests.
"""

from __future__ import annotations

from collections import deque
from typing import Final

REST: Final = 30.0
LEAST: Final = 4.0


class NoPortFree(Exception):
    """Every port is in use, or has not rested long enough."""


class PortRange:
    """The ports first..last of one process. Time is given; pure bookkeeping, no socket."""

    __slots__ = ("_free", "_used", "least", "rest")

    def __init__(self, first: int, last: int, *, rest: float = REST, least: float = LEAST) -> None:
        """Raises `ValueError` when the range holds no even port with its odd neighbour."""
        if not 1 <= first <= last <= 65_535 or first + first % 2 + 1 > last:
            raise ValueError("a port range needs an even port and the odd one after it, within 1..65535")
        self.rest = rest
        self.least = least
        self._free = deque((float("-inf"), port) for port in range(first + first % 2, last, 2))
        self._used: set[int] = set()

    def take(self, now: float) -> int:
        """The port that rested longest. Raises `NoPortFree`."""
        if not self._free or now - self._free[0][0] < self.least:
            raise NoPortFree
        _, port = self._free.popleft()
        self._used.add(port)
        return port

    def give(self, port: int, now: float) -> None:
        """Lets a used port rest, last in the row. A port that is not in use stays where it is."""
        if port in self._used:
            self._used.remove(port)
            self._free.append((now, port))

    def unused(self, port: int) -> None:
        """Takes back a port on which no socket ever was: it stays first in the row."""
        if port in self._used:
            self._used.remove(port)
            self._free.appendleft((float("-inf"), port))

    def __contains__(self, port: int) -> bool:
        """Is this port, or the RTP port of this RTCP port, in use?"""
        return port - port % 2 in self._used

    def counts(self, now: float) -> tuple[int, int, int]:
        """How many are used, resting, and free at once."""
        resting = sum(now - since < self.rest for since, _ in self._free)
        return len(self._used), resting, len(self._free) - resting


def parse_range(text: str) -> tuple[int, int]:
    """`20000-29999` -> its ends. Raises `ValueError` with a text for the operator."""
    first, dash, last = text.partition("-")
    if not dash or not first.strip().isdecimal() or not last.strip().isdecimal():
        raise ValueError("media.ports is FIRST-LAST, for example 20000-29999")
    return int(first), int(last)
