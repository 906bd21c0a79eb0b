"""A whole masked call through the sans-IO core: the SIP of both its legs, without a socket.

    python -m loadtests.core [--runs N] [--calls N] [--profile]

Two trunks are played from templates: every call has numbers, branches, tags and a Call-ID of its own. Calls go
through the endpoint side by side, `ABREAST` at a time, one message of each after the other; only the endpoint's part
is timed: a message is read, what it causes is said and sent, and the next alarm is asked for. Time passes as at 200
calls a second, and the first calls are not counted, so the tables hold what lingers for 32 s and its timers expire.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from loadtests.goals import alone
from loadtests.measure import Row
from loadtests.parser import BODY, invite
from sipedge.media import sdp
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Acked, Answered, Ended, Invited, Progressed, Responded
from sipedge.sip.flows import Flow

RATE = 200  # calls a second, as far as timers can tell
ABREAST = 20
TALKS = 10  # seconds from ACK to BYE: thousands of other messages come between
LINGERS = 33  # seconds until nothing is left of a call
OURS, CALLER, CALLEE = ("10.0.0.1", 5060), ("10.0.0.9", 5060), ("10.0.0.20", 5080)
FROM_CALLER, TO_CALLEE = Flow("udp", CALLER, OURS), Flow("udp", CALLEE, OURS)
PRODUCT = ("User-Agent", "masking")
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "OPTIONS", "INFO", "UPDATE")
ANSWER_BODY = BODY.replace("10.0.0.8", "10.0.0.21").replace("carrier", "callee")


@dataclass(slots=True)
class Call:
    """What the two trunks know of a call, and what its masking holds."""

    number: int
    invite: bytes
    caller_leg: str = ""
    callee_leg: str = ""
    invited: Invited | None = None
    offer: sdp.Description | None = None
    origin: sdp.Origin | None = None
    heard: bytes = b""  # the last message to the caller
    asked: bytes = b""  # our INVITE to the callee
    bye: bytes = b""  # our BYE to the callee
    over: bool = False


class Exchange:
    """The masking of a call, told as events: what `sipedge.calls` asks of the core, and no more than that."""

    def __init__(self, seed: int = 1) -> None:
        self.luck = random.Random(seed)
        self.endpoint = Endpoint(
            entropy=self.luck.randbytes,
            methods=METHODS,
            extensions=("100rel", "timer"),
            admit=lambda request, now: True,
        )
        self.now = 0.0
        self.calls: dict[str, Call] = {}  # by leg
        self.heard: Call | None = None  # whose message it is

    def turn(self, call: Call, data: bytes, flow: Flow) -> list[tuple[Flow, bytes]]:
        """One message: everything it causes, and the next alarm."""
        endpoint = self.endpoint
        self.heard = call
        endpoint.receive(data, flow, self.now)
        sends = endpoint.take_sends()
        while events := endpoint.take_events():
            for event in events:
                self.tell(event)
            sends += endpoint.take_sends()
        endpoint.due()
        return sends

    def tell(self, event: object) -> None:
        match event:
            case Invited():
                self._invited(event)
            case Progressed():
                if event.status == 180:
                    call = self.calls[event.leg]
                    assert call.invited is not None
                    self.endpoint.respond(call.invited.transaction, 180, self.now)
            case Answered():
                self._answered(event)
            case Acked():
                event.request.let_go()
            case Ended():
                call = self.calls.pop(event.leg)
                cause = event.request.cause or 16
                self.endpoint.bye(call.callee_leg, self.now, headers=[("Reason", f"Q.850;cause={cause}")])
            case Responded():
                assert event.leg is not None and event.status == 200
                self.calls.pop(event.leg).over = True
            case _:
                raise AssertionError(event)

    def _invited(self, event: Invited) -> None:
        call, request = self.heard, event.request
        assert call is not None and request.header("x-masking-trunk") is None
        call.invited, call.caller_leg = event, event.leg
        call.offer = sdp.parse(request.description)
        stream = call.offer.audio
        assert stream is not None and stream.host is not None and sdp.choose(stream) is not None
        dialled, caller = request.uri.digits, [one.uri.digits for one in request.identities]
        assert dialled and caller and request.call_id
        number = f"+8490{call.number:07d}"
        call.origin = sdp.Origin(self.luck.getrandbits(62))
        shown = f"<sip:{dialled}@10.0.0.1:5060>"
        uri = f"sip:{number}@10.0.0.20:5080"
        call.callee_leg = self.endpoint.invite(
            TO_CALLEE, uri, self.now,
            from_=shown, to=f"<{uri}>", headers=[("P-Asserted-Identity", shown), PRODUCT],
            body=sdp.offer(call.origin, "10.0.0.1", 30_000 + call.number % 20_000),
            max_forwards=request.max_forwards - 1,
        )  # fmt: skip
        self.calls[call.caller_leg] = self.calls[call.callee_leg] = call

    def _answered(self, event: Answered) -> None:
        call = self.calls[event.leg]
        assert call.invited is not None and call.offer is not None and call.offer.audio is not None
        response, request = event.response, call.invited.request
        assert response.session_expires is None and "UPDATE" in response.values("allow")
        stream = sdp.parse(response.description).audio
        codec = sdp.choose(call.offer.audio)
        assert stream is not None and sdp.choose(stream) is not None and codec is not None
        seconds = request.session_expires
        assert "timer" in request.supported and request.refresher == ""
        headers = [("Session-Expires", f"{seconds};refresher=uac"), ("Require", "timer")]
        origin = sdp.Origin(self.luck.getrandbits(62))
        body = sdp.answer(call.offer, origin, "10.0.0.1", 50_000 + call.number % 10_000, codec)
        self.endpoint.respond(call.invited.transaction, 200, self.now, headers=headers, body=body)
        call.invited.request.let_go()

    def timeout(self) -> None:
        self.endpoint.timeout(self.now)
        assert not self.endpoint.take_sends()


# ---- the two trunks --------------------------------------------------------------------------------------------------


def _lines(message: bytes, *names: str) -> str:
    """These header lines of a message, in its order."""
    lines = message.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return "".join([f"{line}\r\n" for line in lines if line.partition(":")[0] in names])


def _value(message: bytes, name: str) -> str:
    return _lines(message, name).partition(": ")[2].rstrip("\r\n")


ALLOW = "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO\r\nSupported: replaces\r\nServer: carrier/7.2\r\n"


def _response(request: bytes, status: str, number: int, body: str = "") -> bytes:
    """What the callee's trunk answers to a request of ours."""
    to = _value(request, "To")
    tag = "" if "tag=" in to else f";tag=callee{number:x}"
    repeated = _lines(request, "Via", "From", "Call-ID", "CSeq").replace(";rport", ";rport=5060;received=10.0.0.1")
    more = ""
    if b" INVITE\r\n" in request and status != "100 Trying":
        record = "Record-Route: <sip:10.0.0.20:5080;lr>\r\n"
        more = f"{record}Contact: <sip:callee{number}@10.0.0.21:5060;transport=UDP>\r\n{ALLOW}"
    content = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}" if body else (
        "Content-Length: 0\r\n\r\n"
    )  # fmt: skip
    return f"SIP/2.0 {status}\r\n{repeated}To: {to}{tag}\r\n{more}{content}".encode()


def _inside(call: Call, method: str, sequence: int) -> bytes:
    """What the caller's trunk sends within the dialog, once it has our 200 (`call.heard`)."""
    target = _value(call.heard, "Contact").strip("<>")
    return (
        f"{method} {target} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-{method}-{call.number};rport\r\n"
        f"Via: SIP/2.0/UDP 10.0.0.8:5060;branch=z9hG4bK-77-{method}-{call.number};received=10.0.0.8\r\n"
        f"Max-Forwards: 69\r\n{_lines(call.heard, 'From', 'To', 'Call-ID')}CSeq: {sequence} {method}\r\n"
        f"Contact: <sip:carrier@10.0.0.8:5060;transport=udp>\r\nUser-Agent: carrier/7.2\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def _sent_to(sends: list[tuple[Flow, bytes]], peer: tuple[str, int], start: bytes) -> bytes:
    """The one message that a turn sent to a peer."""
    (data,) = [data for flow, data in sends if flow.remote == peer and data.startswith(start)]
    return data


Prepare = Callable[[Call], tuple[bytes, Flow]]
Check = Callable[[Call, list[tuple[Flow, bytes]]], None]


def _rang_out(call: Call, sends: list[tuple[Flow, bytes]]) -> None:
    _sent_to(sends, CALLER, b"SIP/2.0 100 ")
    call.asked = _sent_to(sends, CALLEE, b"INVITE ")


def _taken(call: Call, sends: list[tuple[Flow, bytes]]) -> None:
    _sent_to(sends, CALLEE, b"ACK ")
    call.heard = _sent_to(sends, CALLER, b"SIP/2.0 200 ")


def _hung_up(call: Call, sends: list[tuple[Flow, bytes]]) -> None:
    _sent_to(sends, CALLER, b"SIP/2.0 200 ")
    call.bye = _sent_to(sends, CALLEE, b"BYE ")


def _silent(call: Call, sends: list[tuple[Flow, bytes]]) -> None:
    assert not sends


Step = tuple[Prepare, Check]
SET_UP: tuple[Step, ...] = (
    (lambda call: (call.invite, FROM_CALLER), _rang_out),
    (lambda call: (_response(call.asked, "100 Trying", call.number), TO_CALLEE), _silent),
    (
        lambda call: (_response(call.asked, "180 Ringing", call.number), TO_CALLEE),
        lambda call, sends: assert_(_sent_to(sends, CALLER, b"SIP/2.0 180 ")),
    ),
    (lambda call: (_response(call.asked, "200 OK", call.number, ANSWER_BODY), TO_CALLEE), _taken),
    (lambda call: (_inside(call, "ACK", call.number + 1), FROM_CALLER), _silent),
)
END: tuple[Step, ...] = (
    (lambda call: (_inside(call, "BYE", call.number + 2), FROM_CALLER), _hung_up),
    (lambda call: (_response(call.bye, "200 OK", call.number), TO_CALLEE), lambda call, sends: assert_(call.over)),
)


def assert_(truth: object) -> None:
    assert truth


# ---- the measurement -------------------------------------------------------------------------------------------------


class Trial:
    """Batches of calls, each set up as one begins and ended `TALKS` seconds later."""

    def __init__(self, profiler: cProfile.Profile | None = None) -> None:
        self.exchange = Exchange()
        self.talking: deque[list[Call]] = deque()
        self.begun = 0
        self.spent = 0.0  # CPU-seconds of the core
        self.profiler = profiler

    def play(self, calls: list[Call], steps: tuple[Step, ...]) -> None:
        """The same step of each call, then the next one."""
        exchange = self.exchange
        for prepare, check in steps:
            messages = [(call, *prepare(call)) for call in calls]
            with self.timed():
                sent = [(call, exchange.turn(call, data, flow)) for call, data, flow in messages]
            for call, sends in sent:
                check(call, sends)

    @contextmanager
    def timed(self) -> Iterator[None]:
        if self.profiler is not None:
            self.profiler.enable()
        began = time.process_time()
        yield
        self.spent += time.process_time() - began
        if self.profiler is not None:
            self.profiler.disable()

    def pass_by(self, seconds: float) -> None:
        self.exchange.now += seconds
        with self.timed():
            self.exchange.timeout()

    def batch(self) -> None:
        """`ABREAST` calls begin, as many end."""
        calls = [Call(number, invite(number)) for number in range(self.begun, self.begun + ABREAST)]
        self.begun += ABREAST
        self.play(calls, SET_UP)
        self.talking.append(calls)
        if len(self.talking) > TALKS * RATE // ABREAST:
            self.play(self.talking.popleft(), END)
        self.pass_by(ABREAST / RATE)


def measure(runs: int, calls: int, profiler: cProfile.Profile | None = None) -> list[float]:
    """µs of CPU a call, one figure a run."""
    trial = Trial()
    for _ in range((TALKS + LINGERS) * RATE // ABREAST):
        trial.batch()
    trial.profiler = profiler
    figures = []
    for _ in range(runs):
        trial.spent = 0.0
        for _ in range(calls // ABREAST):
            trial.batch()
        figures.append(trial.spent / (calls // ABREAST * ABREAST) * 1e6)
    trial.profiler = None
    while trial.talking:
        trial.play(trial.talking.popleft(), END)
    trial.pass_by(LINGERS)
    held = trial.exchange.endpoint.statistics()
    if any(held.values()):
        raise AssertionError(f"something is left of calls that are over: {held}")
    return figures


def run(runs: int = 7, calls: int = 2000) -> list[Row]:
    return [alone("core", "µs/call", measure(runs, calls))]


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m loadtests.core", description=__doc__)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--calls", type=int, default=2000, help="calls a run")
    arguments.add_argument("--profile", action="store_true", help="show where the time goes, by function")
    asked = arguments.parse_args()
    if asked.profile:
        profiler = cProfile.Profile(time.process_time)
        measure(1, asked.calls, profiler)
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(45)
        return 0
    sys.stdout.write(json.dumps(run(asked.runs, asked.calls)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
