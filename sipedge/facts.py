"""What happened in a call, told to the core in order and off the call's path.

A call never waits for Redis once it is up. Facts that come close together are told in one append; when Redis is away
they wait here and are told when it is back. Every fact carries the time it happened, and the core takes each once
however often it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from masking import interactions
from masking.house import House, Unavailable
from masking.interactions import Told

log = structlog.get_logger("sipedge.facts")

GATHER_SECONDS: Final = 0.02  # an answer, its recording, its snapshot and its bridge are one trip to Redis
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
Question = Callable[[], Awaitable[object]]


class Teller:
    """Tells the facts of one call, oldest first."""

    __slots__ = ("_alarm", "_facts", "_house", "_interaction", "_telling", "_untold")

    def __init__(self, facts: Facts, house: House, interaction: str) -> None:
        self._facts = facts
        self._house = house
        self._interaction = interaction
        self._untold: deque[Told | Question] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._telling = False

    def tell(self, fact: Told, *, last: bool = False) -> None:
        """Never waits. `last`: it frees what others wait for, so tell it now."""
        self._take(fact, last)

    def ask(self, question: Question) -> None:
        """A fact that is no append to the call's session; the core may be asked it more than once."""
        self._take(question, False)

    def _take(self, fact: Told | Question, last: bool) -> None:
        self._untold.append(fact)
        self._facts.waiting[self._interaction] = self
        if self._telling:  # it takes this one along
            return
        if last:
            self.hurry()
        elif self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.hurry)

    def hurry(self) -> None:
        """Tells what there is now."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._untold and not self._telling:
            self._telling = True
            self._facts.start(self._tell_all())

    async def _tell_all(self) -> None:
        failures = 0
        while self._untold:
            try:
                await self._tell_first()
                failures = 0
            except Unavailable:
                failures += 1
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])
        self._telling = False
        del self._facts.waiting[self._interaction]

    async def _tell_first(self) -> None:
        """The oldest facts that go into one append, or the oldest question. They are let go once they are taken, or
        refused: one the core refuses holds up no other, the end above all."""
        told: list[Told] = []
        for fact in self._untold:
            if not isinstance(fact, Told):
                break
            told.append(fact)
        count = len(told) or 1
        try:
            first = self._untold[0]
            await (interactions.tell(self._house, told) if isinstance(first, Told) else first())
        except Unavailable:
            raise
        except Exception as error:
            log.error("fact_refused", interaction=self._interaction, facts=count, error=type(error).__name__)
            if count > 1:  # one of them: the others are told without it
                await self._tell_each(told)
        for _ in range(count):
            self._untold.popleft()

    async def _tell_each(self, told: list[Told]) -> None:
        for fact in told:
            try:
                await interactions.tell(self._house, [fact])
            except Unavailable:
                raise
            except Exception as error:
                log.error("fact_refused", interaction=self._interaction, facts=1, error=type(error).__name__)


class Facts:
    """Every call's facts that are not told yet."""

    def __init__(self) -> None:
        self.waiting: dict[str, Teller] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, house: House, interaction: str) -> Teller:
        return Teller(self, house, interaction)

    def start(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def untold(self) -> set[str]:
        """Calls with facts waiting."""
        return set(self.waiting)

    async def settle(self, seconds: float) -> None:
        """Tells what is gathered and waits until all is told, at most so long."""
        for teller in list(self.waiting.values()):
            teller.hurry()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
