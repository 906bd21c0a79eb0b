"""What one call has heard and not read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with one reader, who waits no longer than it says. Anyone may `put`, only the call itself may `get`."""

    __slots__ = ("_held", "_loop", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: deque[T] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: T) -> None:
        self._held.append(event)
        self._wake()

    async def get(self, until: float | None) -> T | None:
        """The oldest event; None when the loop's clock passes `until` without one (`until` None: it never does)."""
        if not self._held and not await self._filled(until):
            return None
        return self._held.popleft()

    async def _filled(self, until: float | None) -> bool:
        self._waiter = self._loop.create_future()
        alarm = None if until is None else self._loop.call_at(until, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if alarm is not None:
                alarm.cancel()
        return bool(self._held)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
