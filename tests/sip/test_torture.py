"""Messages that break careless parsers, after the kinds RFC 4475 names, written by us: what we make of each of them.

Answered: a status; served: an event; dropped: not a byte back. None of them may raise.
"""

from __future__ import annotations

import pytest

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Invited, Requested
from sipedge.sip.flows import Flow
from sipedge.sip.messages import parse
from tests.sip.world import entropy

FLOW = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))
PAD = "X-Padding: " + "p" * 200


def invite(**changed: str) -> bytes:
    parts = {
        "start": "INVITE sip:+842471@192.0.2.9 SIP/2.0",
        "via": "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKtorture",
        "from_": "From: <sip:+84901@192.0.2.1>;tag=f",
        "to": "To: <sip:+842471@192.0.2.9>",
        "call": "Call-ID: torture@192.0.2.1",
        "cseq": "CSeq: 7 INVITE",
        "forwards": "Max-Forwards: 70",
        "contact": "Contact: <sip:+84901@192.0.2.1>",
        "pad": PAD,
        "length": "Content-Length: 0",
        "more": "",
        "body": "",
    }
    parts |= changed
    body = parts.pop("body")
    return ("\r\n".join([line for line in parts.values() if line]) + "\r\n\r\n" + body).encode()


SERVED = {
    "escaped_characters_in_the_user": invite(start="INVITE sip:sips%3Auser%40example.com@192.0.2.9 SIP/2.0"),
    "escaped_null_in_the_user": invite(start="INVITE sip:null-%00-null@192.0.2.9 SIP/2.0"),
    "control_character_in_a_quoted_pair": invite(from_='From: "BEL:\\\x07 NUL:\\\x00" <sip:+84901@192.0.2.1>;tag=f'),
    "tabs_around_the_colon_of_a_known_header": invite(cseq="CSeq \t:\t7\tINVITE"),
    "accepts_any_application": invite(more="Accept: text/plain, application/*;q=0.2"),
    "semicolon_in_the_user": invite(start="INVITE sip:user;par=u%40example.net@192.0.2.9 SIP/2.0"),
    "utf8_in_a_display_name": invite(from_='From: "Nguyễn Văn Ản \\" \\\\" <sip:+84901@192.0.2.1>;tag=f'),
    "display_name_with_angle_brackets": invite(from_='From: "<sip:evil@x>" <sip:+84901@192.0.2.1>;tag=f'),
    "headers_folded": invite(
        via="Via:\r\n SIP/2.0/UDP\r\n\t192.0.2.1\r\n ;branch=z9hG4bKtorture", cseq="CSeq:\r\n 7\r\n  INVITE"
    ),
    "compact_and_strange_case": invite(
        via="v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKtorture", call="i:\ttorture", to="T:sip:+842471@192.0.2.9"
    ),
    "unknown_headers_and_parameters": invite(
        more='X-~X: ;;,,\r\nNewFangled: a;b="c";;d', from_='From: <sip:+84901@192.0.2.1;new=1>;tag=f;newer="x;y"'
    ),
    "long_values": invite(more="X-Long: " + "l" * 5_000, call="Call-ID: " + "c" * 500),
    "many_vias": invite(
        via="Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKtorture"
        + ", SIP/2.0/SCTP [2001:db8::9]:6050;branch=z9hG4bKx" * 30
    ),
    "transport_we_do_not_speak_in_via": invite(via="Via: SIP/2.0/TP-x 192.0.2.1;branch=z9hG4bKtorture"),
    "branch_without_the_cookie": invite(via="Via: SIP/2.0/UDP 192.0.2.1;branch=old"),
    "no_branch": invite(via="Via: SIP/2.0/UDP 192.0.2.1"),
    "cookie_alone_as_branch": invite(via="Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"),
    "octets_after_the_body": invite(body="v=0\r\nINVITE sip:second@x SIP/2.0\r\n\r\n"),
    "empty_from_display": invite(from_="From: <sip:192.0.2.1>;tag=f"),
    "lower_case_version": invite(start="INVITE sip:+842471@192.0.2.9 sip/2.0"),
    "leading_line_ends": b"\r\n\r\n" + invite(),
    "no_content_length": invite(length=""),
    "to_as_addr_spec_with_parameters": invite(to="To: sip:+842471@192.0.2.9;x=y"),
    "tel_uri": invite(start="INVITE tel:+84-2471 SIP/2.0"),
    "zero_cseq": invite(cseq="CSeq: 0009 INVITE"),
    "date_in_another_zone": invite(more="Date: Fri, 01 Jan 2010 16:00:00 EST"),
    "warning_that_cannot_be_read": invite(more='Warning: 1812 overture, "unclosed'),
    "contact_with_quoted_comma": invite(contact='Contact: "a, <b>" <sip:+84901@192.0.2.1>, <sip:c@d>'),
}
ANSWERED = {
    "unknown_scheme_in_the_request_uri": (416, invite(start="INVITE soap.beep://192.0.2.9 SIP/2.0")),
    "bad_escape": (400, invite(start="INVITE sip:%zz@192.0.2.9 SIP/2.0")),
    "angle_brackets_in_the_request_uri": (400, invite(start="INVITE <sip:user@192.0.2.9> SIP/2.0")),
    "bad_version": (505, invite(start="INVITE sip:+842471@192.0.2.9 SIP/7.0")),
    "method_mismatch": (400, invite(cseq="CSeq: 7 BYE")),
    "unknown_method_mismatch": (400, invite(start="NEWMETHOD sip:+842471@192.0.2.9 SIP/2.0")),
    "unknown_method": (405, invite(start="NEWMETHOD sip:+842471@192.0.2.9 SIP/2.0", cseq="CSeq: 7 NEWMETHOD")),
    "cseq_out_of_range": (400, invite(cseq="CSeq: 36893488147419103232 INVITE")),
    "cseq_just_out_of_range": (400, invite(cseq="CSeq: 2147483648 INVITE")),
    "max_forwards_out_of_range": (400, invite(forwards="Max-Forwards: 300")),
    "max_forwards_used_up": (483, invite(forwards="Max-Forwards: 0")),
    "duplicate_single_headers": (400, invite(more="CSeq: 8 INVITE\r\nFrom: <sip:other@x>;tag=o")),
    "nothing_we_say_is_accepted": (406, invite(more="Accept: text/plain")),
    "headers_in_a_contact_without_brackets": (400, invite(contact="Contact: sip:+84901@192.0.2.1?Route=x")),
    "space_before_the_colon_of_a_private_header": (400, invite(more="X-Masking-Trunk : carrier")),
    "unclosed_quote_in_from": (400, invite(from_='From: "unclosed <sip:+84901@192.0.2.1>;tag=f')),
    "unclosed_quote_in_contact": (400, invite(contact='Contact: "unclosed <sip:+84901@192.0.2.1>')),
    "contact_with_a_parameter_twice": (400, invite(contact="Contact: <sip:+84901@192.0.2.1;x;x>")),
    "route_with_a_parameter_twice": (400, invite(more="Record-Route: <sip:192.0.2.1;lr;lr>")),
    "empty_tag": (400, invite(from_="From: <sip:+84901@192.0.2.1>;tag=")),
    "no_contact": (400, invite(contact="")),
    "star_as_contact": (400, invite(contact="Contact: *")),
    "contact_of_another_scheme": (416, invite(contact="Contact: <http://x>")),
    "unknown_extension_required": (420, invite(more="Require: nothingSupportsThis, norThis\r\nProxy-Require: x")),
    "unknown_body": (415, invite(more="Content-Type: application/unknown", length="Content-Length: 5", body="<x/>\n")),
    "body_without_a_type": (415, invite(length="Content-Length: 5", body="<x/>\n")),
    "encoded_body": (
        415,
        invite(more="Content-Type: application/sdp\r\nContent-Encoding: gzip", length="Content-Length: 1", body="x"),
    ),
    "length_beyond_the_datagram": (400, invite(length="Content-Length: 9999")),
    "negative_length": (400, invite(length="Content-Length: -999")),
    "two_lengths": (400, invite(more="l: 0")),
    "unknown_scheme_in_to": (416, invite(to="To: <isbn:2983792873>")),
    "tiny_session": (422, invite(more="Session-Expires: 89;refresher=uac")),
    "to_tag_of_no_dialog": (481, invite(to="To: <sip:+842471@192.0.2.9>;tag=nobody")),
    "option_tag_that_is_no_token": (400, invite(more="Require: a\u2028b")),
    "more_values_than_anybody_has": (400, invite(more="Require: " + "a," * 1_001 + "a")),
    "empty_element_in_a_list": (400, invite(more="Require: ,")),
    "multipart_body_that_does_not_end": (
        400,
        invite(more="Content-Type: multipart/mixed;boundary=b", length="Content-Length: 3", body="--b"),
    ),
}
DROPPED = {
    "two_spaces_in_the_start_line": invite(start="INVITE  sip:+842471@192.0.2.9 SIP/2.0"),
    "space_within_the_request_uri": invite(start="INVITE sip:+842471@192.0.2.9; lr SIP/2.0"),
    "trailing_space_in_the_start_line": invite(start="INVITE sip:+842471@192.0.2.9 SIP/2.0  "),
    "null_in_a_header": invite(more="X: a\0b"),
    "bare_line_feed": invite(more="X: a\nY: b"),
    "bare_carriage_return": invite(more="X: a\rY: b"),
    "no_blank_line": invite()[:-2],
    "latin_1_header": invite().replace(b"X-Padding: p", b"X-Padding: \xe9"),
    "no_via": invite(via=""),
    "no_from": invite(from_=""),
    "no_call_id": invite(call=""),
    "no_cseq": invite(cseq=""),
    "too_many_headers": invite(more="\r\n".join(f"X-{n}: x" for n in range(70))),
    "answer_that_would_outgrow_the_request": invite(
        start="INVITE sip:a SIP/2.0", pad="", more="Z Z: z", contact="", forwards="", length=""
    ),
    "ack_of_nothing": invite(start="ACK sip:+842471@192.0.2.9 SIP/2.0", cseq="CSeq: 7 ACK"),
    "malformed_ack": invite(start="ACK sip:+842471@192.0.2.9 SIP/2.0", cseq="CSeq: 7 ACK", more="Z Z: z"),
    "response_out_of_the_blue": invite(start="SIP/2.0 200 OK"),
    "response_with_a_huge_status": invite(start="SIP/2.0 4294967301 better not"),
    "malformed_response": invite(start="SIP/2.0 200 OK", cseq="CSeq: nan INVITE"),
    "only_line_ends": b"\r\n\r\n\r\n",
    "nothing": b"",
    "stun": bytes.fromhex("000100002112a442") + bytes(12),
}


def fed(data: bytes) -> tuple[list[bytes], list[object]]:
    endpoint = Endpoint(entropy=entropy("torture"))
    endpoint.receive(data, FLOW, 0.0)
    served = [event for event in endpoint.take_events() if isinstance(event, Invited | Requested)]
    return [answer for _, answer in endpoint.take_sends()], list(served)


@pytest.mark.parametrize("name", SERVED)
def test_a_strange_but_valid_message_is_served(name: str) -> None:
    answers, served = fed(SERVED[name])
    assert len(served) == 1
    assert [answer.split()[1] for answer in answers] == [b"100"]
    trying = parse(answers[0])
    assert trying.vias[1:] == parse(SERVED[name].lstrip()).vias[1:]


@pytest.mark.parametrize("name", ANSWERED)
def test_an_invalid_message_is_refused_with_its_code(name: str) -> None:
    status, data = ANSWERED[name]
    answers, served = fed(data)
    assert served == []
    assert [int(answer.split()[1]) for answer in answers] == [status]
    assert len(answers[0]) <= len(data)
    again = Endpoint(entropy=entropy("torture"))
    again.receive(data, FLOW, 0.0)
    assert [answer for _, answer in again.take_sends()] == answers, "a repeated request gets the same answer"


@pytest.mark.parametrize("name", DROPPED)
def test_a_hopeless_message_gets_no_byte_back(name: str) -> None:
    assert fed(DROPPED[name]) == ([], [])


def test_the_second_message_in_a_datagram_is_not_heard() -> None:
    endpoint = Endpoint(entropy=entropy("torture"))
    endpoint.receive(SERVED["octets_after_the_body"], FLOW, 0.0)
    (event,) = endpoint.take_events()
    assert isinstance(event, Invited)
    assert event.request.body == b""
