"""The socket that owns a leg's port: it hears strangers, and the first words of a peer whose port is learned."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from typing import Final

from sipedge.media import rtp, sdp
from sipedge.media.plane import Terms
from sipedge.relay import sockets
from sipedge.relay.loop import Loop
from sipedge.relay.sockets import Address

PROBATION: Final = 3  # packets in sequence from one source before a symmetric leg's port is learned
_QUEUED: Final = 2000  # more small datagrams than a socket's queue holds
_A_SECOND: Final = 2000  # datagrams read, then none until the next second: a flood must not cost the calls their time

_buffer: Final = bytearray(2048)


class Listener:
    """Counts strangers by reason in `dropped`; learns a symmetric peer's port once, never an address outside."""

    def __init__(self, loop: Loop, one: socket.socket, dropped: dict[str, int]) -> None:
        self.port: int = one.getsockname()[1]
        self._loop = loop
        self._socket = one
        self._dropped = dropped
        self._terms: Terms | None = None
        self._types: Collection[int] = ()
        self._learned: Callable[[Address], None] | None = None
        self._candidate: tuple[Address, int, int, int] | None = None  # source, SSRC, sequence, packets so far
        self._read_now = 0
        loop.watch(one.fileno(), self._read)

    def expect(self, terms: Terms | None) -> None:
        """Whose strangers these are; None: everybody is one."""
        self._terms = terms
        self._learned = self._candidate = None

    def learn(self, types: Collection[int], learned: Callable[[Address], None]) -> None:
        """Waits for the peer's first packets, of these payload types, and says where they came from."""
        self._types, self._learned = types, learned

    def sendto(self, packet: memoryview | bytes, peer: Address) -> int:
        """Sends from the leg's port while there is no connected socket."""
        return self._socket.sendto(packet, peer)

    def connect(self, peer: Address) -> socket.socket:
        """A socket that hears the peer alone; what was queued before, strangers' words among it, is thrown away.

        Raises `OSError`.
        """
        connected = sockets.connect_beside(self._socket, peer)
        for one in (connected, self._socket):
            for _ in range(_QUEUED):
                try:
                    source: Address = one.recvfrom_into(_buffer)[1][:2]
                except OSError:
                    break
                if source != peer:
                    self._count(source)
        return connected

    def refresh(self) -> None:
        """Once a second: strangers are read again."""
        if self._read_now >= _A_SECOND:
            self._loop.pause(self._socket.fileno(), False)
        self._read_now = 0

    def close(self) -> None:
        """Closes the socket."""
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()

    def _read(self, now: int) -> None:
        try:
            size, source = self._socket.recvfrom_into(_buffer)
        except OSError:
            return
        self._read_now += 1
        if self._read_now == _A_SECOND:
            self._loop.pause(self._socket.fileno(), True)
        if self._learned is None or not self._first_words(size, source[:2]):
            self._count(source[:2])

    def _count(self, source: Address) -> None:
        if self._terms is None:
            self._dropped["spray"] += 1
        elif sdp.inside(source[0], self._terms.cidrs):
            self._dropped["wrong_port"] += 1
        else:
            self._dropped["outside"] += 1

    def _first_words(self, size: int, source: Address) -> bool:
        """One of the first packets of a symmetric leg: after `PROBATION` in sequence from one source, it is the peer.

        False when it comes from outside. Once learned, never again: a later source is a stranger.
        """
        if self._terms is None or self._learned is None or not sdp.inside(source[0], self._terms.cidrs):
            return False
        try:
            packet = rtp.parse(bytes(_buffer[:size]))
        except rtp.BadRtp:
            self._dropped["bad_version"] += 1
            return True
        if packet.payload_type not in self._types:
            self._dropped["payload"] += 1
            return True
        seen = 1
        if self._candidate is not None:
            address, ssrc, sequence, count = self._candidate
            if address == source and ssrc == packet.ssrc and packet.sequence == sequence + 1 & 0xFFFF:
                seen = count + 1
        self._candidate = (source, packet.ssrc, packet.sequence, seen)
        if seen == PROBATION:
            learned, self._learned = self._learned, None
            learned(source)
        return True
