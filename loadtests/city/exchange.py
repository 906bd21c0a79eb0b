"""The carrier's exchange that all phones of the city hang on: one SIP address, any number of calls.

It drives our sans-IO SIP core with a plain UDP socket and one thread. Under Locust both are gevent's, since Locust
puts gevent in their place before anything of ours is imported; without Locust they are the operating system's, and
the same city runs on threads.
"""

from __future__ import annotations

import heapq
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.city.orders import Manner, Role
from loadtests.city.voices import Voice
from sipedge.media import sdp
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import (
    AckMissing,
    Answered,
    Cancelled,
    Ended,
    Event,
    Failed,
    Invited,
    Progressed,
    Requested,
    Responded,
)
from sipedge.sip.flows import Flow
from sipedge.sip.transactions import ServerTransaction
from sipedge.sip.uris import hostport, sip_uri

LONGEST_NAP = 0.02  # seconds: how late a timer set by another thread is seen at most
RECEIVE_BUFFER = 8 << 20
_FINAL = {Manner.ANSWERS: 200, Manner.BUSY: 486, Manner.DECLINES: 603}


@dataclass(eq=False)
class Call:
    """One leg of a call, as the phone that holds it knows it. Times are `time.monotonic`'s.

    `hidden`: the other person's number, which no message of this leg may show; `leaked` when one did.
    """

    hidden: str
    began: float
    leg: str = ""
    voice: Voice | None = None
    codes: list[int] = field(default_factory=list)
    status: int = 0
    asserted: list[str] = field(default_factory=list)
    leaked: bool = False
    rang_at: float = 0.0
    answered_at: float = 0.0
    over_at: float = 0.0
    rang: threading.Event = field(default_factory=threading.Event)
    settled: threading.Event = field(default_factory=threading.Event)  # answered, refused or given up
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class Expected:
    """A call that should reach a phone: `call` once it has."""

    hidden: str
    manner: Manner
    ring: float
    speaks_as: Role | None
    call: Call | None = None
    came: threading.Event = field(default_factory=threading.Event)


class Exchange:
    """Places calls at the edge and answers those it is told to expect; everybody else's it refuses and counts.

    A context manager: bound and served meanwhile. `strays` counts calls nobody expected (the wrong person called, or
    the wrong number shown), `unacknowledged` answers the edge never ACKed, `packets` the RTP that phones sent and
    `unsent` what they could not send in time.
    """

    def __init__(self, listen: tuple[str, int], edge: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.bind(listen)
        self._deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # where phones without sound say they listen
        self._deaf.bind((listen[0], 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._flow = Flow("udp", edge, self.address)
        self._endpoint = Endpoint(entropy=os.urandom)
        self._lock = threading.RLock()
        self._calls: dict[str, Call] = {}
        self._expected: dict[tuple[str, str], Expected] = {}
        self._later: list[tuple[float, int, Callable[[float], None]]] = []
        self._turns = itertools.count()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.strays = 0
        self.unacknowledged = 0
        self.packets = 0
        self.unsent = 0

    def __enter__(self) -> Exchange:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join()
        with self._lock:
            for call in self._calls.values():
                if call.voice is not None:
                    call.voice.close()
            self._socket.close()
            self._deaf.close()

    @property
    def up(self) -> int:
        """Legs that are answered and not over."""
        with self._lock:
            return sum(1 for call in self._calls.values() if call.answered_at and not call.over_at)

    # -- what phones do ---------------------------------------------------------------------------------------------

    def dial(
        self, caller: str, dialled: str, hidden: str, *, speaks_as: Role | None = None, describes: bool = True
    ) -> Call:
        """Calls the number `dialled` from the phone `caller`. `describes`: the INVITE carries SDP."""
        with self._lock:
            voice, body = self._offer(speaks_as) if describes else (None, b"")
            uri = sip_uri(dialled, hostport(self._flow.remote))
            identity = f"<{sip_uri(caller, hostport(self.address))}>"
            call = Call(hidden, time.monotonic(), voice=voice)
            call.leg = self._endpoint.invite(
                self._flow, uri, call.began, from_=identity, to=f"<{uri}>",
                headers=[("P-Asserted-Identity", identity)], body=body,
            )  # fmt: skip
            self._calls[call.leg] = call
            self._send()
            return call

    def expect(
        self, called: str, shown: str, hidden: str, manner: Manner, ring: float, speaks_as: Role | None = None
    ) -> Expected:
        """The phone `called` will be rung by the number `shown`, and does as `manner` says after `ring` seconds."""
        expected = Expected(hidden, manner, ring, speaks_as)
        with self._lock:
            self._expected[called, shown] = expected
        return expected

    def forget(self, called: str, shown: str) -> None:
        """The phone is no longer waiting for that call."""
        with self._lock:
            self._expected.pop((called, shown), None)

    def hang_up(self, call: Call) -> None:
        """Ends an answered call, or gives up one that was not answered yet; `over` follows."""
        with self._lock:
            now = time.monotonic()
            if call.answered_at:
                self._endpoint.bye(call.leg, now)
            else:
                self._endpoint.cancel(call.leg, now)
            self._send()

    def _offer(self, speaks_as: Role | None) -> tuple[Voice | None, bytes]:
        voice, port = self._mouth(speaks_as)
        return voice, sdp.offer(_origin(), self.address[0], port)

    def _mouth(self, speaks_as: Role | None) -> tuple[Voice | None, int]:
        """A phone's sound and its port; one without sound names a port where nobody listens."""
        if speaks_as is None:
            return None, int(self._deaf.getsockname()[1])
        voice = Voice(self.address[0], speaks_as, int.from_bytes(os.urandom(4), "big"))
        return voice, voice.port

    # -- the thread -------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._closing:
            self._socket.settimeout(self._nap())
            try:
                data, remote = self._socket.recvfrom(65_535)
            except (TimeoutError, BlockingIOError):
                data, remote = b"", ("", 0)
            with self._lock:
                now = time.monotonic()
                if data:
                    self._endpoint.receive(data, self._flow._replace(remote=remote), now)
                    self._tell(data, now)
                while self._later and self._later[0][0] <= now:
                    heapq.heappop(self._later)[2](now)
                self._endpoint.timeout(now)
                self._tell(b"", now)

    def _nap(self) -> float:
        with self._lock:
            due = self._endpoint.due()
            first = min(due if due is not None else float("inf"), self._later[0][0] if self._later else float("inf"))
        return min(max(first - time.monotonic(), 0.0005), LONGEST_NAP)

    def _send(self) -> None:
        for flow, data in self._endpoint.take_sends():
            self._socket.sendto(data, flow.remote)

    def _tell(self, data: bytes, now: float) -> None:
        """Sends what is to be sent, and takes what happened; `data` is the datagram it happened by."""
        self._send()
        while events := self._endpoint.take_events():
            for event in events:
                self._take(event, data, now)
            self._send()

    # -- what happened ----------------------------------------------------------------------------------------------

    def _take(self, event: Event, data: bytes, now: float) -> None:
        if isinstance(event, Invited):
            self._invited(event, data, now)
            return
        if isinstance(event, Requested):
            self._requested(event, now)
            return
        call = self._calls.get(getattr(event, "leg", None) or "")
        if call is None:
            return
        call.leaked |= call.hidden.lstrip("+").encode() in data
        match event:
            case Progressed():
                self._progressed(call, event, now)
            case Answered():
                self._answered(call, event, now)
            case Failed() | Cancelled():
                call.status = event.status if isinstance(event, Failed) else 487
                self._over(call, now)
            case Ended():
                self._over(call, now)
            case Responded(method="BYE"):
                self._over(call, now)
            case AckMissing():
                self.unacknowledged += 1
                self._endpoint.bye(call.leg, now)

    def _progressed(self, call: Call, event: Progressed, now: float) -> None:
        call.codes.append(event.status)
        if event.status >= 180 and not call.rang_at:
            call.rang_at = now
            call.rang.set()

    def _answered(self, call: Call, event: Answered, now: float) -> None:
        call.status, call.answered_at = 200, now
        self._turn(call, event.response.body)
        call.settled.set()

    def _over(self, call: Call, now: float) -> None:
        call.over_at = now
        if call.voice is not None:
            call.voice.close()
            self.packets += call.voice.sent
            self.unsent += call.voice.unsent
        self._calls.pop(call.leg, None)
        call.settled.set()
        call.over.set()

    def _turn(self, call: Call, body: bytes) -> sdp.Description | None:
        """Speaks from now on to where that description says; None when it says nothing of use."""
        try:
            description = sdp.parse(body)
        except sdp.BadSdp:
            return None
        stream = description.audio
        if stream is None or stream.host is None:
            return None
        if call.voice is not None:
            call.voice.speak_to((stream.host, stream.port))
        return description

    def _invited(self, event: Invited, data: bytes, now: float) -> None:
        request = event.request
        expected = self._expected.pop((request.uri.user, request.from_.uri.user), None)
        if expected is None:
            self.strays += 1
            self._endpoint.respond(event.transaction, 404, now)
            return
        call = expected.call = Call(expected.hidden, now, leg=event.leg)
        call.asserted = [identity.uri.user for identity in request.identities]
        call.leaked = expected.hidden.lstrip("+").encode() in data
        self._calls[event.leg] = call
        if expected.manner is not Manner.BUSY:
            self._endpoint.respond(event.transaction, 180, now)
        if expected.manner is not Manner.SILENT:
            self._in(expected.ring, lambda when: self._settle(call, expected, event.transaction, request.body, when))
        expected.came.set()

    def _settle(
        self, call: Call, expected: Expected, transaction: ServerTransaction, offered: bytes, now: float
    ) -> None:
        """The phone that is called answers or refuses, unless the caller gave up before."""
        if call.over_at:
            return
        call.status = _FINAL[expected.manner]
        if call.status != 200:
            self._endpoint.respond(transaction, call.status, now)
            self._over(call, now)
            return
        call.voice, port = self._mouth(expected.speaks_as)
        description = self._turn(call, offered)
        codec = sdp.choose(description.audio) if description is not None and description.audio is not None else None
        if description is None or codec is None:
            call.status = 488
            self._endpoint.respond(transaction, 488, now)
            self._over(call, now)
            return
        body = sdp.answer(description, _origin(), self.address[0], port, codec)
        self._endpoint.respond(transaction, 200, now, body=body)
        call.answered_at = now
        call.settled.set()

    def _requested(self, event: Requested, now: float) -> None:
        """Everything within a call is agreed to; a re-INVITE is answered with what it offers."""
        call, body = self._calls.get(event.leg or ""), b""
        if event.request.method == "INVITE" and call is not None:
            description = self._turn(call, event.request.body)
            codec = sdp.choose(description.audio) if description is not None and description.audio is not None else None
            if description is not None and codec is not None:
                port = call.voice.port if call.voice is not None else int(self._deaf.getsockname()[1])
                body = sdp.answer(description, _origin(), self.address[0], port, codec)
        self._endpoint.respond(event.transaction, 200, now, body=body)

    def _in(self, seconds: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._turns), what))


def _origin() -> sdp.Origin:
    return sdp.Origin(int.from_bytes(os.urandom(7), "big"))
