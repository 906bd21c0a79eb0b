"""What happened in a call, told to the core in order and off the call's path.

A call never waits for Redis once it is up. Facts that come close together are told in one append, those of many calls
in one write; when Redis is away they wait here and are told when it is back. Every fact carries the time it happened,
and the core takes each once however often it is told.
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

GATHER_SECONDS: Final = 0.04  # an answer, its recording, its snapshot and its bridge are one trip to Redis
ALONG: Final = 0.5  # of that, after which a call's facts go along with those of others
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
Question = Callable[[], Awaitable[object]]


class Teller:
    """Tells the facts of one call, oldest first."""

    __slots__ = ("_facts", "_house", "_interaction", "_untold", "gathers", "telling")

    def __init__(self, facts: Facts, house: House, interaction: str) -> None:
        self._facts = facts
        self._house = house
        self._interaction = interaction
        self._untold: list[Told | Question] = []
        self.gathers = False
        self.telling = False

    def tell(self, fact: Told, *, last: bool = False) -> None:
        """Never waits. `last`: it frees what others wait for, so it is told before any of them asks."""
        self._untold.append(fact)
        self._facts.gather(self._interaction, self, last)

    def ask(self, question: Question) -> None:
        """A fact that is no append to the call's session; the core may be asked it more than once."""
        self._untold.append(question)
        self._facts.gather(self._interaction, self, False)

    def hurry(self) -> None:
        """Tells what there is now."""
        if self._untold and not self.telling:
            self.telling = True
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
        self.telling = False
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
        del self._untold[:count]

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
        self._gathering: deque[tuple[float, Teller]] = deque()  # when each is to be told at the latest, soonest first
        self._ended: list[Teller] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def of(self, house: House, interaction: str) -> Teller:
        return Teller(self, house, interaction)

    def gather(self, interaction: str, teller: Teller, last: bool) -> None:
        """A fact was taken: it is told soon, together with what else there is by then."""
        self.waiting[interaction] = teller
        if teller.telling:  # it takes this one along
            return
        if last:
            self._ended.append(teller)
        if not teller.gathers:
            teller.gathers = True
            deadline = self._loop.time() + GATHER_SECONDS
            self._gathering.append((deadline, teller))
            if self._alarm is None:
                self._alarm = self._loop.call_at(deadline, self._rang)

    def _rang(self) -> None:
        """Tells what is due and what soon would be: Redis and we wake up once for all of it."""
        until = self._loop.time() + ALONG * GATHER_SECONDS
        while self._gathering and self._gathering[0][0] <= until:
            _, teller = self._gathering.popleft()
            teller.gathers = False
            teller.hurry()
        self._ended = [teller for teller in self._ended if teller.gathers]
        self._alarm = self._loop.call_at(self._gathering[0][0], self._rang) if self._gathering else None

    def tell_ends(self) -> bool:
        """Tells the ends that others may wait for; False when there are none. They are on their way after one turn."""
        ended, self._ended = self._ended, []
        for teller in ended:
            teller.hurry()
        return bool(ended)

    def start(self, telling: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(telling)
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
