"""Raw sockets that speak SIP: nothing of our own stack reads or writes here. A transport is one class and one row."""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.certificates import Authority

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
            plain = socket.create_connection(edge, 5, source_address=local)
            self._peer = held.enter_context(self._dialled(plain))
            self.address: Address = self._peer.getsockname()
        else:
            self._door = held.enter_context(socket.create_server(local))
            self.address = self._door.getsockname()

    def _dialled(self, connection: socket.socket) -> socket.socket:
        return connection

    def _taken(self, connection: socket.socket) -> socket.socket:
        return connection

    def _ready(self, connection: socket.socket, within: float) -> bool:
        return bool(select.select([connection], [], [], within)[0])

    def send(self, data: bytes) -> None:
        assert self._peer is not None, "the edge has not called yet"
        self._peer.sendall(data)

    def receive(self, within: float) -> bytes:
        deadline = time.monotonic() + within
        while not (message := self._cut()):
            left = max(deadline - time.monotonic(), 0)
            if self._peer is None:
                if not self._ready(self._door, left):
                    return b""
                self._peer = self._held.enter_context(self._taken(self._door.accept()[0]))
            if not self._ready(self._peer, left):
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


class Tls(Tcp):
    """The same over TLS; both phones show certificates of one authority (`authority`, set before the first call)."""

    authority: Authority

    def _context(self, kind: int, host: str) -> ssl.SSLContext:
        own = self.authority.sign(host)
        context = ssl.SSLContext(kind)
        context.load_verify_locations(self.authority.bundle)
        context.load_cert_chain(own.certificate, own.key)
        return context

    def _dialled(self, connection: socket.socket) -> socket.socket:
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, connection.getsockname()[0])
        return context.wrap_socket(connection, server_hostname=connection.getpeername()[0])

    def _taken(self, connection: socket.socket) -> socket.socket:
        context = self._context(ssl.PROTOCOL_TLS_SERVER, connection.getsockname()[0])
        return context.wrap_socket(connection, server_side=True)

    def _ready(self, connection: socket.socket, within: float) -> bool:
        waiting = connection.pending() if isinstance(connection, ssl.SSLSocket) else 0
        return waiting > 0 or super()._ready(connection, within)


Line = Udp | Tcp
TRANSPORTS: dict[str, Callable[..., Line]] = {"udp": Udp, "tcp": Tcp, "tls": Tls}
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
