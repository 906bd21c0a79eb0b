"""Bodies of several parts: the session description is taken, the rest dropped, and what must be understood refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip import bodies
from sipedge.sip.bodies import Part
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Invited, Requested
from sipedge.sip.flows import Flow
from sipedge.sip.grammar import Malformed
from sipedge.sip.messages import Response, parse
from tests.sip.world import SDP, entropy

FLOW = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))
MIXED = 'multipart/mixed; boundary="x y"'
ISUP = b"Content-Type: application/isup;version=itu\r\n%s\r\n\x01\x02--x y\r\n\r\n--x yz\r\n"
DESCRIPTION = b"Content-Type: application/SDP\r\nContent-Length: 7\r\n\r\n" + SDP


def joined(*parts: bytes, end: bytes = b"--x y--\r\n") -> bytes:
    return b"This is a preamble.\r\n" + b"".join(b"--x y \r\n" + one + b"\r\n" for one in parts) + end


def fed(body: bytes, content_type: str = MIXED, more: str = "") -> tuple[Endpoint, Response]:
    """What an endpoint says to an INVITE with this body."""
    head = (
        "INVITE sip:+842471@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
        "From: <sip:a@192.0.2.1>;tag=f\r\nTo: <sip:+842471@192.0.2.9>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:a@192.0.2.1>\r\n{more}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    endpoint = Endpoint(entropy=entropy("bodies"))
    endpoint.receive(head.encode() + body, FLOW, 0.0)
    answer = parse(endpoint.take_sends()[0][1])
    assert isinstance(answer, Response)
    return endpoint, answer


@pytest.mark.parametrize("handling", [b"", b"Content-Disposition: signal ; handling=Optional\r\n"])
def test_the_description_is_taken_and_what_stands_beside_it_dropped(handling: bytes) -> None:
    endpoint, answer = fed(joined(ISUP % handling, DESCRIPTION, b"\r\nno headers at all"))
    assert answer.status == 100
    (event,) = endpoint.take_events()
    assert isinstance(event, Invited) and event.request.description == SDP


def test_a_body_of_parts_without_a_description_is_an_invite_without_an_offer() -> None:
    early = b"Content-Disposition: early-session\r\n" + DESCRIPTION
    coded = b"Content-Transfer-Encoding: base64\r\n" + DESCRIPTION
    endpoint, answer = fed(joined(ISUP % b"", early, coded))
    assert answer.status == 100
    (event,) = endpoint.take_events()
    assert isinstance(event, Invited) and event.request.description == b""


def test_of_two_descriptions_the_first_is_taken() -> None:
    session = b"Content-Disposition: Session\r\n" + DESCRIPTION
    endpoint, _ = fed(joined(session, DESCRIPTION + b"a=second\r\n"))
    (event,) = endpoint.take_events()
    assert isinstance(event, Invited) and event.request.description == SDP


def test_a_part_that_must_be_understood_and_is_not_is_refused() -> None:
    _, answer = fed(joined(ISUP % b"Content-Disposition: signal;\r\n handling=required\r\n", DESCRIPTION))
    assert answer.status == 415 and "application/sdp" in (answer.header("accept") or "")
    _, answer = fed(joined(b'Content-Disposition: session;handling="required"\r\n' + DESCRIPTION))
    assert answer.status == 100


def test_a_whole_body_of_an_unknown_type_is_refused_unless_it_is_optional() -> None:
    assert fed(b"<x/>", "text/xml")[1].status == 415
    assert fed(b"<x/>", "text/xml", "Content-Disposition: render;handling=required\r\n")[1].status == 415
    endpoint, answer = fed(b"<x/>", "text/xml", "Content-Disposition: render;handling=optional\r\n")
    (event,) = endpoint.take_events()
    assert isinstance(event, Invited) and (answer.status, event.request.description) == (100, b"")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/mixed", joined(DESCRIPTION)),
        ("multipart/mixed;boundary=", joined(DESCRIPTION)),
        ('multipart/mixed;boundary="x<y"', joined(DESCRIPTION)),
        (MIXED, joined(DESCRIPTION, end=b"")),
        (MIXED, joined(DESCRIPTION, end=b"--x y-\r\n")),
        (MIXED, SDP),
        (MIXED, joined(*[DESCRIPTION] * 17)),
        (MIXED, joined(b"X: y\r\n" * 17 + DESCRIPTION)),
        (MIXED, joined(b"Content-Type: sdp\r\n\r\nx")),
        (MIXED, joined(b"Content-Disposition: session;;=x\r\n\r\nx")),
    ],
)
def test_parts_that_cannot_be_told_apart_are_refused(content_type: str, body: bytes) -> None:
    endpoint, answer = fed(body, content_type)
    assert answer.status == 400
    assert not [event for event in endpoint.take_events() if isinstance(event, Invited | Requested)]


def test_an_answer_whose_parts_cannot_be_told_apart_holds_no_description() -> None:
    head = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n"
    head += b"Call-ID: c\r\nCSeq: 1 INVITE\r\nContent-Type: multipart/mixed;boundary=z\r\n\r\n"
    assert parse(head + SDP).description == b""
    assert parse(head + b"--z\r\n" + DESCRIPTION + b"\r\n--z--").description == SDP
    assert parse(head).description == b""


BLOCKS = st.lists(st.sampled_from([b"--b", b"--", b"\r\n", b" ", b"x", b"Content-Type: application/sdp", b"\r\n\r\n"]))


@given(st.builds(b"".join, BLOCKS))
def test_any_text_is_parts_or_malformed(body: bytes) -> None:
    try:
        found = bodies.split("multipart/mixed;boundary=b", body)
    except Malformed:
        return
    assert all(isinstance(one, Part) for one in found)


@given(st.lists(st.binary(max_size=40).filter(lambda part: b"--b" not in part), min_size=1, max_size=5))
def test_whatever_a_part_holds_it_is_read_back(contents: list[bytes]) -> None:
    written = b"".join(b"--b\r\nContent-Type: text/plain\r\n\r\n" + one + b"\r\n" for one in contents) + b"--b--"
    assert [one.body for one in bodies.split("multipart/mixed;boundary=b", written)] == contents
