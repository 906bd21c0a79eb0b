"""The relay's own event loop: epoll, timers, and nothing between a packet and its handler.

asyncio costs two to four times the relay itself on this path (docs/architecture.md), so there is none here. One thread
runs the loop; `post` is the only method other threads may call. Times are nanoseconds of the clock that was given.
"""

from __future__ import annotations

import heapq
import logging
import os
import select
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

Reader: TypeAlias = Callable[[int], None]

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
BATCH: Final = 256  # descriptors a turn: a bound on how long timers wait behind packets
REST: Final = 500_000  # ns from one turn to the next while much comes in
_LOOK: Final = 20 * MILLISECOND  # how long what comes in is counted before the first rest
_MUCH: Final = 160  # in that time
_FEW: Final = 4  # after a rest: not worth another one
_SHORTEST: Final = 50_000  # ns; a shorter rest is over before it began
_WINDOW: Final = 30 * SECOND
_SAMPLES: Final = 20_000
_SOME: Final = 1_000

log = logging.getLogger("sipedge.relay")


class Timer:
    """Something to do once at `due`; `cancel` forgets it."""

    __slots__ = ("call", "due")

    def __init__(self, due: int, call: Callable[[int], None]) -> None:
        self.due = due
        self.call: Callable[[int], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Lateness:
    """How late timed work was, over the last 30 to 60 seconds: what a packet waits in the loop at worst."""

    __slots__ = ("_before", "_lately", "_now", "_turned")

    def __init__(self) -> None:
        self._before: list[int] = []
        self._now: list[int] = []
        self._lately: list[int] = []
        self._turned = 0

    def add(self, late: int, now: int) -> None:
        """One piece of work was `late` ns late."""
        if now - self._turned > _WINDOW:
            self._before, self._now, self._turned = self._now, [], now
        if len(self._now) < _SAMPLES:
            self._now.append(late)
        if len(self._lately) < _SOME:
            self._lately.append(late)

    def lately(self) -> float:
        """The 95th percentile since this was last asked, in seconds."""
        ordered, self._lately = sorted(self._lately), []
        return ordered[len(ordered) * 95 // 100] / SECOND if ordered else 0.0

    def measure(self) -> tuple[float, float]:
        """The 99th percentile and the maximum, in seconds."""
        ordered = sorted(self._before + self._now)
        if not ordered:
            return 0.0, 0.0
        return ordered[len(ordered) * 99 // 100] / SECOND, ordered[-1] / SECOND


class Loop:
    """Runs readers when their descriptor is readable and timers when they are due, until `stop`.

    `rest` sleeps for seconds. Where much comes in on many descriptors, what comes in half a millisecond is taken at
    once: waking up costs as much as a packet, and nobody hears so short a delay. A few, however busy, are taken as they
    come.
    """

    def __init__(self, clock: Callable[[], int], rest: Callable[[float], None]) -> None:
        self.now = clock()
        self.lateness = Lateness()
        self._clock = clock
        self._rest = rest
        self._epoll = select.epoll()
        self._readers: dict[int, Reader] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._posted: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._running = True
        self.watch(self._wake, self._woken)

    # ---- descriptors ----

    def watch(self, fd: int, reader: Reader) -> None:
        """Calls `reader(now)` in every turn in which the descriptor is readable."""
        self._readers[fd] = reader
        self._epoll.register(fd, select.EPOLLIN)

    def replace(self, fd: int, reader: Reader) -> None:
        """Another reader for a watched descriptor."""
        self._readers[fd] = reader

    def unwatch(self, fd: int) -> None:
        """Forgets a descriptor, before it is closed. Forgetting an unknown one is nothing."""
        if self._readers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def pause(self, fd: int, paused: bool) -> None:
        """Stops or resumes reading a watched descriptor."""
        if fd in self._readers:
            self._epoll.modify(fd, 0 if paused else select.EPOLLIN)

    # ---- time ----

    def call_at(self, due: int, call: Callable[[int], None]) -> Timer:
        """Calls `call(now)` at `due` or as soon after as the loop comes to it."""
        timer = Timer(due, call)
        self._count += 1
        heapq.heappush(self._timers, (due, self._count, timer))
        return timer

    # ---- other threads ----

    def post(self, call: Callable[[], None]) -> None:
        """Lets the loop's thread call this soon. Safe from any thread and from signal handlers."""
        self._posted.append(call)
        os.eventfd_write(self._wake, 1)

    def _woken(self, now: int) -> None:
        os.eventfd_read(self._wake)
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    # ---- running ----

    def stop(self) -> None:
        """Lets `run` return after this turn."""
        self._running = False

    def run(self) -> None:
        """Runs until `stop`. A reader or timer that raises is logged and forgotten; the loop goes on."""
        began, count, resting = self.now, 0, False
        while self._running:
            count += (many := self.turn(self._patience()))
            if resting:
                resting, began, count = many >= _FEW, self.now, 0
            elif self.now - began >= _LOOK:
                resting, began, count = count >= _MUCH, self.now, 0
            if resting:
                self._rest_until(self.now + REST)

    def _rest_until(self, until: int) -> None:
        """Sleeps until then, or until a timer is due; not at all when that is now."""
        if self._timers:
            until = min(until, self._timers[0][0])
        spare = until - self._clock()
        if spare > _SHORTEST:
            self._rest(spare / SECOND)

    def close(self) -> None:
        """Gives its own descriptors back."""
        self._epoll.close()
        os.close(self._wake)

    def turn(self, patience: float) -> int:
        """One turn: waits at most `patience` seconds, then timers that are due, then readable descriptors; how many."""
        events = self._epoll.poll(patience, BATCH)
        now = self.now = self._clock()
        if self._timers and self._timers[0][0] <= now:
            self._due(now)
        readers = self._readers
        fd = -1
        try:
            for fd, _ in events:
                reader = readers.get(fd)
                if reader is not None:
                    reader(now)
        except Exception:
            log.exception("a reader failed and is forgotten")
            self.unwatch(fd)
        return len(events)

    def _patience(self) -> float:
        if not self._timers:
            return 1.0
        return max(0.0, (self._timers[0][0] - self._clock()) / SECOND)

    def _due(self, now: int) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now:
            due, _, timer = heapq.heappop(timers)
            call = timer.call
            if call is None:
                continue
            self.lateness.add(now - due, now)
            try:
                call(now)
            except Exception:
                log.exception("timed work failed and is forgotten")
