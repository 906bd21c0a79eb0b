"""Datagrams that wait for their turn, the urgent before the others."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from sipedge.admission import BEGINS_A_CALL, URGENCIES, urgency
from sipedge.sip.flows import Flow

FULL: Final = 4_096  # datagrams; what comes beyond that stays in its socket


class Waiting(NamedTuple):
    data: bytes
    flow: Flow
    since: float


class Lanes:
    """One lane for each urgency; within a lane first come, first served."""

    def __init__(self) -> None:
        self._lanes = tuple(deque[Waiting]() for _ in range(URGENCIES))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= FULL

    @property
    def calls(self) -> int:
        """How many wait that would begin a call."""
        return len(self._lanes[BEGINS_A_CALL])

    def put(self, data: bytes, flow: Flow, since: float) -> None:
        """`since`: when it came to our socket, by the loop's clock."""
        self._lanes[urgency(data)].append(Waiting(data, flow, since))
        self._count += 1

    def take(self) -> Waiting:
        """The most urgent. StopIteration when none waits."""
        lane = next(lane for lane in self._lanes if lane)
        self._count -= 1
        return lane.popleft()

    def clear(self) -> None:
        for lane in self._lanes:
            lane.clear()
        self._count = 0
