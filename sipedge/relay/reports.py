"""RTCP of one leg: ours goes out with our own CNAME, the peer's ends here."""

from __future__ import annotations

import socket
from typing import Final

import msgspec

from sipedge.media import rtcp
from sipedge.relay.loop import SECOND, Loop
from sipedge.relay.sockets import Address

_buffer: Final = bytearray(2048)


class Heard(msgspec.Struct, frozen=True):
    """What was received of the peer's stream so far (RFC 3550 6.4.1)."""

    ssrc: int
    received: int
    lost: int
    highest: int
    jitter: float


class Reports:
    """`loss` (0..1) and `round_trip` (seconds) are what the peer's reports say about our stream."""

    def __init__(self, loop: Loop, one: socket.socket, ssrc: int, cname: str, dropped: dict[str, int]) -> None:
        self.loss: float | None = None
        self.round_trip: float | None = None
        self.peer: Address | None = None
        self._loop = loop
        self._socket = one
        self._ssrc = ssrc
        self._cname = cname
        self._dropped = dropped
        self._theirs = (0, 0)  # middle NTP bits of the peer's last SR, when it came
        self._ours: tuple[int, int] | None = None  # of our last SR, when it left
        self._before = (0, 0)  # received and lost at our last report
        loop.watch(one.fileno(), self._read)

    def towards(self, host: str, port: int) -> None:
        """The peer's address; beyond the highest port there is none."""
        self.peer = (host, port) if port <= 65_535 else None

    def send(self, now: int, wall: float, sent: rtcp.Sent | None, heard: Heard | None) -> None:
        """Sends our report (RFC 3550 6.4): SR when anything was sent, a block when anything was heard."""
        if self.peer is None:
            return
        if sent is not None:
            self._ours = (rtcp.middle(wall), now)
        blocks = [] if heard is None else [self._block(heard, now)]
        try:
            self._socket.sendto(rtcp.build(self._ssrc, self._cname, sent, blocks), self.peer)
        except OSError:
            pass

    def _block(self, heard: Heard, now: int) -> rtcp.Block:
        received, lost = heard.received - self._before[0], heard.lost - self._before[1]
        self._before = (heard.received, heard.lost)
        middle, came = self._theirs
        return rtcp.Block(
            ssrc=heard.ssrc,
            fraction=max(0, lost) / (received + lost) if received + lost > 0 else 0.0,
            lost=heard.lost,
            highest=heard.highest,
            jitter=int(heard.jitter),
            last_report=middle,
            delay=(now - came) * 65_536 // SECOND if middle else 0,
        )

    def _read(self, now: int) -> None:
        try:
            size, source = self._socket.recvfrom_into(_buffer)
        except OSError:
            return
        try:
            if source[:2] != self.peer:
                raise rtcp.BadRtcp("not the peer's")
            report = rtcp.parse(bytes(_buffer[:size]))
        except rtcp.BadRtcp:
            self._dropped["rtcp"] += 1
            return
        if report.middle:
            self._theirs = (report.middle, now)
        for block in report.blocks:
            if block.ssrc == self._ssrc:
                self.loss = block.fraction
                self._returned(block, now)

    def _returned(self, block: rtcp.Block, now: int) -> None:
        """Round trip (RFC 3550 6.4.1), from the report of ours that the peer answers."""
        if self._ours is not None and block.last_report == self._ours[0]:
            self.round_trip = max(0.0, (now - self._ours[1]) / SECOND - block.delay / 65_536)

    def close(self) -> None:
        """Closes the socket."""
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
