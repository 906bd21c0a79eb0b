"""Reading and writing messages: lazily, within bounds, and never two readings of one message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.sip import grammar
from sipedge.sip.messages import (
    MAX_HEADERS,
    BadRequest,
    CSeq,
    Malformed,
    Message,
    Request,
    Response,
    parse,
    status_line,
    write_headers,
    write_message,
    write_refusal,
)

LINES = [
    "INVITE sip:+842471000001@192.0.2.9:5060;user=phone SIP/2.0",
    "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK-1;rport",
    "Max-Forwards: 68",
    'From: "An" <sip:+84901234567@192.0.2.1>;tag=a1',
    "To: <sip:+842471000001@192.0.2.9>",
    "Call-ID: 7@192.0.2.1",
    "CSeq: 1 INVITE",
    "Contact: <sip:+84901234567@192.0.2.1:5062>",
]
SDP = b"v=0\r\n"


def raw(*more: str, body: bytes = b"", lines: list[str] = LINES, without: str = "") -> bytes:
    kept = [line for line in lines if not (without and line.startswith(without + ":"))]
    return ("\r\n".join([*kept, *more]) + "\r\n\r\n").encode() + body


def request(*more: str, body: bytes = b"", lines: list[str] = LINES) -> Request:
    read = parse(raw(*more, body=body, lines=lines))
    assert isinstance(read, Request)
    return read


def refused(data: bytes) -> Malformed:
    with pytest.raises(Malformed) as caught:
        parse(data)
    return caught.value


def test_the_fields_an_edge_needs() -> None:
    read = request("Content-Type: application/sdp", "Content-Length: 5", body=SDP + b"trailing")
    assert (read.method, read.uri.user, read.uri.host, read.uri.port) == ("INVITE", "+842471000001", "192.0.2.9", 5060)
    assert (read.via.branch, read.via.host, read.via.port, read.via.transport) == (
        "z9hG4bK-1",
        "192.0.2.1",
        5062,
        "UDP",
    )
    assert (read.from_.display, read.from_.tag, read.from_.uri.user) == ("An", "a1", "+84901234567")
    assert (read.to.tag, read.to.uri.digits) == ("", "+842471000001")
    assert (read.call_id, read.cseq, read.max_forwards) == ("7@192.0.2.1", CSeq(1, "INVITE"), 68)
    assert read.contact is not None and read.contact.uri.port == 5062
    assert (read.body, read.content_type) == (SDP, "application/sdp")


def test_what_is_absent_has_its_default() -> None:
    read = parse(raw(without="Max-Forwards"))
    assert isinstance(read, Request)
    assert read.max_forwards == 70
    assert (read.record_routes, read.identities, read.supported, read.content_type) == ([], [], frozenset(), "")
    assert (read.session_expires, read.retry_after, read.cause, read.privacy) == (None, None, None, frozenset())
    assert (read.header("subject"), read.values("subject")) == (None, [])


def test_a_response() -> None:
    read = parse(raw(lines=["SIP/2.0 180 Ringing now", *LINES[1:]]))
    assert isinstance(read, Response)
    assert (read.status, read.reason) == (180, "Ringing now")
    assert parse(raw(lines=["SIP/2.0 200 ", *LINES[1:]])).reason == ""  # type: ignore[union-attr]


def test_compact_names_any_case_and_folds_say_the_same() -> None:
    compact = [
        LINES[0],
        "v:SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK-1;rport",
        "mAX-fORWARDS:\t68",
        'F:"An"',
        "\t <sip:+84901234567@192.0.2.1>",
        " ;tag=a1",
        "t: <sip:+842471000001@192.0.2.9>",
        "I:7@192.0.2.1  ",
        "CSEQ: 1",
        "  INVITE",
        "m: <sip:+84901234567@192.0.2.1:5062>",
    ]
    one, other = request(), request(lines=compact)
    for name in ("max_forwards", "call_id", "cseq"):
        assert getattr(one, name) == getattr(other, name)
    assert one.from_.tag == other.from_.tag and one.from_.text == other.from_.text
    assert one.via.branch == other.via.branch


def test_list_headers_join_lines_and_commas() -> None:
    read = request(
        "Record-Route: <sip:a;lr>, <sip:b,c;lr>",
        'Record-Route: "x, y" <sip:d;lr>',
        "Supported: 100rel , Timer",
        "k: replaces",
        "Require: timer",
    )
    assert read.record_routes == ["<sip:a;lr>", "<sip:b,c;lr>", '"x, y" <sip:d;lr>']
    assert read.supported == {"100rel", "timer", "replaces"}
    assert read.require == {"timer"}
    two = request(lines=[LINES[0], "Via: SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b:5", *LINES[2:]])
    assert two.vias == ["SIP/2.0/UDP a;branch=1", "SIP/2.0/TCP b:5"]
    assert two.via.branch == "1"


def test_identities_that_cannot_be_read_identify_nobody() -> None:
    read = request(
        "P-Asserted-Identity: <sip:+84901@x>, <tel:+84902>",
        "P-Asserted-Identity: <http://x>",
        "P-Asserted-Identity: garbage <<",
        'P-Asserted-Identity: "unclosed',
        "P-Asserted-Identity: sip:+84903@x",
    )
    assert [each.uri.digits for each in read.identities] == ["+84901", "+84902", "+84903"]


def test_privacy_is_a_set_of_lower_case_tokens() -> None:
    assert request("Privacy: ID; user", "Privacy: history,critical").privacy == {"id", "user", "history", "critical"}


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("Q.850;cause=17", 17),
        ('SIP;cause=200;text="completed, elsewhere", q.850 ; text="x" ; cause=16', 16),
        ("SIP;cause=200", None),
        ("Q.850", None),
        ("Q.850;cause=300", None),
        ("Q.850;cause=17;cause=18", None),
        ('Q.850;text="', None),
    ],
)
def test_the_q850_cause_of_a_reason(reason: str, cause: int | None) -> None:
    assert request(f"Reason: {reason}").cause == cause


def test_seconds_may_have_parameters_or_a_comment() -> None:
    read = request("Session-Expires: 1800;refresher=uac", "Retry-After: 5 (maintenance)")
    assert (read.session_expires, read.retry_after) == (1800, 5)


def test_a_contact_that_is_a_star_is_none() -> None:
    assert request(lines=[*LINES[:-1], "Contact: *"]).contact is None


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("max_forwards", "Max-Forwards: 256"),
        ("max_forwards", "Max-Forwards: -1"),
        ("max_forwards", "Max-Forwards: ٣"),
        ("session_expires", "Session-Expires: soon"),
        ("session_expires", "Session-Expires: 99999999999"),
        ("content_type", "Content-Type: sdp"),
        ("require", "Require: a,,b"),
        ("record_routes", 'Record-Route: <sip:a>, "x'),
        ("contact", "Contact: <sip:a"),
    ],
)
def test_an_optional_field_that_cannot_be_read_is_a_400_when_asked_for(field: str, line: str) -> None:
    lines = [each for each in LINES if each.partition(":")[0] != line.partition(":")[0]]
    read = request(line, lines=lines)
    with pytest.raises(Malformed) as caught:
        getattr(read, field)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_message_without_one_of_the_five_headers_is_refused(name: str) -> None:
    assert refused(raw(without=name)).status == 400
    empty = refused(raw(f"{name}:", without=name))
    assert empty.status == 400


@pytest.mark.parametrize(
    "line",
    [
        "X-Y : y",
        "X-Y\t: y",
        ": y",
        "no colon at all",
        "Bad@Name: x",
        "From: <sip:other@x>;tag=2",
        "f: <sip:other@x>;tag=2",
        "Call-ID: 8",
        "CSeq: 2 INVITE",
        "l: 0\r\nContent-Length: 0",
        "Content-Length: 5",
        "Content-Length: +0",
        "Content-Length: 99999999",
        "Max-Forwards: 1\r\nMax-Forwards: 2",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(line: str) -> None:
    fault = refused(raw(line))
    assert fault.status == 400
    assert isinstance(fault, BadRequest)


@pytest.mark.parametrize("octet", [b"\0", b"\r", b"\n", b"\x0b", b"\x7f", b"\x1b"])
@pytest.mark.parametrize("where", [b"z9hG4bK", b"INVITE", b"An", b"Call-ID"])
def test_a_control_character_anywhere_in_the_head_ends_the_reading_and_draws_no_answer(
    octet: bytes, where: bytes
) -> None:
    fault = refused(raw().replace(where, where + octet, 1))
    assert fault.status is None or isinstance(fault, BadRequest) and octet not in fault.reason.encode()


@pytest.mark.parametrize(
    "start",
    [
        "INVITE  sip:a SIP/2.0",
        "INVITE sip:a SIP/2.0 ",
        " INVITE sip:a SIP/2.0",
        "INVITE sip:a",
        "INVITE",
        "",
        "IN(VITE sip:a SIP/2.0",
        "INVITE  SIP/2.0",
        "SIP/2.0 99 x",
        "SIP/2.0 700 x",
        "SIP/2.0 2000 x",
        "SIP/2.0 0200 OK",
        "SIP/2.0 OK",
        "SIP/2.0 ٢٠٠ OK",
    ],
)
def test_a_start_line_that_cannot_be_read_draws_no_answer(start: str) -> None:
    fault = refused(raw(lines=[start, *LINES[1:]]))
    assert not isinstance(fault, BadRequest)


def test_another_version_is_a_505() -> None:
    assert refused(raw(lines=["INVITE sip:a SIP/7.0", *LINES[1:]])).status == 505
    assert refused(raw(lines=["INVITE sip:a HTTP/1.1", *LINES[1:]])).status == 505
    assert request(lines=["INVITE sip:a sip/2.0", *LINES[1:]]).method == "INVITE"


def test_a_cseq_that_names_another_method_is_refused() -> None:
    assert refused(raw(lines=[*LINES[:6], "CSeq: 1 BYE", LINES[7]])).status == 400


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("Call-ID", "a b"),
        ("Call-ID", "x" * 513),
        ("CSeq", "2147483648 INVITE"),
        ("CSeq", "1"),
        ("CSeq", "x INVITE"),
        ("From", f"<sip:a@b>;tag={'x' * 513}"),
        ("From", "<sip:a@b>;tag=1;tag=2"),
        ("From", "<sip:a@b> tag=1"),
        ("From", "<sip:a@b>;tag"),
        ("To", "<sip:a@b>;tag=;x"),
        ("Via", "SIP/2.0/UDP a;branch="),
        ("From", '"a <sip:a@b>'),
        ("From", '"a" b <sip:a@b>'),
        ("From", "<sip:a@b>;tag=1, <sip:c@d>"),
        ("Via", "SIP/2.0/UDP"),
        ("Via", "SIP/2.0/UDP a:99999"),
        ("Via", f"SIP/2.0/UDP a;branch={'x' * 513}"),
        ("Via", "SIP/2.0/UDP a;branch=1;branch=2"),
        ("Via", "SIP/2.0/UDP a;=1"),
        ("Via", ", SIP/2.0/UDP a"),
    ],
)
def test_an_identifier_out_of_bounds_is_refused(line: str, value: str) -> None:
    assert refused(raw(f"{line}: {value}", without=line)).status == 400


def test_the_bounds_of_a_message() -> None:
    fill = [f"X-{n}: {n}" for n in range(MAX_HEADERS - len(LINES) + 1)]
    assert len(request(*fill).headers) == MAX_HEADERS
    assert refused(raw(*fill, "X-more: 1")).status is None
    assert refused(raw(body=b"x" * 66_000)).status is None
    assert refused(raw()[:-2]).status is None
    assert refused(raw().replace(b"An", b"\xff\xfe")).status is None
    assert refused(b"").status is None


def test_a_body_is_cut_to_its_length_and_may_be_anything() -> None:
    body = bytes(range(256))
    assert request("Content-Length: 256", body=body + b"more").body == body
    assert request(body=body).body == body


def test_a_fault_still_leaves_what_an_answer_needs() -> None:
    fault = refused(raw("Bad Header: x"))
    assert isinstance(fault, BadRequest)
    answer = parse(write_refusal(fault.request, ("192.0.2.1", 5062), 400, "t"))
    assert isinstance(answer, Response)
    assert (answer.status, answer.to.tag, answer.call_id) == (400, "t", "7@192.0.2.1")


def test_nothing_that_may_be_a_number_is_shown() -> None:
    read = request("P-Asserted-Identity: <sip:+84901234567@x>")
    for shown in (
        repr(read),
        repr(read.from_),
        repr(read.uri),
        repr(read.identities),
        repr(Response(200, "+84901234567")),
    ):
        assert "84" not in shown
    assert "84" not in str(refused(raw("Bad Header: +84901234567")))


def test_a_field_is_read_once() -> None:
    read = request()
    assert read.from_ is read.from_
    assert isinstance(Message.from_, type(Message.via))


# -- writing -----


def test_an_answer_repeats_the_via_with_its_true_source() -> None:
    read = request(lines=[LINES[0], "Via: SIP/2.0/UDP 10.0.0.1:5062;rport;branch=z9hG4bK-1, SIP/2.0/UDP b", *LINES[2:]])
    answer = parse(write_refusal(read, ("192.0.2.1", 1024), 404, "t", [("Allow", "INVITE")]))
    assert answer.vias == ["SIP/2.0/UDP 10.0.0.1:5062;rport=1024;branch=z9hG4bK-1;received=192.0.2.1", "SIP/2.0/UDP b"]
    assert answer.header("allow") == "INVITE"
    assert answer.cseq == read.cseq


def test_what_a_sender_claims_about_its_source_is_not_repeated() -> None:
    lines = [LINES[0], "Via: SIP/2.0/UDP 192.0.2.1;received=203.0.113.9;branch=z9hG4bK-1;maddr=203.0.113.9", *LINES[2:]]
    answer = parse(write_refusal(request(lines=lines), ("192.0.2.1", 5060), 404, "t"))
    assert "received" not in answer.via.params
    other = parse(write_refusal(request(lines=lines), ("192.0.2.7", 5060), 404, "t"))
    assert other.via.params["received"] == "192.0.2.7"


def test_a_to_tag_that_is_there_is_kept() -> None:
    read = request(lines=[*LINES[:4], "To: <sip:b@c>;tag=theirs", *LINES[5:]])
    assert parse(write_refusal(read, ("192.0.2.1", 1), 481, "ours")).to.tag == "theirs"


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\0", "a\x85b"])
def test_a_control_character_in_what_we_write_is_our_own_error(value: str) -> None:
    with pytest.raises(ValueError, match="may not"):
        write_headers([("X-Test", value)])
    with pytest.raises(ValueError, match="may not"):
        status_line(200, value)
    with pytest.raises(ValueError, match="may not"):
        write_headers([(f"X{value}", "x")])


def test_status_lines() -> None:
    assert status_line(486) == "SIP/2.0 486 Busy Here\r\n"
    assert status_line(299) == "SIP/2.0 299 Unknown\r\n"
    assert status_line(200, "Fine") == "SIP/2.0 200 Fine\r\n"


@given(
    st.binary(max_size=300),
    st.lists(st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=40), max_size=5),
)
def test_what_is_written_is_read_back(body: bytes, values: list[str]) -> None:
    head = "\r\n".join(LINES) + "\r\n" + write_headers([("X-Value", value) for value in values if value.isprintable()])
    read = parse(write_message(head, body, "application/sdp"))
    assert read.body == body
    assert read.headers.get("x-value", []) == [value.strip(" \t") for value in values if value.isprintable()]


# -- grammar -----


@pytest.mark.parametrize(
    ("text", "params"),
    [
        (";a=1;B;c = 2 ", {"a": "1", "b": "", "c": "2"}),
        (';a="x;y=\\"z";b', {"a": '"x;y=\\"z"', "b": ""}),
        (";; ;a;", {"a": ""}),
        ("", {}),
    ],
)
def test_parameters(text: str, params: dict[str, str]) -> None:
    assert grammar.read_params(text) == params


@pytest.mark.parametrize("text", [";a;A", ";=1", ';a="x', "; =1"])
def test_parameters_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        grammar.read_params(text)


def test_parameters_are_written_back() -> None:
    assert grammar.write_params({"a": "1", "b": ""}) == ";a=1;b"


@pytest.mark.parametrize(
    "hostile", ['"' * 60_000, "\\" * 60_000, '\\"' * 30_000, "<" * 60_000, " " * 60_000, ";" * 60_000, "," * 60_000]
)
@pytest.mark.timeout(5)
def test_hostile_values_cost_time_in_proportion_to_their_length(hostile: str) -> None:
    for name in ("From", "Via", "Contact", "P-Asserted-Identity", "Reason", "Record-Route", "Privacy"):
        try:
            read = parse(raw(f"{name}: {hostile}", without=name))
            for field in ("contact", "identities", "cause", "record_routes", "privacy"):
                getattr(read, field)
        except Malformed:
            continue


def test_a_session_interval_says_who_refreshes_it() -> None:
    assert request("Session-Expires: 90; refresher=UAS").refresher == "uas"
    assert request("Session-Expires: 90").refresher == request().refresher == ""
    assert (request("Min-SE: 120").min_se, request().min_se) == (120, None)


def test_a_request_that_was_let_go_keeps_its_start_line_alone() -> None:
    message = parse(
        b"INVITE sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKa\r\n"
        b"From: <sip:b@192.0.2.2>;tag=f\r\nTo: <sip:a@192.0.2.1>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    )
    assert isinstance(message, Request) and message.call_id == "c"
    message.let_go()
    assert (message.method, message.headers, message.body) == ("INVITE", {}, b"")
    assert message.header("call-id") is None


def test_of_a_request_that_is_refused_the_rest_can_still_be_read() -> None:
    fault = refused(raw("Content-Length: many"))
    assert isinstance(fault, BadRequest)
    read = fault.request
    assert (read.via.branch, read.from_.tag, read.to.tag) == ("z9hG4bK-1", "a1", "")
    assert (read.call_id, read.cseq) == ("7@192.0.2.1", CSeq(1, "INVITE"))
