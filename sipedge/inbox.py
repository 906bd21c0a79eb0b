"""What one call has heard and not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with one reader, who waits no longer than it says. Anyone may `put`, only the call itself may `get`."""

    __slots__ = ("_alarm", "_held", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: deque[T] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    def put(self, event: T) -> None:
        self._held.append(event)
        self._wake()

    async def get(self, until: float | None) -> T | None:
        """The oldest event; None when the loop's clock passes `until` without one (`until` None: it never does)."""
        while not self._held:
            if until is not None and not self._alarmed(until):
                return None
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._held.popleft()

    def close(self) -> None:
        """Nobody reads it any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _alarmed(self, until: float) -> bool:
        """Sees that it wakes by then; False when that has passed. An alarm that rings sooner is kept, and set anew when
        it has rung: of a call's many waits most end long before."""
        if self._alarm is None or self._alarm.when() > until:
            self.close()
            if self._loop.time() >= until:
                return False
            self._alarm = self._loop.call_at(until, self._rang)
        return True

    def _rang(self) -> None:
        self._alarm = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
