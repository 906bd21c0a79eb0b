"""SIP over TCP and TLS: the connections there are, those being opened, and who may open one.

A connection is held to limits, because one slow or greedy peer must not cost the others anything: so many per source,
so many in all, `HANDSHAKE_SECONDS` for TLS, `FIRST_SECONDS` until it speaks, `IDLE_SECONDS` of silence,
`streams.MAX_UNSENT` bytes left unread. Half a message held too long is the endpoint's to notice, since it does the
framing.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final

from sipedge.sip.flows import Flow
from sipedge.streams import Address, Stream
from sipedge.tls import Credentials, Unproven

if TYPE_CHECKING:
    from sipedge.wire import Wire

FIRST_SECONDS: Final = 5.0  # whoever connects has something to say
IDLE_SECONDS: Final = 600.0
CONNECT_SECONDS: Final = 2.0  # the handshake included
SWEEP_SECONDS: Final = 1.0  # between two looks at all connections
REFUSED_SECONDS: Final = 60.0
HANDSHAKE_SECONDS: Final = 3.0  # … of who connects to us
MAX_CONNECTIONS: Final = 2_000
MAX_PER_SOURCE: Final = 100
MAX_WAITING: Final = 256  # messages kept for a connection that is being opened
BACKLOG: Final = 512
REMEMBERED: Final = 4_096  # peers that refused

Peer = tuple[str, Address, str]  # transport, address, and over TLS who has to be there


class Connections:
    """Every connection of this process. What they bring, and what becomes of them, the `wire` is told."""

    def __init__(self, wire: Wire, tls: Credentials | None) -> None:
        self._wire = wire
        self._loop = wire.loop
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._streams: dict[int, Stream] = {}
        self._latest: dict[Peer, Stream] = {}  # the connection to use for a peer that is sent to by address
        self._waiting: dict[Peer, list[bytes]] = {}
        self._refused: dict[Peer, float] = {}  # until when nobody need try to connect there
        self._greeted: Counter[str] = Counter()  # handshakes that are not done yet
        self._per_source: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._sweep_streams)
        self._born = 0

    def __len__(self) -> int:
        return len(self._streams)

    async def listen(self, sock: socket.socket, transport: str) -> None:
        """Takes connections to a bound socket."""
        sock.listen(BACKLOG)
        if transport == "tls":
            self._start(self._accept(sock))
        else:
            self._servers.append(await self._loop.create_server(self._accepted, sock=sock, backlog=BACKLOG))

    def close(self) -> None:
        """Closes all there are."""
        self._sweep.cancel()
        for task in self._tasks:
            task.cancel()
        for server in self._servers:
            server.close()
        for stream in list(self._streams.values()):
            stream.abort()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- those there are ---------------------------------------------------------------------------------------------

    def standing(self, flow: Flow) -> Flow | None:
        """The connection to use for that peer, if one is up."""
        stream = self._latest.get(_peer(flow))
        return stream.flow if stream is not None else None

    def stands(self, flow: Flow) -> bool:
        """Is this a connection that is up?"""
        return flow.connection in self._streams

    def refused_lately(self, flow: Flow) -> bool:
        """Would that peer take no connection a moment ago?"""
        return self._refused.get(_peer(flow), 0.0) > self._loop.time()

    def disconnect(self, flow: Flow) -> None:
        """Closes the connection a flow names, if it still stands."""
        stream = self._streams.get(flow.connection)
        if stream is not None:
            stream.abort()

    def rest(self, flow: Flow, seconds: float) -> None:
        """Reads nothing of a connection for so long: its peer's own queue is where a flood waits."""
        stream = self._streams.get(flow.connection)
        if stream is not None:
            stream.rest(seconds)

    def opened(self, stream: Stream, remote: Address, local: Address) -> Flow:
        self._born += 1
        flow = Flow(stream.kind, remote, local, self._born, stream.peer)
        self._streams[flow.connection] = stream
        self._latest[_peer(flow)] = stream
        self._per_source[remote[0]] += 1
        return flow

    def ended(self, stream: Stream) -> None:
        flow = stream.flow
        del self._streams[flow.connection]
        if self._latest.get(_peer(flow)) is stream:
            del self._latest[_peer(flow)]
        self._per_source[flow.remote[0]] -= 1
        if not self._per_source[flow.remote[0]]:
            del self._per_source[flow.remote[0]]
        self._wire.closed(flow)

    def _sweep_streams(self) -> None:
        now = self._loop.time()
        for stream in list(self._streams.values()):
            if now - stream.heard > (FIRST_SECONDS if stream.mute else IDLE_SECONDS):
                self._wire.counts["connections_idle"] += 1
                stream.abort()
            elif stream.dialled:
                stream.keep_alive(now)
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._sweep_streams)

    # ---- those we open -----------------------------------------------------------------------------------------------

    def send(self, flow: Flow, data: bytes) -> None:
        """Sends one message by the connection it belongs to, else by a new one. Never waits."""
        peer = _peer(flow)
        stream = self._streams.get(flow.connection) or self._latest.get(peer)
        if stream is not None:
            stream.send(data)
        elif peer in self._waiting:
            if len(self._waiting[peer]) < MAX_WAITING:
                self._waiting[peer].append(data)
        else:
            self._waiting[peer] = [data]
            self._start(self._connect(flow))

    async def _connect(self, flow: Flow) -> None:
        waiting = _peer(flow)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                stream = await (self._dial_tls(flow) if flow.transport == "tls" else self._dial_tcp(flow))
            if not stream.stands:
                raise ConnectionAbortedError
        except (OSError, TimeoutError):  # an SSLError is an OSError too
            self._waiting.pop(waiting, None)
            self._wire.counts[f"{flow.transport}_unreachable"] += 1
            if len(self._refused) >= REMEMBERED:
                self._refused.clear()
            self._refused[waiting] = self._loop.time() + REFUSED_SECONDS
            self._wire.failed(flow)
            return
        for data in self._waiting.pop(waiting, []):
            stream.send(data)

    async def _dial_tcp(self, flow: Flow) -> Stream:
        _, stream = await self._loop.create_connection(
            lambda: Stream(self._wire, "tcp", lambda *_: True, dialled=True), *flow.remote, local_addr=_from(flow)
        )
        return stream

    async def _dial_tls(self, flow: Flow) -> Stream:
        """Raises OSError as well when whoever answers is not the peer that was meant; then nothing was sent there."""
        if self._tls is None:
            raise ConnectionRefusedError
        tls, host = self._tls, flow.remote[0]

        def admit(_: Stream, transport: asyncio.Transport, __: Address) -> bool:
            proven = tls.is_peer(flow.peer, host, transport.get_extra_info("ssl_object").getpeercert())
            self._wire.counts["tls_wrong_peer"] += not proven
            return proven

        context, name = tls.calling(flow.peer, host)
        _, stream = await self._loop.create_connection(
            lambda: Stream(self._wire, "tls", admit, dialled=True, peer=flow.peer),
            *flow.remote, ssl=context, server_hostname=name, local_addr=_from(flow),
        )  # fmt: skip
        return stream

    # ---- those that others open --------------------------------------------------------------------------------------

    def _accepted(self) -> Stream:
        return Stream(self._wire, "tcp", lambda _, __, remote: self._admits("tcp", *remote))

    def _admits(self, transport: str, host: str, port: int) -> bool:
        """May this source open one more connection?"""
        if not self._wire.allowed(transport, host, port):
            self._wire.counts["stranger_connections"] += 1
            return False
        held = self._per_source[host] + self._greeted[host]
        if held >= MAX_PER_SOURCE or len(self._streams) + self._greeted.total() >= MAX_CONNECTIONS:
            self._wire.counts["connections_over_limit"] += 1
            return False
        return True

    async def _accept(self, listening: socket.socket) -> None:
        """Takes connections for TLS. Whoever is a stranger is gone before a byte of a handshake."""
        with listening:
            while True:
                try:
                    sock, remote = await self._loop.sock_accept(listening)
                except OSError:  # out of descriptors: those that are free again later serve the next
                    self._wire.counts["tls_not_accepted"] += 1
                    await asyncio.sleep(0.1)
                    continue
                if self._admits("tls", remote[0], remote[1]):
                    self._greeted[remote[0]] += 1
                    self._start(self._greet(sock, (remote[0], remote[1])))
                else:
                    sock.close()

    async def _greet(self, sock: socket.socket, remote: Address) -> None:
        """The handshake with a known source."""
        tls = self._tls
        assert tls is not None  # the configuration has no TLS listener without a certificate

        def admit(stream: Stream, transport: asyncio.Transport, _: Address) -> bool:
            try:
                stream.peer = tls.whose(*remote, transport.get_extra_info("ssl_object").getpeercert())
            except Unproven:
                self._wire.counts["tls_wrong_peer"] += 1
                return False
            return True

        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._loop.connect_accepted_socket(
                    lambda: Stream(self._wire, "tls", admit), sock, ssl=tls.called(*remote)
                )
        except (OSError, TimeoutError):
            self._wire.counts["tls_handshakes_failed"] += 1
            sock.close()
        finally:
            self._greeted[remote[0]] -= 1
            if not self._greeted[remote[0]]:
                del self._greeted[remote[0]]


def _from(flow: Flow) -> Address | None:
    """Our end of a connection that we open: where we listen for that transport, because carriers know us by that."""
    return None if flow.local[0] in ("0.0.0.0", "::") else (flow.local[0], 0)


def _peer(flow: Flow) -> Peer:
    return flow.transport, flow.remote, flow.peer
