"""What the transport of a request changes in it (RFC 3261 8.1.1.8, 18.1.1)."""

from __future__ import annotations

import os
import re

import pytest

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Cause, Failed, Progressed
from sipedge.sip.flows import Flow


@pytest.mark.parametrize(
    ("scheme", "contact"), [("sips", r"<sips:\w+@here:5061>"), ("sip", r"<sip:\w+@here:5061;transport=tls>")]
)
def test_who_is_called_by_sips_is_told_to_answer_by_it(scheme: str, contact: str) -> None:
    endpoint = Endpoint(entropy=os.urandom, advertise=lambda _: "here:5061")
    flow = Flow("tls", ("10.0.0.1", 5061), ("10.0.0.2", 5061), 1)
    endpoint.invite(flow, f"{scheme}:b@there", 0.0, from_="<sip:a@here>", to="<sip:b@there>")
    ((_, data),) = endpoint.take_sends()
    assert re.search(rf"\r\nContact: {contact}\r\n", data.decode()) and b"\r\nVia: SIP/2.0/TLS here:5061;" in data


UDP = Flow("udp", ("10.0.0.1", 5060), ("10.0.0.2", 5060))
TCP = UDP._replace(transport="tcp")
LONG = [("X-Long", "x" * 1200)]


def long_invite(widen: Flow | None = TCP) -> tuple[Endpoint, str, Flow, str]:
    """An endpoint that calls with too many words; the leg, and what it said where."""
    endpoint = Endpoint(
        entropy=os.urandom, advertise=lambda flow: f"here:{5060 if flow == UDP else 5070}", widen=lambda _: widen
    )
    who = "<sip:a@here:5060>"
    leg = endpoint.invite(UDP, "sip:b@there", 0.0, from_=who, to="<sip:b@here:5060>", headers=LONG, body=b"v=0\r\n")
    ((flow, data),) = endpoint.take_sends()
    return endpoint, leg, flow, data.decode()


def test_a_request_too_long_for_a_datagram_goes_by_a_stream_and_says_so() -> None:
    endpoint, _, flow, data = long_invite()
    assert flow == TCP and "\r\nVia: SIP/2.0/TCP here:5070;branch=z9hG4bK" in data
    assert re.search(r"\r\nContact: <sip:\w+@here:5070;transport=tcp>\r\n", data)
    assert "\r\nFrom: <sip:a@here:5060>;tag=" in data and "\r\nTo: <sip:b@here:5060>\r\n" in data
    endpoint.timeout(20.0)
    assert endpoint.take_sends() == []  # a stream resends by itself
    endpoint.timeout(32.0)
    (failed,) = endpoint.take_events()
    assert isinstance(failed, Failed) and failed.cause is Cause.TIMEOUT


def test_one_that_fits_stays_on_udp_and_so_does_a_long_one_where_there_is_no_stream() -> None:
    assert long_invite(None)[2] == UDP
    endpoint = Endpoint(entropy=os.urandom, widen=lambda _: TCP)
    endpoint.send_request(UDP, "OPTIONS", "sip:there", 0.0, from_="<sip:a@here>", to="<sip:there>")
    assert endpoint.take_sends()[0][0] == UDP


def test_where_nobody_takes_the_stream_the_request_goes_by_udp_as_it_was_meant() -> None:
    endpoint, leg, _, wide = long_invite()
    endpoint.transport_failed(TCP, 0.1)
    ((flow, data),) = endpoint.take_sends()
    assert flow == UDP and b"\r\nVia: SIP/2.0/UDP here:5060;" in data and b"transport=tcp" not in data
    assert data.split(b"branch=")[1][:20] == wide.encode().split(b"branch=")[1][:20]
    endpoint.timeout(0.7)
    assert endpoint.take_sends() == [(UDP, data)], "and is sent again as UDP wants it"
    ringing = data.replace(b"INVITE sip:b@there SIP/2.0", b"SIP/2.0 180 Ringing").partition(b"Content-Type")[0]
    endpoint.receive(ringing.replace(b"here:5060>\r\n", b"here:5060>;tag=t\r\n", 1) + b"\r\n", UDP, 0.8)
    assert any(isinstance(event, Progressed) for event in endpoint.take_events())
    endpoint.cancel(leg, 1.0)
    ((flow, cancel),) = endpoint.take_sends()
    assert flow == UDP and cancel.startswith(b"CANCEL ") and b"Via: SIP/2.0/UDP here:5060;" in cancel


def test_one_that_fails_on_udp_too_has_failed() -> None:
    endpoint, _, _, _ = long_invite()
    endpoint.transport_failed(TCP, 0.1)
    endpoint.transport_failed(UDP, 0.2)
    (failed,) = endpoint.take_events()
    assert isinstance(failed, Failed) and (failed.status, failed.cause) == (503, Cause.TRANSPORT)


def test_one_that_was_given_up_is_not_sent_again() -> None:
    endpoint, leg, _, _ = long_invite()
    endpoint.cancel(leg, 0.1)
    endpoint.transport_failed(TCP, 0.2)
    assert endpoint.take_sends() == []
