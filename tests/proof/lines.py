"""Raw sockets that speak SIP: nothing of our own stack reads or writes here. A transport is one class and one row."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

LENGTH = re.compile(rb"(?mi)^(?:content-length|l)[ \t]*:[ \t]*(\d+)")
Address = tuple[str, int]


class Udp:
    """A datagram socket; answers go back where the last datagram came from."""

    def __init__(self, held: ExitStack, local: Address, edge: Address, *, dials: bool) -> None:
        self._socket = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind(local)
        self._edge = edge
        self.address: Address = self._socket.getsockname()

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, self._edge)

    def receive(self, within: float) -> bytes:
        """One message; b"" when none came."""
        return self._socket.recv(65535) if select.select([self._socket], [], [], within)[0] else b""


class Tcp:
    """A connection to the edge, or (`dials` false) from it, cut into messages by Content-Length."""

    def __init__(self, held: ExitStack, local: Address, edge: Address, *, dials: bool) -> None:
        self._held, self._buffer = held, b""
        self._peer: socket.socket | None = None
        if dials:
            self._peer = held.enter_context(self._wrap(socket.create_connection(edge, 5, source_address=local)))
            self.address: Address = self._peer.getsockname()
        else:
            self._door = held.enter_context(socket.create_server(local, reuse_port=False))
            self.address = self._door.getsockname()

    def _wrap(self, connection: socket.socket) -> socket.socket:
        return connection

    def send(self, data: bytes) -> None:
        assert self._peer is not None, "the edge has not called yet"
        self._peer.sendall(data)

    def receive(self, within: float) -> bytes:
        deadline = time.monotonic() + within
        while not (message := self._cut()):
            left = max(deadline - time.monotonic(), 0)
            if self._peer is None:
                if not select.select([self._door], [], [], left)[0]:
                    return b""
                self._peer = self._held.enter_context(self._wrap(self._door.accept()[0]))
            if not select.select([self._peer], [], [], left)[0]:
                return b""
            more = self._peer.recv(65535)
            assert more, "the edge closed the connection"
            self._buffer += more
        return message

    def _cut(self) -> bytes:
        self._buffer = self._buffer.lstrip(b"\r\n")
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if not end or found is None or len(rest) < int(found[1]):
            return b""
        whole = len(head) + 4 + int(found[1])
        message, self._buffer = self._buffer[:whole], self._buffer[whole:]
        return message


Line = Udp | Tcp
TRANSPORTS: dict[str, Callable[..., Line]] = {"udp": Udp, "tcp": Tcp}
