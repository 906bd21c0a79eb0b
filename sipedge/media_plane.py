"""The client of the built-in relay: `MediaPlane` over its unix socket.

One connection, kept up while the edge lives. When it breaks, every waiting question fails with `PlaneGone`; when
it is back within `CLAIM_SECONDS` the calls that live are claimed again and nobody noticed; what the relay then does not
hold any more (it died), and everything when it does not come back in time, is told to its call as `CallLost`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import structlog

from sipedge.media import wire
from sipedge.media.plane import (
    SILENT_AFTER,
    BadRequest,
    Bridge,
    CallLost,
    Claim,
    Close,
    Closed,
    Command,
    Confirm,
    Connect,
    Done,
    End,
    Event,
    Failed,
    Feel,
    Felt,
    Held,
    Hello,
    Keep,
    Leg,
    List,
    Listen,
    Measure,
    Measures,
    Open,
    Pause,
    PlaneError,
    PlaneGone,
    Play,
    Playing,
    Ports,
    Press,
    Record,
    Recorded,
    Reply,
    Request,
    Result,
    RingBack,
    Seal,
    Stop,
    Terms,
    Warn,
)

log = structlog.get_logger("sipedge.media_plane")

ANSWER_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.1
ALONG_SECONDS: Final = 0.005  # the close of a call waits so long for something else that is asked
CLAIM_SECONDS: Final = 3.0  # under the relay's ORPHAN_SECONDS: a call still standing there can be claimed

R = TypeVar("R")


class _Link(asyncio.Protocol):
    """One connection: cuts what the relay says into messages. `gone` is done when it has ended."""

    transport: asyncio.Transport

    def __init__(self, take: Callable[[bytes], None], gone: asyncio.Future[None]) -> None:
        self._take = take
        self._frames = wire.Frames()
        self.gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not its children

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._take(body)
        except wire.BadFrame as problem:
            log.error("relay_sent_a_bad_frame", detail=str(problem))
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


class RelayClient:
    """Keeps the `MediaPlane` promise. `run()` is its life; `up` says whether it can be asked now."""

    def __init__(self, path: Path, owner: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._owner = owner
        self._hear: dict[str, Callable[[Event], None]] = {}
        self._waiting: dict[int, tuple[asyncio.Future[Any], type[Any], str | None]] = {}  # … and the call it opens
        self._deadlines: deque[tuple[float, int]] = deque()  # oldest question first
        self._watch: asyncio.TimerHandle | None = None
        self._link: _Link | None = None
        self._unsent: list[bytes] = []
        self._sending = False  # `_flush` comes at the end of this turn …
        self._later: asyncio.TimerHandle | None = None  # … or then
        self._asked = 0
        self._broken_at: float | None = None
        self.left_behind: tuple[str, ...] = ()  # calls the relay held for this owner's name when we first came

    @property
    def up(self) -> bool:
        return self._link is not None

    # ---- the connection ----------------------------------------------------------------------------------------------

    async def run(self, connected: Callable[[], None] = lambda: None) -> None:
        """Connects, listens, connects again; ends when cancelled. `connected` is called each time it is up."""
        loop = self._loop
        while True:
            try:
                _, link = await loop.create_unix_connection(
                    lambda: _Link(self._take, loop.create_future()), str(self._path)
                )
            except OSError:
                self._give_up_after(loop.time())
                await asyncio.sleep(RETRY_SECONDS)
                continue
            try:
                await self._greet(link)
                connected()
                await link.gone
            except PlaneError as problem:
                log.warning("relay_not_usable", problem=problem.code)
            finally:
                self._link = None
                self._broken_at = loop.time()
                self._fail_waiting()
                link.transport.close()
            log.warning("relay_connection_lost", calls=len(self._hear))
            await asyncio.sleep(RETRY_SECONDS)

    async def _greet(self, link: _Link) -> None:
        self._link = link
        held = await self._ask(Hello(self._owner), Held)
        self.left_behind = held.calls
        ours = tuple(self._hear)
        if ours:
            found = set((await self._ask(Claim(ours), Held)).calls)
            self._lose([call for call in ours if call not in found])
        self._broken_at = None

    def _give_up_after(self, now: float) -> None:
        if self._broken_at is not None and now - self._broken_at > CLAIM_SECONDS:
            self._broken_at = None
            self._lose(list(self._hear))

    def _lose(self, calls: Sequence[str]) -> None:
        for call in calls:
            hear = self._hear.pop(call, None)
            if hear is not None:
                hear(CallLost(call, "gone"))

    def _fail_waiting(self) -> None:
        self._deadlines.clear()
        waiting, self._waiting = self._waiting, {}
        for entry in waiting.values():
            self._fail(*entry, PlaneGone("the connection broke"))

    def _fail(self, answer: asyncio.Future[Any], _kind: type[Any], opens: str | None, error: PlaneError) -> None:
        if opens is not None:
            self._hear.pop(opens, None)
        _fail(answer, error)

    def _take(self, body: bytes) -> None:
        message = wire.decode_message(body)
        if isinstance(message, Reply):
            self._answered(message.id, message.result)
            return
        hear = self._hear.get(message.call)
        if isinstance(message, CallLost):
            self._hear.pop(message.call, None)
        if hear is not None:
            hear(message)

    def _answered(self, number: int, result: Result) -> None:
        entry = self._waiting.pop(number, None)
        if entry is None:  # too late
            return
        answer, kind, _ = entry
        if isinstance(result, kind) and not answer.done():
            answer.set_result(result)
        else:  # … or whoever asked has gone
            error = result.error() if isinstance(result, Failed) else BadRequest("an answer of another kind")
            self._fail(*entry, error)

    def _flush(self) -> None:
        """What one turn of the loop asks leaves in one write: waking the relay costs more than asking it."""
        self._sending = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        frames, self._unsent = self._unsent, []
        if self._link is not None:
            self._link.transport.write(b"".join(frames))

    def _ask(
        self, command: Command, kind: type[R], *, opens: str | None = None, patient: bool = False
    ) -> asyncio.Future[R]:
        """Asks now; `patient`: with the next question, or in `ALONG_SECONDS`. `opens`: the call that this opens."""
        loop = self._loop
        answer: asyncio.Future[R] = loop.create_future()
        if self._link is None or self._link.transport.is_closing():
            self._fail(answer, kind, opens, PlaneGone("not connected"))
            return answer
        self._asked += 1
        self._waiting[self._asked] = answer, kind, opens
        self._deadlines.append((loop.time() + ANSWER_SECONDS, self._asked))
        if self._watch is None:
            self._watch = loop.call_later(ANSWER_SECONDS, self._look)
        self._unsent.append(wire.encode(Request(self._asked, command)))
        if patient and not self._sending:
            self._later = self._later or loop.call_later(ALONG_SECONDS, self._flush)
        elif not self._sending:
            self._sending = True
            loop.call_soon(self._flush)
        return answer

    def _look(self) -> None:
        """Gives up what was not answered in time."""
        self._watch = None
        loop = self._loop
        now = loop.time()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][1] not in self._waiting):
            entry = self._waiting.pop(self._deadlines.popleft()[1], None)
            if entry is not None:
                self._fail(*entry, PlaneGone("no answer in time"))
        if self._deadlines:
            self._watch = loop.call_at(self._deadlines[0][0], self._look)

    # ---- the promise -------------------------------------------------------------------------------------------------

    def open(
        self, call: str, hear: Callable[[Event], None], *, legs: int = 2, silent_after: float = SILENT_AFTER
    ) -> Awaitable[Ports]:
        self._hear[call] = hear
        return self._ask(Open(call, 1 if legs == 1 else 2, silent_after), Ports, opens=call)

    def connect(self, call: str, leg: Leg, terms: Terms) -> Awaitable[object]:
        return self._ask(Connect(call, leg, terms), Done)

    async def play(self, call: str, leg: Leg, asset: str, *, repeat: bool = False) -> int:
        return (await self._ask(Play(call, leg, asset, repeat), Playing)).play

    async def ring_back(self, call: str, leg: Leg, country: str) -> int:
        return (await self._ask(RingBack(call, leg, country), Playing)).play

    async def warn(self, call: str, leg: Leg) -> int:
        return (await self._ask(Warn(call, leg), Playing)).play

    async def confirm(self, call: str, leg: Leg) -> int:
        return (await self._ask(Confirm(call, leg), Playing)).play

    async def press(self, call: str, leg: Leg, digit: str) -> int:
        return (await self._ask(Press(call, leg, digit), Playing)).play

    async def stop(self, call: str, leg: Leg) -> None:
        await self._ask(Stop(call, leg), Done)

    async def listen(self, call: str, leg: Leg) -> None:
        await self._ask(Listen(call, leg), Done)

    def bridge(self, call: str) -> Awaitable[object]:
        return self._ask(Bridge(call), Done)

    async def record(self, call: str, recording: str, directory: str, seal: Seal) -> None:
        await self._ask(Record(call, recording, directory, seal), Done)

    async def keep(self, call: str) -> None:
        await self._ask(Keep(call), Done)

    async def pause(self, call: str) -> None:
        await self._ask(Pause(call), Done)

    async def end(self, call: str) -> Recorded:
        return await self._ask(End(call), Recorded)

    async def close(self, call: str) -> Closed:
        self._hear.pop(call, None)
        return await self._ask(Close(call), Closed, patient=True)

    async def claim(self, calls: Sequence[str], hear: Callable[[Event], None]) -> Sequence[str]:
        found = (await self._ask(Claim(tuple(calls)), Held)).calls
        for call in found:
            self._hear[call] = hear
        return found

    async def calls(self) -> Sequence[str]:
        return (await self._ask(List(), Held)).calls

    async def measure(self) -> Measures:
        return await self._ask(Measure(), Measures)

    async def feel(self) -> Felt:
        return await self._ask(Feel(), Felt)


def _fail(answer: asyncio.Future[Any], error: PlaneError) -> None:
    """Whoever awaits it learns it; an answer that nobody awaits any more is nobody's error."""
    if not answer.done():
        answer.set_exception(error)
        answer.exception()
