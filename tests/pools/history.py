"""Judges the history of a run: was an X ever two holders' for the same caller at the same time?

A history is one `Tenure` per (X, caller) that a holder was told it has. It starts when the grant was acknowledged and
ends when its release was asked for or its time was over, whichever came first: a cautious reading, in which an overlap
is always a fault of the allocator and never of the measurement. Times are of one clock, in any unit.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class Tenure(NamedTuple):
    """From `start` until just before `end`, calls of `caller` to `x` were `holder`'s."""

    x: str
    caller: str
    holder: str
    start: float
    end: float


class Overlap(NamedTuple):
    """Two holders of one (X, caller) at one time; `first` started first."""

    first: Tenure
    second: Tenure


def overlaps(history: Iterable[Tenure]) -> list[Overlap]:
    """Every pair of tenures of one (X, caller) by different holders that share an instant; empty for a sound allocator.

    O(n log n) over the history, and one step more for each overlap found.
    """
    by_place: defaultdict[tuple[str, str], list[Tenure]] = defaultdict(list)
    for tenure in history:
        if tenure.start < tenure.end:
            by_place[tenure.x, tenure.caller].append(tenure)
    return [found for tenures in by_place.values() for found in _overlaps_of_one(tenures)]


def _overlaps_of_one(tenures: list[Tenure]) -> list[Overlap]:
    found = []
    running: list[tuple[float, int, Tenure]] = []
    for place, tenure in enumerate(sorted(tenures, key=lambda tenure: (tenure.start, tenure.end))):
        while running and running[0][0] <= tenure.start:
            heapq.heappop(running)
        found += [Overlap(other, tenure) for _, _, other in running if other.holder != tenure.holder]
        heapq.heappush(running, (tenure.end, place, tenure))
    return found
