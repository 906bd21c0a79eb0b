"""What happened in a call, told to the core in order and off the call's path.

A call never waits for Redis once it is up. When Redis is away its facts wait here and are told when it is back: every
fact carries the time it happened, and the core takes each once however often it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from masking.house import Unavailable

log = structlog.get_logger("sipedge.facts")

RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
Fact = Callable[[], Awaitable[object]]


class Teller:
    """Tells the facts of one call, one after the other."""

    def __init__(self, facts: Facts, interaction: str) -> None:
        self._facts = facts
        self._interaction = interaction
        self._untold: deque[Fact] = deque()
        self._telling = False

    def tell(self, fact: Fact) -> None:
        """Never waits. `fact` may be called more than once."""
        self._untold.append(fact)
        if not self._telling:
            self._telling = True
            self._facts.start(self._interaction, self._tell_all())

    async def _tell_all(self) -> None:
        failures = 0
        while self._untold:
            try:
                await self._untold[0]()
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                continue
            except (
                Exception
            ) as error:  # a fact the core refuses must not hold up the call's other facts, its end above all
                log.error("fact_refused", interaction=self._interaction, error=type(error).__name__)
            failures = 0
            self._untold.popleft()
        self._telling = False


class Facts:
    """Every call's facts that are not told yet."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], str] = {}

    def of(self, interaction: str) -> Teller:
        return Teller(self, interaction)

    def start(self, interaction: str, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._tasks[task] = interaction
        task.add_done_callback(self._tasks.pop)

    @property
    def untold(self) -> set[str]:
        """Calls with facts waiting."""
        return set(self._tasks.values())

    async def settle(self, seconds: float) -> None:
        """Waits until all is told, at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
