"""SIP sockets: drained non-blocking UDP, TCP and TLS connections within limits, and nothing at all for a stranger.

What arrives is judged by its source address before a byte of it is parsed: a datagram from nobody is dropped, a
connection from nobody is closed without a byte, before any handshake (contract: "a source no trunk names gets no byte
back"). What a known source sends goes up with the `Flow` it came by; an answer goes back by the same flow (RFC 3261
18.2.2, RFC 3581).

A connection is held to limits, because one slow or greedy peer must not cost the others anything: so many per source,
so many in all, `HANDSHAKE_SECONDS` for TLS, `FIRST_SECONDS` until it speaks, `IDLE_SECONDS` of silence,
`streams.MAX_UNSENT` bytes left unread. Half a message held too long is the endpoint's to notice, since it does the
framing.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Final

from masking.config import Listener
from sipedge.lanes import Lanes
from sipedge.sip.flows import Flow
from sipedge.streams import Address, Stream
from sipedge.tls import Credentials, Unproven

MAX_DATAGRAM: Final = 65_535
DRAIN: Final = 256  # datagrams read per wake-up, so that timers and other sockets get their turn
PORTION: Final = 16  # … and handed up before what came meanwhile is read: some 5 ms of work
FIRST_SECONDS: Final = 5.0  # whoever connects has something to say
IDLE_SECONDS: Final = 600.0
CONNECT_SECONDS: Final = 2.0  # the handshake included
SWEEP_SECONDS: Final = 1.0  # between two looks at all connections
REFUSED_SECONDS: Final = 60.0
HANDSHAKE_SECONDS: Final = 3.0  # … of who connects to us
MAX_CONNECTIONS: Final = 2_000
MAX_PER_SOURCE: Final = 100
MAX_WAITING: Final = 256  # messages kept for a connection that is being opened
BUFFER: Final = 4 << 20
RECENT: Final = 0.02  # seconds a datagram waited up to which nobody asks about those behind it
BEHIND: Final = 0.001  # seconds a datagram waited from which on there are others behind it
REMEMBERED: Final = 4_096  # sources and peers that something is kept about
BACKLOG: Final = 512
TIMESTAMPNS: Final = 35  # SO_TIMESTAMPNS, which Python does not name
STAMP: Final = struct.Struct("@ll")
STAMP_ROOM: Final = socket.CMSG_SPACE(STAMP.size)
MAX_AGE: Final = 10.0  # seconds: beyond that somebody set the clock
IP_RECVERR: Final = 11  # Linux's names for "keep ICMP errors for me", which Python does not name
IPV6_RECVERR: Final = 25
EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # sock_extended_err: errno, then who says so
ERROR_ROOM: Final = 512
QUOTED: Final = 576  # octets at most that ICMP gives back of a datagram (RFC 1812 4.3.2.3); the branch stands early
FROM_ICMP: Final = frozenset({2, 3})  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
UNREACHABLE: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOPROTOOPT})

Peer = tuple[str, Address, str]  # transport, address, and over TLS who has to be there


class Wire:
    """Every SIP socket of this process.

    `allowed(transport, host, port)`: may this source be heard at all? `turned_away(data, flow, ahead)`: a datagram just
    read, with so many calls before it; true when nothing is left to be done about it. `received(data, flow)`: its turn
    has come; or any piece of a stream. `settle()`: a portion was handed up; whatever it caused is to be sent now.
    `failed(flow)`: what was sent there last did not arrive. `unreached(quoted, flow)`: the datagram that begins so did
    not, as ICMP says. `closed(flow)`: a stream ended. `wall`: the time of day, as
    the kernel stamps datagrams.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        allowed: Callable[[str, str, int], bool],
        turned_away: Callable[[bytes, Flow, int], bool],
        received: Callable[[bytes, Flow], None],
        settle: Callable[[], None],
        failed: Callable[[Flow], None],
        unreached: Callable[[bytes, Flow], None],
        closed: Callable[[Flow], None],
        wall: Callable[[], float],
        advertise: str = "",
        tls: Credentials | None = None,
    ) -> None:
        self.loop = loop
        self.allowed = allowed
        self.turned_away = turned_away
        self.received = received
        self.settle = settle
        self.failed = failed
        self.unreached = unreached
        self.closed = closed
        self.listeners: list[Listener] = []
        self.counts: Counter[str] = Counter()
        self.age = 0.0  # seconds that the datagram in hand has waited in its socket
        self._lanes = Lanes()
        self._working = False  # a portion is due in the loop's next turn
        self._waited = 0.0  # all datagrams' ages since `take_wait`
        self._read = 0
        self._longest = 0.0
        self._wall = wall
        self._tls = tls
        self._advertise = advertise
        self._flows: dict[tuple[Address, Address], Flow] = {}
        self._shown: dict[tuple[str, Address, str], str] = {}
        self._own: dict[str, str] = {}
        self._udp: dict[Address, socket.socket] = {}
        self._epolls: list[select.epoll] = []
        self._servers: list[asyncio.Server] = []
        self._streams: dict[int, Stream] = {}
        self._latest: dict[Peer, Stream] = {}  # the connection to use for a peer that is sent to by address
        self._waiting: dict[Peer, list[bytes]] = {}
        self._refused: dict[Peer, float] = {}  # until when nobody need try to connect there
        self._greeted: Counter[str] = Counter()  # handshakes that are not done yet
        self._per_source: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._born = 0

    # ---- listening ---------------------------------------------------------------------------------------------------

    async def listen(self, listener: Listener) -> Listener:
        """Opens one listener; the answer names the port the kernel chose where 0 was asked. Raises OSError."""
        family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
        kind = socket.SOCK_DGRAM if listener.transport == "udp" else socket.SOCK_STREAM
        sock = socket.socket(family, kind)
        sock.setblocking(False)
        try:
            if listener.transport != "udp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((listener.host, listener.port))
            local = (listener.host, int(sock.getsockname()[1]))
            if listener.transport == "udp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                if sys.platform == "linux":
                    sock.setsockopt(socket.SOL_SOCKET, TIMESTAMPNS, 1)
                self._udp[local] = sock
                self._watch(sock, local)
            else:
                sock.listen(BACKLOG)
                if listener.transport == "tls":
                    self._start(self._accept(sock))
                else:
                    self._servers.append(await self.loop.create_server(self._accepted, sock=sock, backlog=BACKLOG))
        except OSError:
            sock.close()
            raise
        bound = Listener(listener.transport, *local)
        self.listeners.append(bound)
        if self._sweep is None:
            self._sweep = self.loop.call_later(SWEEP_SECONDS, self._sweep_streams)
        return bound

    def _watch(self, sock: socket.socket, local: Address) -> None:
        """Reads a datagram socket whenever something is there. On Linux that is also an ICMP error: whom we asked is
        unreachable (RFC 3261 18.4). The loop sees it through an epoll of its own, because libuv stops watching for good
        a descriptor that reports an error."""
        if sys.platform != "linux":
            self.loop.add_reader(sock.fileno(), self._drain, sock, local)
            return
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        if sock.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        epoll = select.epoll()
        epoll.register(sock.fileno(), select.EPOLLIN)
        self._epolls.append(epoll)
        self.loop.add_reader(epoll.fileno(), self._drain, sock, local)

    def close(self) -> None:
        """Closes every socket."""
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._tasks:
            task.cancel()
        for server in self._servers:
            server.close()
        for stream in list(self._streams.values()):
            stream.abort()
        for epoll in self._epolls:
            self.loop.remove_reader(epoll.fileno())
            epoll.close()
        for sock in self._udp.values():
            self.loop.remove_reader(sock.fileno())
            sock.close()
        self._udp.clear()
        self._lanes.clear()

    # ---- sending -----------------------------------------------------------------------------------------------------

    def flow_to(self, transport: str, host: str, port: int, peer: str = "") -> Flow:
        """The flow a new request to this address takes; over TLS `peer` is the trunk that has to be there."""
        if transport == "udp":
            local = self._local("udp", ":" in host)
            return self._flows.get(((host, port), local)) or self._meet((host, port), local)
        flow = Flow(transport, (host, port), self._local(transport, ":" in host), 0, peer if transport == "tls" else "")
        stream = self._latest.get(_peer(flow))
        return stream.flow if stream is not None else flow

    def _local(self, transport: str, six: bool) -> Address:
        for each in self.listeners:
            if each.transport == transport and (":" in each.host) == six:
                return each.host, each.port
        return ("::" if six else "0.0.0.0", 0)

    def serves(self, stream: Flow) -> bool:
        """Could a stream to that peer come about? Not when it refused one lately, and not without a listener that our
        Via can name."""
        refused = self._refused.get(_peer(stream), 0.0) > self.loop.time()
        return not refused and any(each.transport == stream.transport for each in self.listeners)

    def stands(self, flow: Flow) -> bool:
        """Is this a connection that is up?"""
        return flow.connection in self._streams

    def advertise(self, flow: Flow) -> str:
        """The host:port that a peer on this flow is shown: as configured, else where we listen for its transport: there
        where it came to us, or at the address we came to it from."""
        key = (flow.transport, flow.local if flow.transport == "udp" else self._listening(flow), flow.remote[0])
        shown = self._shown.get(key)
        if shown is None:
            if len(self._shown) >= REMEMBERED:
                self._shown.clear()
            shown = self._shown[key] = self._find_shown(flow)
        return shown

    def _find_shown(self, flow: Flow) -> str:
        host, port = flow.local if flow.transport == "udp" else self._listening(flow)
        if self._advertise:
            name, colon, given = self._advertise.rpartition(":")
            if not (colon and given.isdigit() and (":" not in name or name.startswith("["))):
                name, given = self._advertise, str(port)
            return f"{name}:{port if flow.transport == 'tls' else given}"
        if host in ("0.0.0.0", "::"):
            host = self.host_towards(flow.remote[0])
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _listening(self, flow: Flow) -> Address:
        """The listener that a connection came to; for one of ours, the one at our end's address, or else the first."""
        own = [(one.host, one.port) for one in self.listeners if one.transport == flow.transport]
        if flow.local in own:
            return flow.local
        here = (one for one in own if one[0] == flow.local[0])
        return next(here, None) or self._local(flow.transport, ":" in flow.remote[0])

    def host_towards(self, peer: str) -> str:
        """Our own address on the way to a peer, an address too."""
        own = self._own.get(peer)
        if own is None:
            if len(self._own) >= REMEMBERED:
                self._own.clear()
            own = self._own[peer] = _route_to(peer)
        return own

    def send(self, flow: Flow, data: bytes) -> None:
        """Sends one message; over TCP by the connection it belongs to, else by a new one. Never waits."""
        if flow.transport == "udp":
            self._send_datagram(flow, data)
            return
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

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send_datagram(self, flow: Flow, data: bytes) -> None:
        sock = self._udp.get(flow.local) or self._udp.get(self._local("udp", ":" in flow.remote[0]))
        if sock is None:
            self.counts["unsent_no_socket"] += 1
            return
        try:
            try:
                sock.sendto(data, flow.remote)
            except OSError as error:
                if error.errno not in UNREACHABLE:
                    raise
                sock.sendto(data, flow.remote)  # what was reported was the ICMP error of an earlier datagram
        except OSError as error:  # a full buffer is as good as lost on the way, and SIP sends again
            self.counts[f"unsent_{errno.errorcode.get(error.errno or 0, 'unknown').lower()}"] += 1
            if error.errno in UNREACHABLE:  # no road there
                self.loop.call_soon(self.failed, flow)

    async def _connect(self, flow: Flow) -> None:
        waiting = _peer(flow)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                stream = await (self._dial_tls(flow) if flow.transport == "tls" else self._dial_tcp(flow))
            if not stream.stands:
                raise ConnectionAbortedError
        except (OSError, TimeoutError):  # an SSLError is an OSError too
            self._waiting.pop(waiting, None)
            self.counts[f"{flow.transport}_unreachable"] += 1
            if len(self._refused) >= REMEMBERED:
                self._refused.clear()
            self._refused[waiting] = self.loop.time() + REFUSED_SECONDS
            self.failed(flow)
            return
        for data in self._waiting.pop(waiting, []):
            stream.send(data)

    async def _dial_tcp(self, flow: Flow) -> Stream:
        _, stream = await self.loop.create_connection(
            lambda: Stream(self, "tcp", lambda *_: True, dialled=True), *flow.remote, local_addr=_from(flow)
        )
        return stream

    async def _dial_tls(self, flow: Flow) -> Stream:
        """Raises OSError as well when whoever answers is not the peer that was meant; then nothing was sent there."""
        if self._tls is None:
            raise ConnectionRefusedError
        tls, host = self._tls, flow.remote[0]

        def admit(_: Stream, transport: asyncio.Transport, __: Address) -> bool:
            proven = tls.is_peer(flow.peer, host, transport.get_extra_info("ssl_object").getpeercert())
            self.counts["tls_wrong_peer"] += not proven
            return proven

        context, name = tls.calling(flow.peer, host)
        _, stream = await self.loop.create_connection(
            lambda: Stream(self, "tls", admit, dialled=True, peer=flow.peer),
            *flow.remote, ssl=context, server_hostname=name, local_addr=_from(flow),
        )  # fmt: skip
        return stream

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

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def _drain(self, sock: socket.socket, local: Address) -> None:
        """Reads a datagram with the time the kernel took it, and all the others once it had to wait: looking for them
        at every one would cost more than the loop's next turn. What needs no work is answered here and now; of the rest
        what is urgent is handed up first."""
        if self._lanes.full:
            return
        batch: list[tuple[bytes, Address, float]] = []
        age = 0.0
        while len(batch) < DRAIN and (not batch or batch[0][2] > BEHIND):
            try:
                if batch and age < RECENT:  # what came later is no older
                    data, source = sock.recvfrom(MAX_DATAGRAM)
                else:
                    data, stamps, _, source = sock.recvmsg(MAX_DATAGRAM, STAMP_ROOM)
                    age = self._age(stamps)
                    self._longest = max(self._longest, age)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:  # an ICMP error of an earlier send is reported here: nothing was received
                self.counts["udp_errors"] += 1
                if self.counts["udp_errors"] % DRAIN == 0:
                    break
                continue
            batch.append((data, source, age))
        if not batch:
            self._read_errors(sock, local)
        alone = len(batch) == 1 and not self._lanes
        for data, source, self.age in batch:
            if not self.allowed("udp", source[0], source[1]):
                self.counts["stranger_datagrams"] += 1
                continue
            flow = self._flows.get((source, local)) or self._meet(source, local)
            if self.turned_away(data, flow, self._lanes.calls):
                continue
            if alone:
                self._hand_up(data, flow, self.age)
            else:
                self._lanes.put(data, flow, self.loop.time() - self.age)
        if alone:
            self.settle()
        elif not self._working:
            self._work()

    def _work(self) -> None:
        """Hands up a portion of what waits, and the next in the loop's next turn, when the sockets have been read."""
        for _ in range(min(PORTION, len(self._lanes))):
            data, flow, since = self._lanes.take()
            self._hand_up(data, flow, self.loop.time() - since)
        self.settle()
        self._working = len(self._lanes) > 0
        if self._working:
            self.loop.call_soon(self._work)

    def _hand_up(self, data: bytes, flow: Flow, waited: float) -> None:
        self._waited += waited
        self._read += 1
        self.received(data, flow)

    def _meet(self, source: Address, local: Address) -> Flow:
        """The flow of a known peer's datagrams: made once, so that all its calls hold the same one."""
        if len(self._flows) >= REMEMBERED:
            self._flows.clear()
        flow = self._flows[source, local] = Flow("udp", (source[0], source[1]), local)
        return flow

    def _read_errors(self, sock: socket.socket, local: Address) -> None:
        """What ICMP says did not arrive: the kernel gives what was quoted of each datagram, with where it was going."""
        for _ in range(DRAIN):
            try:
                quoted, said, _, remote = sock.recvmsg(QUOTED, ERROR_ROOM, socket.MSG_ERRQUEUE)
            except OSError:  # there are no more
                break
            if any(_unreachable(*one) for one in said):
                self.counts["udp_unreachable"] += 1
                self.unreached(quoted, Flow("udp", (remote[0], remote[1]), local))

    def take_wait(self) -> float:
        """Seconds a datagram waited for its turn on average since this was last asked."""
        wait = self._waited / self._read if self._read else 0.0
        self._waited, self._read = 0.0, 0
        return wait

    def take_longest_wait(self) -> float:
        """Seconds a datagram waited in its socket at the most since this was last asked."""
        longest, self._longest = self._longest, 0.0
        return longest

    def _age(self, stamps: list[tuple[int, int, bytes]]) -> float:
        """How long ago the kernel took a datagram, by its stamp; 0 where it does not say."""
        for level, kind, stamp in stamps:
            if level == socket.SOL_SOCKET and kind == TIMESTAMPNS and len(stamp) == STAMP.size:
                seconds, nanoseconds = STAMP.unpack(stamp)
                return float(min(max(self._wall() - seconds - nanoseconds / 1e9, 0.0), MAX_AGE))
        return 0.0

    def _accepted(self) -> Stream:
        return Stream(self, "tcp", lambda _, __, remote: self._admits("tcp", *remote))

    def _admits(self, transport: str, host: str, port: int) -> bool:
        """May this source open one more connection?"""
        if not self.allowed(transport, host, port):
            self.counts["stranger_connections"] += 1
            return False
        held = self._per_source[host] + self._greeted[host]
        if held >= MAX_PER_SOURCE or len(self._streams) + self._greeted.total() >= MAX_CONNECTIONS:
            self.counts["connections_over_limit"] += 1
            return False
        return True

    async def _accept(self, listening: socket.socket) -> None:
        """Takes connections for TLS. Whoever is a stranger is gone before a byte of a handshake."""
        with listening:
            while True:
                try:
                    sock, remote = await self.loop.sock_accept(listening)
                except OSError:  # out of descriptors: those that are free again later serve the next
                    self.counts["tls_not_accepted"] += 1
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
                self.counts["tls_wrong_peer"] += 1
                return False
            return True

        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self.loop.connect_accepted_socket(
                    lambda: Stream(self, "tls", admit), sock, ssl=tls.called(*remote)
                )
        except (OSError, TimeoutError):
            self.counts["tls_handshakes_failed"] += 1
            sock.close()
        finally:
            self._greeted[remote[0]] -= 1
            if not self._greeted[remote[0]]:
                del self._greeted[remote[0]]

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
        self.closed(flow)

    def _sweep_streams(self) -> None:
        now = self.loop.time()
        for stream in list(self._streams.values()):
            if now - stream.heard > (FIRST_SECONDS if stream.mute else IDLE_SECONDS):
                self.counts["connections_idle"] += 1
                stream.abort()
            elif stream.dialled:
                stream.keep_alive(now)
        self._sweep = self.loop.call_later(SWEEP_SECONDS, self._sweep_streams)

    @property
    def connections(self) -> int:
        return len(self._streams)


def _from(flow: Flow) -> Address | None:
    """Our end of a connection that we open: where we listen for that transport, because carriers know us by that."""
    return None if flow.local[0] in ("0.0.0.0", "::") else (flow.local[0], 0)


def _peer(flow: Flow) -> Peer:
    return flow.transport, flow.remote, flow.peer


def _unreachable(level: int, kind: int, data: bytes) -> bool:
    """Is this ancillary message an ICMP error that says: not there?"""
    if (level, kind) not in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
        return False
    number, origin, *_ = EXTENDED_ERROR.unpack_from(data)
    return origin in FROM_ICMP and number in UNREACHABLE


def _route_to(peer: str) -> str:
    """The kernel says by which address it would go; connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect((peer, 9))
        except OSError:  # no road there: what we say will not arrive either
            return "::1" if ":" in peer else "127.0.0.1"
        return str(probe.getsockname()[0])
