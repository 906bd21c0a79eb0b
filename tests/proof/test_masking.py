"""Nothing one phone says about itself reaches the other, or anything we keep: every header, line and packet that can
tell, on every message, in both directions, over every transport (RFC 3323, RFC 5379, RFC 7092).

Both phones are raw sockets and strings; the service is the one an operator starts.
"""

from __future__ import annotations

import base64
import re

import pytest

from tests.proof.canaries import CALLEE, CALLER, SPELLED, Bird
from tests.proof.conftest import artefacts
from tests.proof.corpus import BATCHES
from tests.proof.lines import TRANSPORTS
from tests.proof.phones import RawPhone, body, header, names
from tests.proof.story import (
    REFUSALS,
    Pair,
    ask_inside,
    ask_outside,
    cancel,
    connect,
    connect_by_pin,
    hang_up,
    pair,
    refuse,
)
from tests.system.service import Service

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

ALLOWED = {
    "via", "max-forwards", "from", "to", "call-id", "cseq", "contact", "allow", "p-asserted-identity", "user-agent",
    "content-type", "content-length", "reason", "retry-after", "supported", "accept", "require", "unsupported", "rseq",
    "rack", "session-expires", "min-se", "record-route", "route",
}  # fmt: skip
LINES = {"v", "o", "s", "c", "t", "m", "a"}
ATTRIBUTES = {"rtpmap", "fmtp", "ptime", "sendrecv", "sendonly", "recvonly", "inactive"}


def clean(call: Pair) -> None:
    """What both heard holds nothing of the other, and nothing at all that is not on the list."""
    for phone in call.phones:
        phone.drain()
        other = call.other(phone)
        for message in phone.heard:
            start = message.split(b"\r\n")[0]
            assert other.bird.found(message) == [], start
            assert names(message) <= ALLOWED, (start, names(message) - ALLOWED)
            assert numberless(message, other), start
            if header(message, "CSeq").endswith(("INVITE", "UPDATE", "ACK", "PRACK")):
                described(body(message))


def numberless(message: bytes, other: RawPhone) -> bool:
    """Neither the other's number nor its addresses, in the ways we could come to write them."""
    digits = re.sub(rb"[^0-9a-z]", b"", message.lower())
    host, port = other.line.address
    texts = (
        other.bird.address,
        other.bird.port,
        f"{host}:{port}",
        f"IN IP4 {host}",
        f"m=audio {other.corpus.rtp_port}",
    )
    said = "|".join(map(re.escape, texts)).encode()
    return other.number[-8:].encode() not in digits and not re.search(rb"(?<!\d)(?:" + said + rb")(?!\d)", message)


def described(description: bytes) -> None:
    """Lines and attributes that we write, and no others (RFC 8866)."""
    for line in description.split(b"\r\n"):
        kind, _, value = line.decode().partition("=")
        assert not line or kind in LINES, line
        if kind == "a":
            assert re.split("[: ]", value)[0] in ATTRIBUTES, line


@pytest.mark.parametrize("ending", ["caller", "callee"])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_whole_call_tells_neither_of_the_other(service: Service, transport: str, batch: str, ending: str) -> None:
    with pair(service, transport, batch) as call:
        connect(call, kind="parts" if ending == "callee" else "")
        for phone in call.phones:
            ask_inside(phone, call.other(phone))
        first, second = call.phones if ending == "caller" else call.phones[::-1]
        hang_up(first, second)
        clean(call)
        assert service.ended_interaction(call.session)["status"] == "completed"


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cancelled_call_tells_neither_of_the_other(service: Service, transport: str, batch: str) -> None:
    with pair(service, transport, batch) as call:
        cancel(call)
        clean(call)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_refused_call_tells_nothing_of_its_cause(service: Service, transport: str) -> None:
    for n, status in enumerate(REFUSALS):
        with pair(service, transport, list(BATCHES)[n % len(BATCHES)]) as call:
            refuse(call, status)
            clean(call)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_asked_outside_a_call_reaches_nobody(service: Service, transport: str, batch: str) -> None:
    """A text above all: 405, and not a word of it is kept (the service's artefacts are searched at the end)."""
    with pair(service, transport, batch) as call:
        met = ask_outside(call.caller, call.dialled)
        assert met["MESSAGE"] == 405 and min(met.values()) == met["OPTIONS"] == 200
        assert {status for method, status in met.items() if method != "OPTIONS"} <= {405, 481}
        clean(call)
        assert call.callee.heard == []


def test_media_tells_neither_of_the_other(service: Service) -> None:
    """RTP's contributing sources, extensions and padding and RTCP's descriptions end at the relay (RFC 3550, 8285)."""
    with pair(service, "udp", "identity") as call:
        to_caller, to_callee = connect(call)
        caller, callee = call.phones
        heard: dict[str, list[bytes]] = {phone.number: [] for phone in call.phones}
        for _ in range(20):  # what is said before the bridge is open goes nowhere
            caller.talks(to_caller)
            _, sound = callee.talks(to_callee)
            for phone in call.phones:
                heard[phone.number] += phone.listens(phone.rtp, 0.2, enough=20)
            if all(len(packets) >= 10 for packets in heard.values()):
                break
        for phone in call.phones:
            other, packets = call.other(phone), heard[phone.number]
            assert len(packets) >= 10, "the voice passes"
            reports = phone.listens(phone.rtcp, 8.0)
            assert reports, "and our own reports come"
            for packet in packets:
                assert packet[0] == 0x80 and packet[12:] == sound, "twelve octets of header, then the voice alone"
                assert packet[8:12] != other.bird.word[-4:].encode(), "the source is ours"
            for packet in packets + reports:
                assert other.bird.found(packet) == []
                assert other.bird.word[-4:].encode() not in packet and other.bird.word[:4].encode() not in packet
                assert numberless(packet, other)
        hang_up(caller, callee)
        clean(call)


def test_a_recording_keeps_the_voice_and_nothing_that_came_with_it(service: Service) -> None:
    with pair(service, "udp", "others", record="always") as call:
        to_caller, to_callee = connect(call)
        caller, callee = call.phones
        voices = 0
        for _ in range(40):  # behind the notice
            caller.talks(to_caller)
            _, sound = callee.talks(to_callee)
            voices += sum(packet[12:] == sound for packet in caller.listens(caller.rtp, 0.2, enough=50))
            callee.listens(callee.rtp, 0.05, enough=50)
            if voices > 40:
                break
        assert voices > 40, "the voice passes"
        hang_up(callee, caller)
        clean(call)
        recording = service.recording(call.session)
        assert recording["status"] == "available" and service.media(recording["id"]).startswith(b"RIFF")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_pin_reaches_nobody(service: Service, transport: str) -> None:
    """What is keyed in before a call is neither the callee's to hear nor ours to keep readable."""
    with pair(service, transport, "others", pin={"policy": "always", "length": 8}) as call:
        assert len(call.pin) == 8
        connect_by_pin(call)
        hang_up(call.callee, call.caller)
        clean(call)
        pin = call.pin.encode()
        assert not any(pin in message for message in call.callee.heard)
        shown = {"a URL", "an HTTP answer"}  # whoever opens the session is shown it
        assert [where for where, data in artefacts(service) if where not in shown and pin in data] == []


@pytest.mark.parametrize("spelling", SPELLED)
def test_a_word_is_found_in_every_spelling(spelling: str) -> None:
    for word in (CALLER, CALLEE):
        bird = Bird(word)
        assert bird.found(b"Subject: " + SPELLED[spelling](bird.plant("x")) + b"\r\n")
        assert bird.found(b"Subject: nothing of it, nor of myna birds\r\n") == []


def test_a_word_is_found_in_base64_wherever_it_begins() -> None:
    bird = Bird(CALLER)
    for n in range(6):
        assert bird.found(base64.b64encode(b"p" * n + bird.plant("x").encode() + b"tail")), n
        assert bird.found(base64.b32encode(b"p" * n + bird.plant("x").encode() + b"tail")), n
