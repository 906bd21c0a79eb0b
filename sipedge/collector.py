"""Python's collector of cycles, kept from making calls wait.

A call's legs and its story let go of each other when it ends, so that its memory comes back without the collector.
What is left to it are cycles of libraries' making: young ones are looked for often, since that is short; a look at
everything takes longer the more calls stand, so it is had only while few do.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, Final

YOUNG: Final = 10_000  # objects made and still there, until the young ones are looked at
MIDDLE: Final = 10  # such looks, until one at all that came since the last
NEVER: Final = 1_000_000_000
TIDY_SECONDS: Final = 300.0
FEW: Final = 200  # calls whose objects a full look passes in a few milliseconds


class Collector:
    """`longest`: seconds the longest look took so far. `clock`: seconds, finer than a millisecond."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.longest = 0.0
        self._clock = clock
        self._began = 0.0

    def tame(self) -> None:
        """What is loaded by now stays; from here on looks are short, and timed."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG, MIDDLE, NEVER)
        gc.callbacks.append(self._time)

    def _time(self, phase: str, _info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = self._clock()
        else:
            self.longest = max(self.longest, self._clock() - self._began)

    async def tidy(self, calls: Callable[[], int]) -> None:
        """Looks at everything from time to time, until cancelled. `calls`: how many stand."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if calls() <= FEW:
                gc.collect()


class Longest:
    """The longest of what was added in the last minute or two."""

    def __init__(self, now: float, window: float = 60.0) -> None:
        self._window = window
        self._turned = now
        self._before = self._lately = 0.0

    def add(self, seconds: float, now: float) -> None:
        if now - self._turned >= self._window:
            self._before, self._lately, self._turned = self._lately, 0.0, now
        self._lately = max(self._lately, seconds)

    @property
    def value(self) -> float:
        return max(self._before, self._lately)
