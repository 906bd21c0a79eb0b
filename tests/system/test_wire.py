"""What the wire is refused: strangers get no byte, and media from outside a trunk's networks goes nowhere."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tests.system.service import Service, eventually
from tests.system.sipp import (
    PCMA,
    Phones,
    accepts,
    ack,
    answers,
    bye,
    hears,
    invite,
    is_asked,
    picks_up,
    refusal_ack,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]


def plain_request(method: str, user: str, host: str, caller: str, source: tuple[str, int], call: str) -> bytes:
    """A whole request by hand, as a scanner sends it."""
    return (
        f"{method} sip:{user}@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bK{call};rport\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:{caller}@{source[0]}>;tag=x\r\nTo: <sip:{user}@{host}>\r\nCall-ID: {call}\r\n"
        f"CSeq: 1 {method}\r\nContact: <sip:{source[0]}:{source[1]}>\r\nContent-Length: 0\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE", "REGISTER", "BYE"])
def test_a_stranger_gets_no_byte_over_udp(service: Service, method: str) -> None:
    place = service.place
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((place.stranger, 0))
        stranger.settimeout(1.0)
        asked = plain_request(method, "+842471000000", place.edge, "+100", stranger.getsockname(), f"stranger-{method}")
        stranger.sendto(asked, (place.edge, 5060))
        stranger.sendto(b"\r\n\r\n", (place.edge, 5060))
        with pytest.raises(TimeoutError):
            stranger.recv(65535)


def test_a_stranger_gets_no_byte_over_tcp(service: Service) -> None:
    place = service.place
    with socket.create_connection((place.edge, 5060), 3, source_address=(place.stranger, 0)) as stranger:
        asked = plain_request("OPTIONS", "+842471000000", place.edge, "+100", stranger.getsockname(), "stranger-tcp")
        try:
            stranger.sendall(asked.replace(b"SIP/2.0/UDP", b"SIP/2.0/TCP"))
            stranger.settimeout(1.0)
            assert stranger.recv(65535) == b""
        except (TimeoutError, ConnectionError):
            pass  # neither an answer nor a polite end: just as silent


def test_the_same_call_on_two_ways_is_merged_with_482(service: Service) -> None:
    """RFC 3261 8.2.2.2: same From tag, Call-ID and CSeq, another branch, while the first is being answered."""
    place = service.place
    caller = service.person("customer", place.moscow, country="RU")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trunk:
        trunk.bind((place.moscow, 0))
        trunk.settimeout(3.0)
        one = plain_request("INVITE", "+842471000000", place.edge, caller.number, trunk.getsockname(), "merged")
        sdp = PCMA.replace("[media_ip]", place.moscow).replace("[media_port]", "40000").replace("\n", "\r\n").encode()
        typed = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n" % len(sdp)
        one = one.replace(b"Content-Length: 0\r\n\r\n", typed) + sdp  # with SDP it is told why, which takes seconds
        trunk.sendto(one, (place.edge, 5060))
        trunk.sendto(one.replace(b"z9hG4bKmerged", b"z9hG4bKother"), (place.edge, 5060))
        answers: list[bytes] = []
        while not any(answer.startswith(b"SIP/2.0 482") for answer in answers):
            answers.append(trunk.recv(65535))
        assert b"z9hG4bKother" in answers[-1]
        trunk.sendto(one.replace(b"INVITE sip", b"CANCEL sip").replace(b"1 INVITE", b"1 CANCEL"), (place.edge, 5060))


def media_port(sdp: str) -> int:
    return int(next(line.split()[1] for line in sdp.splitlines() if line.startswith("m=audio")))


def test_an_offer_that_points_outside_the_trunks_media_is_refused_and_counted(service: Service, phones: Phones) -> None:
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    session = service.open_session(customer, driver)
    before = service.metric("masking_sip_events_total", event="media_outside")
    outside = PCMA.replace("c=IN IP4 [media_ip]", f"c=IN IP4 {place.stranger}")
    dialled = session["participants"][0]["proxies"][0]["number"]
    steps = [invite(outside), trying(), hears(488, within=2000), refusal_ack()]
    with phones.calls(dialled, place.caller, customer.number, *steps) as caller:
        caller.finish()
    eventually(
        lambda: service.metric("masking_sip_events_total", event="media_outside") > before,
        3,
        "the count of refused SDP",
    )


def test_an_answer_that_points_outside_the_trunks_media_ends_the_call(service: Service, phones: Phones) -> None:
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    session = service.open_session(customer, driver)
    before = service.metric("masking_sip_events_total", event="media_outside")
    outside = PCMA.replace("c=IN IP4 [media_ip]", "c=IN IP4 169.254.169.254")
    dialled = session["participants"][0]["proxies"][0]["number"]
    callee = [is_asked("INVITE"), answers("200 OK", outside, options='retrans="500"'), is_asked("ACK"),
              is_asked("BYE"), accepts()]  # fmt: skip
    with phones.waits_for_call(place.callee, *callee) as phone:
        steps = [invite(), trying(), hears(180, optional=True), hears(480), refusal_ack()]
        with phones.calls(dialled, place.caller, customer.number, *steps) as caller:
            caller.finish()
        phone.finish()
    eventually(
        lambda: service.metric("masking_sip_events_total", event="media_outside") > before,
        3,
        "the count of refused SDP",
    )


def test_rtp_from_outside_reaches_nobody_and_is_counted(service: Service, phones: Phones) -> None:
    """Spraying a live call's ports: nothing injected into the other phone, nothing bled to the sprayer."""
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    session = service.open_session(customer, driver)
    dialled = session["participants"][0]["proxies"][0]["number"]
    before = service.metric("masking_rtp_refused_total")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as callee_media,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sprayer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as neighbour,
    ):
        callee_media.bind((place.callee, 0))
        sprayer.bind((place.stranger, 0))
        neighbour.bind((place.caller, 0))  # the right address, a port the SDP did not name
        for listener in (callee_media, sprayer, neighbour):
            listener.setblocking(False)
        sdp = PCMA.replace("[media_port]", str(callee_media.getsockname()[1]))
        with phones.waits_for_call(
            place.callee, is_asked("INVITE"), *picks_up(sdp), is_asked("BYE"), accepts()
        ) as callee:
            steps = [invite(), trying(), hears(180), hears(200), ack(), waits(2500), bye(), hears(200)]
            with phones.calls(dialled, place.caller, customer.number, *steps) as caller:
                answer = eventually(lambda: caller.received("SIP/2.0 200"), 5, "the answer")[0]
                offer = callee.received("INVITE")[0]
                for number in range(200):
                    packet = struct.pack("!BBHII", 0x80, 8, number, 160 * number, 66) + b"\x2a" * 160
                    for port in (media_port(answer.body), media_port(offer.body)):
                        sprayer.sendto(packet, (place.edge, port))
                        neighbour.sendto(packet, (place.edge, port))
                    time.sleep(0.005)
                caller.finish(), callee.finish()
        heard = received(callee_media)
        assert not any(b"\x2a" * 160 in packet for packet in heard), "injected"
        assert received(sprayer) == [] and received(neighbour) == [], "bled"
    eventually(lambda: service.metric("masking_rtp_refused_total") - before >= 200, 3, "the count of refused RTP")


def received(listener: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(listener.recv(2048))
        except BlockingIOError:
            return found
