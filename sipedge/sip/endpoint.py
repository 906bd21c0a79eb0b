"""One SIP user agent, without sockets, clocks or luck of its own.

Feed it (`receive`, `timeout`, `transport_failed`, `disconnected`, or any method that speaks), then do all three of:
send everything in `take_sends()`, handle everything in `take_events()`, and call `timeout(now)` when `due()` says
so. `now` is any clock in seconds that never runs backwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sipedge.sip.called import Called
from sipedge.sip.events import Disconnect, Event, Refused
from sipedge.sip.flows import Flow
from sipedge.sip.framing import Framer
from sipedge.sip.messages import BadRequest, Malformed, Request, parse
from sipedge.sip.transactions import ClientTransaction, Provisional, ServerTransaction
from sipedge.sip.uris import Uri

HALF_MESSAGE_SECONDS = 5.0  # how long a stream may hold part of a message
# A request as we write them: its method, and its branch in the Via that follows.
_OURS = re.compile(rb"([A-Z]+) [^\r\n]*\r\nVia: [^\r\n;]*;branch=([A-Za-z0-9]+)[;\r]")


class Endpoint(Called):
    """A UAC and UAS core over the transaction tables.

    `entropy(n)` gives n unpredictable bytes (os.urandom). `advertise(flow)` is the "host:port" our Via and Contact
    show to that peer (default: the flow's local address). `route(flow, uri)` says which flow reaches `uri`, the
    next hop of an in-dialog request (default: `core.by_address`). `methods`, `extensions` (option tags, for Require and
    Supported; 100rel wants the method PRACK) and `accept` (body types) are what the called side takes; the rest gets
    405, 420 and 415. Beyond `max_transactions` requests outside a dialog get 503 (those of one source alone: beyond
    three quarters of them), beyond twice as many those inside one. `admit(request, now)` is asked before an INVITE
    begins a call; False: it gets 503 too. `widen(flow)` gives the stream that a request too long for a datagram takes
    instead (default: none, it stays on UDP).
    """

    # Set while draining: new calls get 503 with Retry-After 1..5.
    refusing: bool

    def __init__(
        self,
        *,
        entropy: Callable[[int], bytes],
        advertise: Callable[[Flow], str] | None = None,
        route: Callable[[Flow, Uri], Flow] | None = None,
        methods: Sequence[str] = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE"),
        extensions: Sequence[str] = (),
        accept: Sequence[str] = ("application/sdp", "multipart/mixed", "application/dtmf-relay", "application/dtmf"),
        max_transactions: int = 100_000,
        admit: Callable[[Request, float], bool] | None = None,
        widen: Callable[[Flow], Flow | None] | None = None,
    ) -> None:
        super().__init__(entropy=entropy, advertise=advertise, route=route, methods=methods, widen=widen)
        self.extensions = frozenset(extensions)
        self.accept = frozenset(accept)
        self.max_transactions = max_transactions
        self.refusing = False
        self._admit = admit
        self._framers: dict[int, Framer] = {}
        self._halves: dict[int, tuple[float, Flow]] = {}  # connection → when its half message is too old; oldest first

    # -- in ---------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Takes one datagram, or any piece of a stream. Never raises on what a peer sent."""
        if not flow.reliable:
            data = data.lstrip(b"\r\n")
            if data:  # line ends alone keep a NAT's binding alive
                self._take(data, flow, now)
            return
        framer = self._framers.get(flow.connection)
        if framer is None:
            framer = self._framers[flow.connection] = Framer()
        for message in framer.feed(data):
            self._take(message, flow, now)
            self._halves.pop(flow.connection, None)
        self._after_feed(framer, flow, now)

    def _after_feed(self, framer: Framer, flow: Flow, now: float) -> None:
        if framer.pings:
            self._send(flow, b"\r\n" * framer.pings)  # RFC 5626 4.4.1
            framer.pings = 0
        if framer.broken:
            self._disconnect(flow, framer.broken)
        elif not framer.unfinished:
            self._halves.pop(flow.connection, None)
        elif flow.connection not in self._halves:
            self._halves[flow.connection] = now + HALF_MESSAGE_SECONDS, flow

    def _take(self, data: bytes, flow: Flow, now: float) -> None:
        try:
            message = parse(data)
        except BadRequest as fault:
            self._refuse_malformed(fault, fault.request, len(data), flow)
            return
        except Malformed as fault:
            self._events.append(Refused(None, fault.reason, flow))
            return
        if not isinstance(message, Request):
            if not self._take_response(message, now):
                self._events.append(Refused(None, "stray response", flow))
            return
        try:
            self._take_request(message, flow, now)
        except Malformed as fault:
            self._refuse_malformed(fault, message, len(data), flow)

    def _disconnect(self, flow: Flow, reason: str) -> None:
        self._halves.pop(flow.connection, None)
        self._framers.pop(flow.connection, None)
        self._events.append(Disconnect(flow, reason))

    def timeout(self, now: float) -> None:
        """Runs every timer that is due at `now`."""
        for transaction, timer in self._timers.expired(now):
            if isinstance(transaction, ClientTransaction):
                self._feed_client(transaction, timer, now, None)
            elif isinstance(transaction, Provisional):
                self._feed_provisional(transaction, timer, now)
            else:
                assert isinstance(transaction, ServerTransaction)
                self._feed_server(transaction, timer, now)
        while self._halves:
            deadline, flow = next(iter(self._halves.values()))
            if deadline > now:
                break
            self._disconnect(flow, "half a message held too long")

    def transport_failed(self, flow: Flow, now: float) -> None:
        """The last message to this flow could not be sent (refused, unreachable): waiting requests fail at once."""
        for transaction in [each for each in self._clients.values() if each.flow == flow]:
            self._unsent(transaction, now)

    def unreached(self, quoted: bytes, flow: Flow, now: float) -> None:
        """ICMP says that a datagram to this flow, of which `quoted` is the beginning, reached nobody: its request fails
        at once. Anybody can forge ICMP, but nobody else knows our branches."""
        found = _OURS.match(quoted)
        transaction = self._clients.get(f"{found[2].decode()} {found[1].decode()}") if found is not None else None
        if transaction is not None and transaction.flow == flow:
            self._unsent(transaction, now)

    def disconnected(self, flow: Flow, now: float) -> None:
        """A stream closed: forgets its half message. Calls go on; their next request opens a new connection."""
        self._framers.pop(flow.connection, None)
        self._halves.pop(flow.connection, None)

    # -- out --------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When `timeout` wants to be called next; None: not at all."""
        due = self._timers.due()
        if self._halves:
            half = next(iter(self._halves.values()))[0]
            return half if due is None else min(due, half)
        return due

    def take_sends(self) -> list[tuple[Flow, bytes]]:
        """What is to be sent now, in order; empties the list."""
        sends, self._sends = self._sends, []
        return sends

    def take_events(self) -> list[Event]:
        """What happened, in order; empties the list."""
        events, self._events = self._events, []
        return events
