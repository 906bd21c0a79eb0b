"""What hostile bytes are fed to: one function a parser, none of which may raise, take long or keep anything.

The property tests and the coverage-guided harness (`loadtests.fuzz`) call the same functions.
"""

from __future__ import annotations

from collections.abc import Callable

from masking import numbering
from masking.config import StirSection, TrunkSection
from sipedge import admission, session_timers, stir, trunks
from sipedge.media import rtcp, rtp, sdp, telephone_events
from sipedge.media.plane import AddressRefused
from sipedge.sip import digest, gate
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Acked, Answered, Disconnect, Failed, Invited, Progressed, Requested, Responded
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Malformed, Message, Request, Response, parse
from tests.sip.world import SDP, entropy

UDP = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))
TCP = Flow("tcp", ("192.0.2.1", 40_000), ("192.0.2.9", 5060), 1)
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "OPTIONS", "INFO")
WHO = digest.Credentials("user", "password", "realm")
GATE = gate.Gate(lambda octets: bytes(octets))
TRUNK = trunks.Trunk(TrunkSection(name="t", uri="sip:192.0.2.1", sources=["192.0.2.0/24"], country="VN"))
SECRET = bytes(16)
VERIFIER = stir.Verifier(StirSection(policy="verify"))
NUMBER = numbering.read("VN", "+84901234567")
# Repeats what it could not read, so it need not be readable itself.
ECHOES = (b"SIP/2.0 400", b"SIP/2.0 505", b"\r\n")


def endpoint_with_calls() -> tuple[Endpoint, list[bytes]]:
    """One that is being called, calls, and holds a call; and what it said. Always the same."""
    one = Endpoint(entropy=entropy("fuzz"), methods=METHODS, extensions=("100rel", "timer"), max_transactions=50)
    said: list[bytes] = []
    one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:a@h>", to="<sip:b@h>", body=SDP)
    one.receive(INVITE, UDP, 0.0)
    for event in one.take_events():
        if isinstance(event, Invited):
            one.respond(event.transaction, 200, 0.0, body=SDP)
    said += [data for _, data in one.take_sends()]
    return one, said


INVITE = (
    b"INVITE sip:+842471000000@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKf\r\nMax-Forwards: 70\r\n"
    b"From: <sip:+84901@192.0.2.1>;tag=f\r\nTo: <sip:+842471@192.0.2.9>\r\nCall-ID: fuzz\r\nCSeq: 7 INVITE\r\n"
    b"Contact: <sip:+84901@192.0.2.1>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(SDP)
) + SDP


def sip(data: bytes) -> None:
    """A datagram at the door, then at an endpoint with calls; whatever it causes is served, answered and timed out."""
    at_the_door(data)
    serve(endpoint_with_calls()[0], data, UDP, [data])


def stream(data: bytes) -> None:
    """The same bytes as a stream, in pieces whose length the first byte says, and no more than a hundred."""
    size = max(data[0] if data else 1, len(data) // 100 + 1)
    serve(endpoint_with_calls()[0], data, TCP, [data[at : at + size] for at in range(1, len(data), size)])


def at_the_door(data: bytes) -> None:
    """What is read of a datagram before it is parsed."""
    admission.urgency(data)
    admission.inside(data)
    admission.acknowledges(data)
    scanned = admission.scan(data) if data.startswith(b"INVITE ") else None
    if scanned is not None:
        refusal = admission.refusal(scanned, UDP.remote, "503 Service Unavailable", "Retry-After: 1", SECRET)
        assert refusal.count(b"\r\n\r\n") == 1


def serve(one: Endpoint, data: bytes, flow: Flow, pieces: list[bytes]) -> None:
    """Feeds the endpoint, answers what it tells, and looks at what leaves."""
    for piece in pieces:
        one.receive(piece, flow, 1.0)
    for event in one.take_events():
        match event:
            case Invited():
                read_as_the_edge_does(event.request)
                trunks.dialled(TRUNK, event.request)
                trunks.caller(TRUNK, event.request)
                one.respond(event.transaction, 180, 1.0)
                one.respond(event.transaction, 200, 1.0, body=SDP)
                one.bye(event.leg, 1.0)
            case Requested():
                read_as_the_edge_does(event.request)
                if event.request.method == "INFO" and event.request.body:
                    key = telephone_events.told(event.request.content_type, event.request.body)
                    assert key is None or key in telephone_events.KEYS
                one.respond(event.transaction, 200, 1.0)
            case Answered() | Progressed():
                read_as_the_edge_does(event.response)
            case Failed() | Responded() if event.response is not None:
                read_as_the_edge_does(event.response)
            case Acked():
                read_as_the_edge_does(event.request)
            case Disconnect():
                one.disconnected(event.flow, 1.0)
    for now in (2.0, 40.0, 80.0, 120.0):
        for _, sent in one.take_sends():
            assert sent.startswith(ECHOES) or well_formed(sent), "what goes out"
        one.timeout(now)
    one.take_events()


def well_formed(sent: bytes) -> bool:
    """Would we read it ourselves? An answer repeats all Vias, one a line: more of them than we take are no fault."""
    try:
        parse(sent)
    except Malformed as fault:
        return fault.reason == "too many headers"
    return True


def read_as_the_edge_does(message: Message) -> None:
    """What `sipedge` reads of a message that the endpoint let through."""
    description(message.description)
    session_timers.takes_update(message)
    if isinstance(message, Request):
        session_timers.granted(message, 1.0)
    if isinstance(message, Response):
        session_timers.accepted(message, 1.0)
        session_timers.min_se(message)
        if message.status in (401, 407):
            digest.choose(message, WHO)


def description(data: bytes) -> None:
    """SDP: read, chosen from, told to the media plane, answered."""
    try:
        read = sdp.parse(data)
        audio = read.audio
        codec = sdp.choose(audio) if audio is not None else None
        if audio is None or codec is None:
            return
        answer = sdp.answer(read, sdp.Origin(7), "192.0.2.9", 20_000, codec)
        assert len(sdp.parse(answer).streams) == len(read.streams)
        sdp.terms(audio, codec, ("192.0.2.0/24",))
    except (sdp.BadSdp, AddressRefused):
        return


def media(data: bytes) -> None:
    """RTP, and the key presses in it."""
    try:
        packet = rtp.parse(data)
    except rtp.BadRtp:
        return
    assert len(packet.payload) <= len(data) - 12
    keys = telephone_events.Receiver()
    for later in (0, 1, 160):
        keys.receive(packet.timestamp + later, packet.payload, later / 8000)
    keys.lapse(9.0)


def reports(data: bytes) -> None:
    """RTCP."""
    try:
        report = rtcp.parse(data)
    except rtcp.BadRtcp:
        return
    assert len(report.blocks) <= len(data) // 24
    assert rtcp.parse(rtcp.build(report.ssrc, "name", None, report.blocks[:31])).blocks == report.blocks[:31]


def challenge(data: bytes) -> None:
    """A Digest header of a trunk: asking, and answering what nobody asked."""
    request = Request("INVITE", "sip:bob@192.0.2.9")
    request.headers["authorization"] = [data.decode("latin-1")]
    gate.username(request)
    assert GATE.judge(request, WHO, "192.0.2.1", 1.0) is gate.Verdict.UNKNOWN
    try:
        asked = digest.read_challenge(data.decode("latin-1"))
    except Malformed:
        return
    if asked is not None and asked.realm.isprintable():
        digest.read_pairs(data.decode("latin-1"))


def identity(data: bytes) -> None:
    """An Identity header, as far as somebody gets whose certificate is unknown; and its claims, as if it were known."""
    request = Request("INVITE", "sip:+842471000000@192.0.2.9")
    request.headers["identity"] = [data.decode("latin-1")]
    assert VERIFIER.attested(request, "VN", NUMBER, NUMBER, 1.0) in (None, "failed")
    try:
        _, claims, _, _ = stir._opened(data.decode("latin-1"))
        stir._check_claims(claims, "VN", NUMBER, NUMBER, 1.0)
    except stir.Bad:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    "sip": sip, "stream": stream, "sdp": description, "rtp": media, "rtcp": reports, "digest": challenge,
    "identity": identity,
}  # fmt: skip
