"""What our endpoint makes of every message of RFC 4475 section 3 and RFC 5118 section 4; see `rfc4475/README.md`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Invited, Refused, Requested
from sipedge.sip.flows import Flow
from sipedge.sip.messages import CSeq, Response, Uri, Via, parse
from tests.sip.world import entropy

HERE = Path(__file__).parent
FLOW = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5060))
# REGISTER and MESSAGE are taken here so that it is their syntax that is judged; the edge itself answers them 405.
METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "MESSAGE")
SERVED, STRAY, DROPPED = "served", "a response to nothing", "not a byte back"

# section: verdict, and where the RFC leaves a choice the one we made
RFC4475: dict[str, tuple[int | str, str]] = {
    "3.1.1.1-wsinv": (481, "well-formed; its To tag names no dialog"),
    "3.1.1.2-intmeth": (405, "well-formed; a method we do not serve (the RFC's 501 is for proxies and UACs, 8.2.1)"),
    "3.1.1.3-esc01": (SERVED, ""),
    "3.1.1.4-escnull": (SERVED, ""),
    "3.1.1.5-esc02": (405, "well-formed; %47 is no escape in a method"),
    "3.1.1.6-lwsdisp": (SERVED, ""),
    "3.1.1.7-longreq": (SERVED, ""),
    "3.1.1.8-dblreq": (SERVED, "the INVITE behind it is noise"),
    "3.1.1.9-semiuri": (SERVED, ""),
    "3.1.1.10-transports": (SERVED, ""),
    "3.1.1.11-mpart01": (SERVED, ""),
    "3.1.1.12-unreason": (STRAY, "readable"),
    "3.1.1.13-noreason": (STRAY, "readable"),
    "3.1.2.1-badinv01": (DROPPED, "its Via, which an answer repeats, cannot be read"),
    "3.1.2.2-clerr": (400, ""),
    "3.1.2.3-ncl": (400, ""),
    "3.1.2.4-scalar02": (400, ""),
    "3.1.2.5-scalarlg": (DROPPED, "a response"),
    "3.1.2.6-quotbal": (DROPPED, "its To, which an answer repeats, cannot be read"),
    "3.1.2.7-ltgtruri": (400, ""),
    "3.1.2.8-lwsruri": (DROPPED, "no start line"),
    "3.1.2.9-lwsstart": (DROPPED, "no start line"),
    "3.1.2.10-trws": (DROPPED, "no start line"),
    "3.1.2.11-escruri": (SERVED, "as the RFC allows: the header in its Request-URI is never read"),
    "3.1.2.12-baddate": (SERVED, "as the RFC allows: nobody reads Date"),
    "3.1.2.13-regbadct": (SERVED, "its Contact is unreadable to who asks for it: below"),
    "3.1.2.14-badaspec": (SERVED, "as the RFC allows"),
    "3.1.2.15-baddn": (SERVED, "as the RFC allows"),
    "3.1.2.16-badvers": (505, ""),
    "3.1.2.17-mismatch01": (400, ""),
    "3.1.2.18-mismatch02": (400, ""),
    "3.1.2.19-bigcode": (DROPPED, "a response"),
    "3.2.1-badbranch": (SERVED, "the whole Via and the dialog's identifiers tell its transaction"),
    "3.3.1-insuf": (DROPPED, "without From, To and Call-ID there is nothing to answer with"),
    "3.3.2-unkscm": (416, ""),
    "3.3.3-novelsc": (416, ""),
    "3.3.4-unksm2": (416, ""),
    "3.3.5-bext01": (420, ""),
    "3.3.6-invut": (415, ""),
    "3.3.7-regaut01": (SERVED, "a registrar's matter"),
    "3.3.8-multi01": (400, ""),
    "3.3.9-mcl01": (400, ""),
    "3.3.10-bcast": (STRAY, "and nothing is sent where its second Via points"),
    "3.3.11-zeromf": (SERVED, "we are where it was going"),
    "3.3.12-cparam01": (SERVED, ""),
    "3.3.13-cparam02": (SERVED, ""),
    "3.3.14-regescrt": (SERVED, "a registrar's matter"),
    "3.3.15-sdp01": (406, ""),
    "3.4.1-inv2543": (400, "no Contact: there is nowhere to send a BYE"),
}
RFC5118: dict[str, tuple[int | str, str]] = {
    "4.1-ipv6-good": (SERVED, ""),
    "4.2-ipv6-bad": (400, ""),
    "4.3-port-ambiguous": (SERVED, "the port is part of the address"),
    "4.4-port-unambiguous": (SERVED, ""),
    "4.5-via-received-param-no-delim": (SERVED, ""),
    "4.5-via-received-param-with-delim": (481, "read; its dialog is unknown"),
    "4.6-ipv6-in-sdp": (SERVED, ""),
    "4.7-mult-ip-in-header": (481, "read; its dialog is unknown"),
    "4.8-mult-ip-in-sdp": (SERVED, ""),
    "4.9-ipv4-mapped-ipv6": (SERVED, ""),
    "4.10-ipv6-bug-abnf-3-colons": (SERVED, "as the RFC allows: nothing is sent to that address"),
}
ALL = {**{f"rfc4475/{name}": v for name, v in RFC4475.items()}, **{f"rfc5118/{name}": v for name, v in RFC5118.items()}}


def message(name: str) -> bytes:
    return (HERE / f"{name}.sip").read_bytes()


def verdict(data: bytes) -> int | str:
    """What comes of one datagram; an answer counts, whatever else happens."""
    endpoint = Endpoint(entropy=entropy("rfc4475"), methods=METHODS)
    endpoint.receive(data, FLOW, 0.0)
    statuses = [int(sent.split()[1]) for flow, sent in endpoint.take_sends() if flow == FLOW]
    events = endpoint.take_events()
    assert len(events) == 1, "one message, one event"
    if isinstance(events[0], Invited | Requested):
        assert statuses in ([], [100])
        return SERVED
    assert isinstance(events[0], Refused)
    if statuses:
        return statuses[0]
    return STRAY if events[0].reason == "stray response" else DROPPED


def roomy(data: bytes) -> bytes:
    """The same message with an unknown header more: an answer to what cannot be read is never larger than it."""
    start, line_end, rest = data.partition(b"\r\n")
    return start + line_end + b"X-Room: " + b"r" * 80 + line_end + rest


def test_every_message_has_its_file_and_its_verdict() -> None:
    files = {f"{path.parent.name}/{path.stem}" for path in HERE.glob("rfc*/*.sip")}
    assert files == set(ALL)
    assert len(RFC4475) == 49


@pytest.mark.parametrize("name", ALL)
def test_the_message_meets_its_verdict(name: str) -> None:
    expected, why = ALL[name]
    data = message(name)
    assert verdict(roomy(data)) == expected, why
    if isinstance(expected, str):
        assert verdict(data) == expected, why
    else:
        assert verdict(data) in (expected, DROPPED), "what has no room for an answer gets none"


@pytest.mark.parametrize("name", ALL)
def test_the_edges_own_endpoint_answers_whatever_it_is(name: str) -> None:
    endpoint = Endpoint(entropy=entropy("edge"), methods=("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO"))
    for flow in (FLOW, FLOW._replace(transport="tcp", connection=1)):
        endpoint.receive(message(name), flow, 0.0)
        for _, sent in endpoint.take_sends():
            assert sent.startswith((b"SIP/2.0 ", b"\r\n"))


def test_3_1_1_1_is_read_as_the_rfc_reads_it() -> None:
    read = parse(message("rfc4475/3.1.1.1-wsinv"))
    assert (read.to.tag, read.from_.tag, read.cseq) == ("1918181833n", "98asjd8", CSeq(9, "INVITE"))
    assert read.from_.display == 'J Rosenberg \\"'
    assert [Via.parse(via).branch for via in read.vias] == ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
    assert (read.header("subject"), len(read.body)) == ("", 150)
    assert read.contact is not None and read.contact.params["secondparam"] == ""


def test_3_1_1_4_a_null_in_an_escape_cuts_no_name_short() -> None:
    assert parse(message("rfc4475/3.1.1.4-escnull")).to.uri.user == "null-%00-null"


def test_3_1_1_7_every_spelling_of_via_is_one() -> None:
    assert len(parse(message("rfc4475/3.1.1.7-longreq")).vias) == 34


def test_3_1_1_12_a_reason_phrase_may_hold_anything() -> None:
    read = parse(message("rfc4475/3.1.1.12-unreason"))
    assert isinstance(read, Response) and read.status == 200 and read.reason.startswith("= 2**3 * 5**2 ")


def test_3_1_2_13_a_contact_with_headers_outside_brackets_cannot_be_read() -> None:
    invite = message("rfc4475/3.1.2.13-regbadct").replace(b"REGISTER", b"INVITE")
    assert verdict(roomy(invite)) == 400


def test_3_3_12_and_13_a_parameter_belongs_to_the_header_or_to_the_uri_by_the_brackets() -> None:
    outside, inside = (parse(message(f"rfc4475/3.3.{n}")).contact for n in ("12-cparam01", "13-cparam02"))
    assert outside is not None and outside.params == {"unknownparam": ""} and outside.uri.params == {}
    assert inside is not None and inside.params == {} and inside.uri.params == {"unknownparam": ""}


def test_rfc5118_4_3_and_4_4_a_port_is_one_only_behind_the_bracket() -> None:
    assert Uri.parse("sip:[2001:db8::10:5070]").port == 0
    assert Uri.parse("sip:[2001:db8::10]:5070").port == 5070
