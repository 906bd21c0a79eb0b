"""What happened in a call, told to the core in order and off the call's path.

A call never waits for Redis once it is up. Facts that come close together are told in one go; when Redis is away they
wait here and are told when it is back. Every fact carries the time it happened, and the core takes each once however
often it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from masking.house import Unavailable

log = structlog.get_logger("sipedge.facts")

GATHER_SECONDS: Final = 0.02  # an answer, its recording, its snapshot and its bridge are one trip to Redis
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
Fact = Callable[[], Awaitable[object]]


class Teller:
    """Tells the facts of one call, oldest first."""

    def __init__(self, facts: Facts, interaction: str) -> None:
        self._facts = facts
        self._interaction = interaction
        self._untold: deque[Fact] = deque()
        self._telling = False
        self._hurry = asyncio.Event()

    def tell(self, fact: Fact, *, last: bool = False) -> None:
        """Never waits. `fact` may be called more than once. `last`: it frees what others wait for, so tell it now."""
        self._untold.append(fact)
        if last:
            self._hurry.set()
        if not self._telling:
            self._telling = True
            self._facts.start(self._interaction, self._tell_all())

    async def _tell_all(self) -> None:
        failures = 0
        pause = GATHER_SECONDS
        while self._untold:
            await self._pause(pause)
            # Asked in this order on one connection, they arrive in this order.
            batch = list(self._untold)
            results = await asyncio.gather(*(fact() for fact in batch), return_exceptions=True)
            away = False
            for fact, result in zip(batch, results, strict=True):
                if isinstance(result, Unavailable):
                    away = True
                    continue
                self._untold.remove(fact)
                if isinstance(result, BaseException):  # one the core refuses holds up no other, the end above all
                    log.error("fact_refused", interaction=self._interaction, error=type(result).__name__)
            failures = failures + 1 if away else 0
            pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1] if away else GATHER_SECONDS
            if away:
                self._hurry.clear()
        self._telling = False

    async def _pause(self, seconds: float) -> None:
        if not self._hurry.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                pass


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
