"""SIP over streams: one TCP connection, or one TLS connection once its handshake is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from sipedge.sip.flows import Flow

if TYPE_CHECKING:
    from sipedge.wire import Wire

Address = tuple[str, int]
PING: Final = b"\r\n\r\n"
PONG: Final = b"\r\n"
PING_SECONDS: Final = 95.0  # between two of ours, and up to …
PING_SPREAD: Final = 25  # … so much more, so that many connections do not ping at once
PONG_SECONDS: Final = 10.0
MAX_UNSENT: Final = 1 << 20  # bytes a peer may leave unread


Admit = Callable[["Stream", asyncio.Transport, Address], bool]


class Stream(asyncio.Protocol):
    """One connection to a known source. `admit(stream, transport, remote)`: may it stand? `peer`: over TLS the trunk
    that is proven to be at the other end."""

    def __init__(self, wire: Wire, kind: str, admit: Admit, *, dialled: bool = False, peer: str = "") -> None:
        self.kind = kind
        self.peer = peer
        self.dialled = dialled
        self.heard = 0.0
        self.mute = not dialled  # it has not said anything yet
        self.flow = Flow(kind, ("", 0), ("", 0))
        self._wire = wire
        self._admit = admit
        self._transport: asyncio.Transport | None = None
        self._ping_at = 0.0
        self._pinged_at = 0.0  # 0: no ping waits for its answer
        self._answers_pings = False
        self._resting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not its children
        remote = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        # A peer that has gone again already has no name.
        if not remote or not local or not self._admit(self, transport, (remote[0], remote[1])):
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_UNSENT)
        self.heard = self._wire.loop.time()
        self.flow = self._wire.streams.opened(self, (remote[0], remote[1]), (local[0], local[1]))
        self._ping_at = self.heard + PING_SECONDS + self.flow.connection % PING_SPREAD

    @property
    def stands(self) -> bool:
        """False once it has ended, and when it was not admitted."""
        return self._transport is not None

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self.heard, self.mute = self._wire.loop.time(), False
        if self._pinged_at:
            self._pinged_at = 0.0
            if data.startswith(PONG) and not data.startswith(PING):
                self._answers_pings = True
                data = data.removeprefix(PONG)  # or two of them would be taken for a ping
        if data:
            self._wire.received(data, self.flow)
            self._wire.settle()

    def keep_alive(self, now: float) -> None:
        """The double CRLF of RFC 5626 4.4.1, by who opened the connection. A peer that answered one once and now says
        nothing is gone; one that never does was not asked to in its own words, so its silence means nothing."""
        if self._pinged_at and now - self._pinged_at > PONG_SECONDS and self._answers_pings:
            self._wire.counts["connections_dead"] += 1
            self.abort()
        elif now >= self._ping_at:
            self._ping_at = now + PING_SECONDS + self.flow.connection % PING_SPREAD
            self._pinged_at = now
            self.send(PING)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._resting is not None:
            self._resting.cancel()
        if self._transport is not None:
            self._transport = None
            self._wire.streams.ended(self)

    def pause_writing(self) -> None:
        """The peer does not read: what it is owed would grow without bound."""
        self._wire.counts[f"{self.kind}_unread"] += 1
        self.abort()

    def rest(self, seconds: float) -> None:
        """Reads nothing for a while."""
        if self._transport is not None and self._resting is None:
            self._transport.pause_reading()
            self._resting = self._wire.loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        if self._transport is not None:
            self._transport.resume_reading()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
