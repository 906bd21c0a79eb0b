"""The phone's SIP socket: UDP, or TCP with one connection per peer. Small on purpose: a phone has few peers, all
its own choice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from sipedge.sip.flows import Flow

Address = tuple[str, int]
Received = Callable[[bytes, Flow], None]
Told = Callable[[Flow], None]


class Line:
    """`received(data, flow)`: a datagram or a piece of a stream; `failed(flow)`: could not connect; `closed(flow)`."""

    def __init__(self, transport: str, address: Address, received: Received, failed: Told, closed: Told) -> None:
        self.transport = transport
        self.address = address
        self.received = received
        self.failed = failed
        self.closed = closed
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._streams: dict[int, _Stream] = {}
        self._unsent: dict[Address, list[bytes]] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._born = 0

    @classmethod
    async def open(cls, transport: str, address: Address, received: Received, failed: Told, closed: Told) -> Line:
        """Binds; port 0 lets the kernel choose. Raises OSError."""
        line = cls(transport, address, received, failed, closed)
        loop = asyncio.get_running_loop()
        if transport == "udp":
            line._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(line), local_addr=address)
            name = line._udp.get_extra_info("sockname")
        else:
            line._server = await loop.create_server(lambda: _Stream(line), *address)
            name = line._server.sockets[0].getsockname()
        line.address = (name[0], name[1])
        return line

    async def close(self) -> None:
        """Lets what was sent leave, then closes everything."""
        for task in self._connecting:
            task.cancel()
        for stream in list(self._streams.values()):
            stream.close()
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)

    def flow_to(self, remote: Address) -> Flow:
        return Flow(self.transport, remote, self.address)

    def send(self, flow: Flow, data: bytes) -> None:
        if self._udp is not None:
            self._udp.sendto(data, flow.remote)
            return
        stream = self._streams.get(flow.connection) or self._to(flow.remote)
        if stream is not None:
            stream.write(data)
        elif flow.remote in self._unsent:
            self._unsent[flow.remote].append(data)
        else:
            self._unsent[flow.remote] = [data]
            task = asyncio.get_running_loop().create_task(self._connect(flow))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def disconnect(self, flow: Flow) -> None:
        stream = self._streams.get(flow.connection)
        if stream is not None:
            stream.close()

    def _to(self, remote: Address) -> _Stream | None:
        return next((stream for stream in self._streams.values() if stream.flow.remote == remote), None)

    async def _connect(self, flow: Flow) -> None:
        try:
            _, stream = await asyncio.get_running_loop().create_connection(lambda: _Stream(self), *flow.remote)
        except OSError:
            del self._unsent[flow.remote]
            self.failed(flow)
            return
        for data in self._unsent.pop(flow.remote):
            stream.write(data)

    def joined(self, stream: _Stream, remote: Address, local: Address) -> Flow:
        self._born += 1
        self._streams[self._born] = stream
        return Flow("tcp", remote, local, self._born)

    def left(self, stream: _Stream) -> None:
        self._streams.pop(stream.flow.connection, None)
        self.closed(stream.flow)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, line: Line) -> None:
        self._line = line

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._line.received(data, Flow("udp", (addr[0], addr[1]), self._line.address))

    def error_received(self, exc: Exception) -> None:
        """An ICMP error does not say which datagram it is about: SIP's own timers decide."""


class _Stream(asyncio.Protocol):
    def __init__(self, line: Line) -> None:
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.flow = self._line.joined(self, (remote[0], remote[1]), (local[0], local[1]))

    def data_received(self, data: bytes) -> None:
        self._line.received(data, self.flow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.left(self)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()
