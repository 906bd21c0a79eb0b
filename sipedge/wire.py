"""SIP sockets: drained non-blocking UDP, TCP and TLS connections within limits, and nothing at all for a stranger.

What arrives is judged by its source address before a byte of it is parsed: a datagram from nobody is dropped, a
connection from nobody is closed without a byte, before any handshake (contract: "a source no trunk names gets no byte
back"). What a known source sends goes up with the `Flow` it came by; an answer goes back by the same flow (RFC 3261
18.2.2, RFC 3581).

`sipedge.connections` keeps the streams; the datagrams are here.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

from masking.config import Listener
from sipedge.connections import Connections
from sipedge.lanes import Lanes
from sipedge.sip.flows import Flow
from sipedge.streams import Address
from sipedge.tls import Credentials

MAX_DATAGRAM: Final = 65_535
DRAIN: Final = 256  # datagrams read per wake-up, so that timers and other sockets get their turn
PORTION: Final = 16  # … and handed up before what came meanwhile is read: some 5 ms of work
BUFFER: Final = 4 << 20
RECENT: Final = 0.02  # seconds a datagram waited up to which nobody asks about those behind it
BEHIND: Final = 0.001  # seconds a datagram waited from which on there are others behind it
REMEMBERED: Final = 4_096  # sources and peers that something is kept about
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
        self.streams = Connections(self, tls)
        self._advertise = advertise
        self._flows: dict[tuple[Address, Address], Flow] = {}
        self._shown: dict[tuple[str, Address, str], str] = {}
        self._own: dict[str, str] = {}
        self._udp: dict[Address, socket.socket] = {}
        self._epolls: list[select.epoll] = []

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
                await self.streams.listen(sock, listener.transport)
        except OSError:
            sock.close()
            raise
        bound = Listener(listener.transport, *local)
        self.listeners.append(bound)
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
        self.streams.close()
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
        return self.streams.standing(flow) or flow

    def _local(self, transport: str, six: bool) -> Address:
        for each in self.listeners:
            if each.transport == transport and (":" in each.host) == six:
                return each.host, each.port
        return ("::" if six else "0.0.0.0", 0)

    def serves(self, stream: Flow) -> bool:
        """Could a stream to that peer come about? Not when it refused one lately, and not without a listener that our
        Via can name."""
        named = any(each.transport == stream.transport for each in self.listeners)
        return named and not self.streams.refused_lately(stream)

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
        else:
            self.streams.send(flow, data)

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
