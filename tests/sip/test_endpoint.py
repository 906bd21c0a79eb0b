"""The endpoint at its edges: what it refuses, what it bounds, where its answers go."""

from __future__ import annotations

import pytest

from sipedge.sip.core import by_address
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import (
    Acked,
    Answered,
    Cancelled,
    Cause,
    Disconnect,
    Failed,
    Invited,
    Progressed,
    Refused,
    Requested,
    Responded,
)
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request, Response, Uri, parse
from tests.sip.world import SDP, entropy

PEER, HERE = ("192.0.2.1", 5060), ("192.0.2.9", 5060)
UDP = Flow("udp", PEER, HERE)
TCP = Flow("tcp", ("192.0.2.1", 40_000), HERE, 3)


def endpoint(**settings: object) -> Endpoint:
    return Endpoint(entropy=entropy("endpoint"), **settings)  # type: ignore[arg-type]


def request(
    method: str = "INVITE",
    *more: str,
    n: int = 1,
    to: str = "<sip:+842471@192.0.2.9>",
    cseq: int = 1,
    body: bytes = b"",
    branch: str = "",
) -> bytes:
    lines = [
        f"{method} sip:+842471@192.0.2.9 SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{branch or f'{method}{n}'};rport",
        f"From: <sip:+84901@192.0.2.1>;tag=from{n}",
        f"To: {to}",
        f"Call-ID: call{n}",
        f"CSeq: {cseq} {method}",
        "Contact: <sip:+84901@192.0.2.1:5060>",
        *more,
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def answers(one: Endpoint) -> list[Response]:
    read = [parse(data) for _, data in one.take_sends()]
    return [each for each in read if isinstance(each, Response)]


def statuses(one: Endpoint) -> list[int]:
    return [each.status for each in answers(one)]


# -- where answers go -----------------------------------------------------------------------------------------------


def test_an_answer_goes_to_where_the_request_came_from_whatever_its_via_says() -> None:
    one = endpoint()
    source = Flow("udp", ("192.0.2.77", 1024), HERE)
    one.receive(request().replace(b";rport", b";rport;maddr=203.0.113.1;received=203.0.113.2"), source, 0.0)
    ((flow, data),) = one.take_sends()
    assert flow == source
    assert parse(data).via.params == {
        "branch": "z9hG4bKINVITE1", "rport": "1024", "received": "192.0.2.77", "maddr": "203.0.113.1"
    }  # fmt: skip


def test_what_the_peer_sees_of_us_is_the_advertised_address() -> None:
    one = endpoint(advertise=lambda flow: "edge.example.com:5060")
    one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, data),) = one.take_sends()
    invite = parse(data)
    assert invite.via.host == "edge.example.com"
    assert invite.contact is not None and invite.contact.uri.host == "edge.example.com"
    assert b"192.0.2.9" not in data


def test_over_a_stream_the_contact_says_so() -> None:
    one = endpoint()
    one.invite(TCP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, data),) = one.take_sends()
    invite = parse(data)
    assert invite.via.transport == "TCP"
    assert invite.contact is not None and invite.contact.uri.params == {"transport": "tcp"}


@pytest.mark.parametrize(
    ("uri", "remote"),
    [
        ("sip:a@198.51.100.7:5070", ("198.51.100.7", 5070)),
        ("sip:a@198.51.100.7", ("198.51.100.7", 5060)),
        ("sip:a@198.51.100.7;transport=UDP", ("198.51.100.7", 5060)),
        ("sip:a@198.51.100.7;transport=tcp", PEER),
        ("sip:a@peer.example.com:5070", PEER),
        ("sip:a@999.1.1.1:5070", PEER),
        ("sip:a@1.2.3:5070", PEER),
        ("tel:+84901", PEER),
    ],
)
def test_the_default_road_to_a_next_hop(uri: str, remote: tuple[str, int]) -> None:
    assert by_address(UDP, Uri.parse(uri)).remote == remote
    assert by_address(TCP, Uri.parse(uri)) == TCP


def callee(record_routes: list[str], contact: str, **settings: object) -> tuple[Endpoint, str, bytes]:
    """An endpoint in an answered call it was invited to over these routes; its leg, and its BYE."""
    one = endpoint(**settings)
    one.receive(request("INVITE", *[f"Record-Route: {each}" for each in record_routes]).replace(
        b"<sip:+84901@192.0.2.1:5060>", contact.encode()), UDP, 0.0)  # fmt: skip
    (event,) = one.take_events()
    assert isinstance(event, Invited)
    one.respond(event.transaction, 200, 0.0, body=SDP)
    ok = answers(one)[-1]
    assert ok.record_routes == record_routes
    one.receive(request("ACK", to=ok.headers["to"][0], branch="ack"), UDP, 0.0)
    assert [type(each) for each in one.take_events()] == [Acked]
    assert one.bye(event.leg, 1.0) is not None
    ((_, bye),) = one.take_sends()
    return one, event.leg, bye


def test_a_loose_route_set_is_followed() -> None:
    _, _, bye = callee(["<sip:p1;lr>", "<sip:p2;lr>"], "<sip:c@198.51.100.1>")
    read = parse(bye)
    assert bye.startswith(b"BYE sip:c@198.51.100.1 SIP/2.0")
    assert read.values("route") == ["<sip:p1;lr>", "<sip:p2;lr>"]


def test_a_strict_router_gets_itself_as_the_request_uri() -> None:
    _, _, bye = callee(["<sip:p1>", "<sip:p2;lr>"], "<sip:c@198.51.100.1>")
    assert bye.startswith(b"BYE sip:p1 SIP/2.0")
    assert parse(bye).values("route") == ["<sip:p2;lr>", "<sip:c@198.51.100.1>"]


def test_the_callers_route_set_is_the_record_route_backwards() -> None:
    one = endpoint()
    leg = one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, data),) = one.take_sends()
    one.receive(
        ok_to(data, "Record-Route: <sip:198.51.100.1;lr>, <sip:198.51.100.2:5080;lr>", "Contact: <sip:c@203.0.113.5>"),
        UDP,
        0.0,
    )
    ((flow, ack),) = one.take_sends()
    assert parse(ack).values("route") == ["<sip:198.51.100.2:5080;lr>", "<sip:198.51.100.1;lr>"]
    assert ack.startswith(b"ACK sip:c@203.0.113.5 SIP/2.0")
    assert flow.remote == ("198.51.100.2", 5080)
    dialog = one.dialog(leg)
    assert dialog is not None and dialog.target == "sip:c@203.0.113.5"


def ok_to(invite: bytes, *more: str, status: str = "200 OK", tag: str = "t") -> bytes:
    read = parse(invite)
    lines = [
        f"SIP/2.0 {status}",
        f"Via: {read.headers['via'][0]}",
        f"From: {read.headers['from'][0]}",
        f"To: {read.headers['to'][0]}" + (f";tag={tag}" if tag else ""),
        f"Call-ID: {read.call_id}",
        f"CSeq: {read.headers['cseq'][0]}",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    "broken",
    [
        ["Contact: <sip:c@"],
        ["Contact: <http://c>"],
        ["Record-Route: <sip:p", "Contact: <sip:c@h>"],
        ["Record-Route: <sip:p;lr;lr>"],
        [],
    ],
)
def test_an_answer_whose_route_cannot_be_read_is_acknowledged_where_the_invite_went(broken: list[str]) -> None:
    one = endpoint()
    one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, data),) = one.take_sends()
    one.receive(ok_to(data, *broken), UDP, 0.0)
    ((flow, ack),) = one.take_sends()
    assert ack.startswith(b"ACK sip:bob@192.0.2.1 SIP/2.0") and flow == UDP
    assert [type(event) for event in one.take_events()] == [Answered]


def test_a_re_invites_answer_whose_contact_cannot_be_read_refreshes_nothing() -> None:
    one = endpoint()
    leg = one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, data),) = one.take_sends()
    one.receive(ok_to(data, "Contact: <sip:c@203.0.113.5>"), UDP, 0.0)
    one.take_sends()
    one.request(leg, "INVITE", 1.0, body=SDP, content_type="application/sdp")
    ((_, again),) = one.take_sends()
    one.receive(ok_to(again, "Contact: <sip:", tag=""), UDP, 1.0)
    ((_, ack),) = one.take_sends()
    assert ack.startswith(b"ACK sip:c@203.0.113.5 SIP/2.0")


def test_progress_without_a_tag_makes_no_early_dialog() -> None:
    one = endpoint()
    leg = one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, data),) = one.take_sends()
    one.receive(ok_to(data, status="180 Ringing", tag=""), UDP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Progressed) and event.leg == leg
    dialog = one.dialog(leg)
    assert dialog is not None and dialog.remote_tag == ""


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "more", "status", "header", "value"),
    [
        ("REFER", [], 405, "allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE"),
        ("MESSAGE", [], 405, "allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE"),
        ("PRACK", [], 405, "allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE"),
        ("INVITE", ["Require: timer, 100rel"], 420, "unsupported", "100rel, timer"),
        ("INVITE", ["Session-Expires: 60"], 422, "min-se", "90"),
        ("INVITE", ["Max-Forwards: 0"], 483, None, None),
        ("BYE", [], 481, None, None),
        ("INFO", [], 481, None, None),
        ("UPDATE", [], 481, None, None),
        ("CANCEL", [], 481, None, None),
    ],
)
def test_a_request_we_do_not_serve(
    method: str, more: list[str], status: int, header: str | None, value: str | None
) -> None:
    one = endpoint()
    one.receive(request(method, *more), UDP, 0.0)
    (answer,) = answers(one)
    assert answer.status == status and answer.to.tag
    assert header is None or answer.header(header) == value
    (refused,) = one.take_events()
    assert isinstance(refused, Refused) and (refused.status, refused.reason) == (status, method)
    one.receive(request(method, *more), UDP, 9.0)
    assert answers(one)[0].to.tag == answer.to.tag
    assert not any(one.statistics().values())


def test_a_method_nobody_knows_is_counted_without_its_name() -> None:
    one = endpoint()
    one.receive(request("84901234567"), UDP, 0.0)
    assert statuses(one) == [405]
    (refused,) = one.take_events()
    assert isinstance(refused, Refused) and refused.reason == "unknown method"


def test_an_extension_we_take_may_be_required() -> None:
    one = endpoint(extensions=["timer"])
    one.receive(request("INVITE", "Require: Timer"), UDP, 0.0)
    assert statuses(one) == [100]


def test_an_interval_we_take_is_for_our_user_and_one_nobody_can_read_is_refused() -> None:
    one = endpoint()
    one.receive(request("INVITE", "Session-Expires: 90;refresher=uac"), UDP, 0.0)
    assert statuses(one) == [100] and isinstance(one.take_events()[0], Invited)
    one.receive(request("INVITE", "Session-Expires: 90", "Supported: ,", n=2), UDP, 0.0)
    assert statuses(one) == [400]


def test_a_body_we_take_names_the_others_it_would() -> None:
    one = endpoint(accept=["text/plain", "application/sdp"])
    one.receive(request("OPTIONS", "Content-Type: text/html", body=b"x"), UDP, 0.0)
    (answer,) = answers(one)
    assert (answer.status, answer.header("accept")) == (415, "application/sdp, text/plain")
    one.receive(request("OPTIONS", "Content-Type: Text / Plain; charset=utf-8", n=2, body=b"x"), UDP, 0.0)
    assert isinstance(one.take_events()[-1], Requested)


def test_options_used_up_on_their_way_are_still_answered_by_us() -> None:
    one = endpoint()
    one.receive(request("OPTIONS", "Max-Forwards: 0"), UDP, 0.0)
    event = one.take_events()[0]
    assert isinstance(event, Requested) and event.leg is None
    assert one.respond(event.transaction, 200, 0.0)
    assert statuses(one) == [200]
    one.receive(request("OPTIONS", "Max-Forwards: 0"), UDP, 0.1)
    assert statuses(one) == [200] and not one.take_events()


def test_a_request_that_forked_and_came_twice_is_merged() -> None:
    one = endpoint()
    one.receive(request(branch="a"), UDP, 0.0)
    one.receive(request(branch="b"), UDP, 0.0)
    assert statuses(one) == [100, 482]
    one.receive(request(branch="c", cseq=2), UDP, 0.0)
    assert statuses(one) == [100]
    one.take_events()
    one.receive(request("OPTIONS", branch="d", n=2), UDP, 0.0)
    one.receive(request("OPTIONS", branch="e", n=2), UDP, 0.0)
    assert statuses(one) == [482]


def test_a_merged_request_is_new_once_the_first_is_forgotten() -> None:
    one = endpoint()
    one.receive(request(branch="a"), UDP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Invited)
    one.respond(event.transaction, 404, 0.0)
    one.receive(request("ACK", branch="a"), UDP, 0.0)
    one.timeout(6.0)
    one.take_sends()
    one.receive(request(branch="b"), UDP, 6.0)
    assert statuses(one) == [100]


def test_the_same_branch_from_another_address_is_another_request() -> None:
    one = endpoint()
    one.receive(request(), UDP, 0.0)
    (event,) = one.take_events()
    stranger = UDP._replace(remote=("192.0.2.66", 5060))
    one.receive(request("CANCEL", branch="INVITE1"), stranger, 0.0)
    assert statuses(one) == [100, 481]
    one.receive(request("CANCEL", branch="INVITE1"), UDP, 0.0)
    assert sorted(statuses(one)) == [200, 487]
    assert isinstance(event, Invited) and [type(each) for each in one.take_events()] == [Refused, Cancelled]


def test_a_cancel_that_is_repeated_gets_its_answer_again_and_is_told_once() -> None:
    one = endpoint()
    one.receive(request(), UDP, 0.0)
    one.receive(request("CANCEL", branch="INVITE1"), UDP, 0.0)
    one.receive(request("CANCEL", branch="INVITE1"), UDP, 0.0)
    assert statuses(one) == [100, 200, 487, 200]
    assert [type(each) for each in one.take_events()] == [Invited, Cancelled]


@pytest.mark.parametrize("method", ["BYE", "INFO", "INVITE", "OPTIONS"])
def test_a_request_in_a_dialog_nobody_knows_gets_481(method: str) -> None:
    one = endpoint()
    one.receive(request(method, to="<sip:+842471@192.0.2.9>;tag=gone"), UDP, 0.0)
    assert statuses(one) == [481]


def test_a_request_with_our_tag_but_another_peers_is_not_in_the_dialog() -> None:
    one = endpoint()
    one.receive(request(), UDP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Invited)
    one.respond(event.transaction, 200, 0.0)
    to = answers(one)[-1].headers["to"][0]
    forged = request("BYE", to=to, cseq=2).replace(b"tag=from1", b"tag=forged")
    one.receive(forged, UDP, 0.0)
    assert statuses(one) == [481]
    one.receive(request("ACK", to=to, branch="other").replace(b"tag=from1", b"tag=forged"), UDP, 0.0)
    one.receive(request("ACK", to=to, branch="other", cseq=7), UDP, 0.0)
    assert [type(each) for each in one.take_events()] == [Refused]
    one.receive(request("ACK", to=to, branch="other"), UDP, 0.0)
    assert [type(each) for each in one.take_events()] == [Acked]


def test_the_called_side_cannot_hang_up_before_it_has_answered() -> None:
    one = endpoint()
    leg = one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, invite),) = one.take_sends()
    one.receive(ok_to(invite, "Contact: <sip:c@192.0.2.1>", status="180 Ringing"), UDP, 0.0)
    read = parse(invite)
    bye = request("BYE", to=read.headers["from"][0]).replace(b"<sip:+84901@192.0.2.1>;tag=from1", b"<sip:y@h>;tag=t")
    one.receive(bye.replace(b"call1", read.call_id.encode()), UDP, 0.0)
    assert statuses(one) == [481]
    assert one.dialog(leg) is not None


def test_a_malformed_request_within_its_size_is_refused_and_counted_without_its_words() -> None:
    one = endpoint()
    one.receive(request("INVITE", "+84901234567 x: y"), UDP, 0.0)
    assert statuses(one) == [400]
    (event,) = one.take_events()
    assert isinstance(event, Refused) and "84" not in event.reason


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_an_invite_that_is_not_admitted_gets_503_and_begins_no_call() -> None:
    asked = []

    def admit(request: Request, now: float) -> bool:
        asked.append((request.method, now))
        return len(asked) == 1

    one = endpoint(admit=admit)
    one.receive(request(n=1), UDP, 1.0)
    assert statuses(one) == [100] and len(one.take_events()) == 1
    one.receive(request(n=2), UDP, 2.0)
    (answer,) = answers(one)
    assert answer.status == 503 and answer.retry_after is not None
    (told,) = one.take_events()
    assert isinstance(told, Refused) and one.statistics()["legs"] == 1
    one.receive(request("OPTIONS", n=3), UDP, 3.0)
    assert asked == [("INVITE", 1.0), ("INVITE", 2.0)], "only calls are asked about"


def test_a_refusing_endpoint_turns_new_calls_away_and_serves_the_rest() -> None:
    one = endpoint()
    one.receive(request(), UDP, 0.0)
    one.take_sends()
    one.refusing = True
    seen = set()
    for n in range(2, 60):
        one.receive(request("INVITE", "Require: what-would-be-a-420", n=n), UDP, 0.0)
        (answer,) = answers(one)
        assert answer.status == 503 and answer.retry_after is not None
        seen.add(answer.retry_after)
    assert seen == {1, 2, 3, 4, 5}
    one.receive(request(), UDP, 0.0)
    one.receive(request("OPTIONS", n=3), UDP, 0.0)
    assert statuses(one) == [100]
    assert isinstance(one.take_events()[-1], Requested)
    assert one.statistics()["legs"] == 1


def test_a_full_endpoint_takes_nothing_new_and_recovers() -> None:
    one = endpoint(max_transactions=2)
    for n in (1, 2, 3):
        one.receive(request(n=n), UDP, 0.0)
    one.receive(request("OPTIONS", n=4), UDP, 0.0)
    assert statuses(one) == [100, 100, 503, 503]
    for event in one.take_events():
        if isinstance(event, Invited):
            one.respond(event.transaction, 480, 0.0)
    one.timeout(40.0)
    one.take_sends()
    one.receive(request(n=5), UDP, 40.0)
    assert statuses(one) == [100]


def test_one_source_alone_does_not_fill_an_endpoint() -> None:
    one = endpoint(max_transactions=8)
    for n in range(8):
        one.receive(request(n=n), UDP, 0.0)
    assert statuses(one) == [100] * 6 + [503] * 2
    neighbour = UDP._replace(remote=("192.0.2.77", 5060))
    one.receive(request(n=9), neighbour, 0.0)
    assert statuses(one) == [100]
    for event in one.take_events():
        if isinstance(event, Invited):
            one.respond(event.transaction, 480, 0.0)
    one.timeout(40.0)
    assert one.statistics()["server_transactions"] == 0
    statuses(one)
    one.receive(request(n=10), UDP, 40.0)
    assert statuses(one) == [100]


def test_requests_within_a_call_are_served_up_to_twice_that_number() -> None:
    one = endpoint(max_transactions=2)
    one.receive(request(), UDP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Invited)
    one.respond(event.transaction, 200, 0.0)
    to = answers(one)[-1].headers["to"][0]
    for cseq in range(2, 7):
        one.receive(request("OPTIONS", to=to, cseq=cseq, branch=f"options{cseq}"), UDP, 0.0)
    assert [type(each) for each in one.take_events()] == [Requested] * 3 + [Refused] * 2
    assert statuses(one) == [503, 503]


def test_a_finished_transaction_keeps_no_request() -> None:
    one = endpoint()
    one.receive(request(body=SDP[:0]), UDP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Invited) and event.transaction.request is event.request
    one.respond(event.transaction, 404, 0.0)
    assert event.transaction.request is None and event.transaction.head == ""
    assert one.respond(event.transaction, 200, 0.0) is False


# -- streams --------------------------------------------------------------------------------------------------------


def test_a_call_over_a_stream_in_single_octets_with_pings_between() -> None:
    one = endpoint()
    for octet in b"\r\n\r\n" + request() + b"\r\n\r\n" + request("OPTIONS", n=2):
        one.receive(bytes([octet]), TCP, 0.0)
    sends = one.take_sends()
    assert [data[:11] for _, data in sends] == [b"\r\n", b"SIP/2.0 100", b"\r\n"]
    assert {flow for flow, _ in sends} == {TCP}
    assert [type(event) for event in one.take_events()] == [Invited, Requested]
    assert one.due() == 32.0  # no half message: only the unanswered OPTIONS waits


def test_half_a_message_held_for_five_seconds_closes_the_stream() -> None:
    one = endpoint()
    other = TCP._replace(connection=4)
    one.receive(b"INVITE sip:", TCP, 1.0)
    one.receive(b"x", other, 2.0)
    one.receive(b"drip", TCP, 5.0)
    assert one.due() == 6.0
    one.timeout(5.9)
    assert one.take_events() == []
    one.timeout(6.5)
    (event,) = one.take_events()
    assert isinstance(event, Disconnect) and event.flow == TCP
    assert one.due() == 7.0
    one.disconnected(other, 6.6)
    assert one.due() is None


def test_a_message_completed_in_time_starts_a_new_five_seconds() -> None:
    one = endpoint()
    first, second = request("OPTIONS", n=1), request("OPTIONS", n=2)
    one.receive(first[:50], TCP, 0.0)
    one.receive(first[50:] + second[:50], TCP, 4.0)
    assert one.due() == 9.0
    one.receive(second[50:], TCP, 8.0)
    one.timeout(10.0)
    assert [type(event) for event in one.take_events()] == [Requested, Requested]


def test_a_stream_that_cannot_be_framed_is_closed() -> None:
    one = endpoint()
    one.receive(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", TCP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Disconnect) and event.reason == "no single Content-Length"
    assert one.take_sends() == []


# -- failures of the transport --------------------------------------------------------------------------------------


def test_an_invite_that_could_not_be_sent_fails_at_once() -> None:
    one = endpoint()
    leg = one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    other = one.invite(TCP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    one.transport_failed(UDP, 0.1)
    (failed,) = one.take_events()
    assert isinstance(failed, Failed)
    assert (failed.leg, failed.status, failed.cause) == (leg, 503, Cause.TRANSPORT)
    assert one.dialog(other) is not None


def test_a_request_that_could_not_be_sent_fails_at_once() -> None:
    one = endpoint()
    key = one.send_request(
        UDP, "OPTIONS", "sip:192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", headers=[("Accept", "application/sdp")]
    )
    one.transport_failed(UDP, 0.1)
    (event,) = one.take_events()
    assert isinstance(event, Responded)
    assert (event.leg, event.transaction, event.status, event.cause) == (None, key, 503, Cause.TRANSPORT)


def test_a_datagram_that_icmp_gives_back_fails_its_own_request_alone() -> None:
    one = endpoint()
    legs = [one.invite(UDP, f"sip:{n}@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP) for n in "ab"]
    (_, first), (_, second) = one.take_sends()
    one.unreached(second[:200], UDP, 0.1)
    (failed,) = one.take_events()
    assert isinstance(failed, Failed)
    assert (failed.leg, failed.status, failed.cause) == (legs[1], 503, Cause.TRANSPORT)
    forged = first.replace(first.split(b"branch=")[1][:30], b"z9hG4bK" + b"0" * 23)
    for quoted, flow in ((forged, UDP), (first[:40], UDP), (b"", UDP), (b"\xff\r\nVia: ", UDP), (first, TCP)):
        one.unreached(quoted, flow, 0.2)
    assert one.take_events() == [] and one.dialog(legs[0]) is not None


def test_an_invite_that_was_heard_of_does_not_fail_with_its_transport() -> None:
    one = endpoint()
    leg = one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, invite),) = one.take_sends()
    one.receive(ok_to(invite, status="100 Trying", tag=""), UDP, 0.0)
    one.transport_failed(UDP, 0.1)
    assert [type(event) for event in one.take_events()] == [Progressed]
    assert one.dialog(leg) is not None


# -- requests outside any dialog ------------------------------------------------------------------------------------


def test_a_ping_and_its_answer() -> None:
    one, other = endpoint(), Endpoint(entropy=entropy("other"))
    key = one.send_request(UDP, "OPTIONS", "sip:192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", max_forwards=1)
    ((_, data),) = one.take_sends()
    assert parse(data).header("max-forwards") == "1"
    other.receive(data, UDP, 0.0)
    (event,) = other.take_events()
    assert isinstance(event, Requested)
    other.respond(event.transaction, 200, 0.0, headers=[("Allow", "INVITE")])
    ((_, answer),) = other.take_sends()
    one.receive(answer, UDP, 0.0)
    one.receive(answer, UDP, 0.0)
    (heard,) = one.take_events()
    assert isinstance(heard, Responded) and (heard.transaction, heard.status) == (key, 200)
    one.timeout(6.0)
    one.receive(answer, UDP, 6.0)
    assert isinstance(one.take_events()[0], Refused)


def test_a_response_with_a_branch_that_is_not_ours_is_dropped() -> None:
    one = endpoint()
    one.invite(UDP, "sip:bob@192.0.2.1", 0.0, from_="<sip:x@h>", to="<sip:y@h>", body=SDP)
    ((_, invite),) = one.take_sends()
    one.receive(ok_to(invite).replace(b"z9hG4bK", b"z9hG4bKx"), UDP, 0.0)
    one.receive(ok_to(invite).replace(b"1 INVITE", b"1 BYE"), UDP, 0.0)
    assert [type(event) for event in one.take_events()] == [Refused, Refused]
    assert one.take_sends() == []


def test_what_an_endpoint_holds_is_shown_without_whom() -> None:
    one = endpoint()
    one.receive(request(), UDP, 0.0)
    (event,) = one.take_events()
    assert isinstance(event, Invited)
    assert repr(event.transaction) == "<ServerTransaction INVITE proceeding>"
    assert repr(one._legs[event.leg]) == f"<Leg {event.leg} unanswered>"
