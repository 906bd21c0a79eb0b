"""What carriers do to a call while it is made and while it stands, told by SIPp: one story for each clause."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.service import Person, Service
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
    request,
    sent,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer]

Session = dict[str, Any]
IS_HUNG_UP = [is_asked("BYE"), accepts()]


@pytest.fixture
def pair(service: Service) -> tuple[Person, Person]:
    """A customer who calls from the caller's address and a driver on the main trunk's."""
    place = service.place
    return service.person("customer", place.caller), service.person("driver", place.callee, place.second_trunk)


def dials(session: Session, of: int = 0) -> str:
    return str(session["participants"][of]["proxies"][0]["number"])


def in_parts(handling: str) -> str:
    """An INVITE as a carrier with an ISUP side sends it (RFC 3204): the description is one part of two."""
    head = request("INVITE", "1", uri="sip:[service]@[remote_ip]:[remote_port]", to="").strip()
    isup = f"Content-Type: application/isup;version=itu-t92+\nContent-Disposition: signal;handling={handling}\n\nCANARY"
    body = f"--part\nContent-Type: application/sdp\n\n{PCMA}\n--part\n{isup}\n--part--\n"
    kind = "Content-Type: multipart/mixed;boundary=part\nMIME-Version: 1.0\n"
    return f'<send retrans="500"><![CDATA[\n\n{head}\n{kind}Content-Length: [len]\n\n{body}]]></send>'


# --- bodies of several parts (RFC 5621)


def test_of_a_body_in_parts_the_description_alone_is_taken(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [in_parts("optional"), trying(), hears(180), hears(200), ack(), bye(), hears(200)]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            caller.finish()
        invited = callee.finish()[0]
    assert invited.header("Content-Type") == "application/sdp" and "CANARY" not in invited.text


def test_a_part_that_must_be_understood_and_is_not_is_refused(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    with phones.calls(
        dials(session), service.place.caller, pair[0].number, in_parts("required"), hears(415), refusal_ack()
    ) as caller:
        assert "application/sdp" in caller.finish()[-2].header("Accept")


# --- reliable provisional responses, on each leg by itself (RFC 3262)

REQUIRES = "Require: 100rel\n"
RSEQ = '<ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true" assign_to="rseq"/>'


def prack() -> str:
    return sent(request("PRACK", "2", extra="RAck: [$rseq] 1 INVITE\n"), options='retrans="500"')


def is_invited_and_keeps_its_via() -> str:
    keep = '<ereg regexp=".*" search_in="hdr" header="Via:" assign_to="via"/>'
    return f'<recv request="INVITE" timeout="9000" rrs="true"><action>{keep}</action></recv>'


def answers_the_invite(line: str, sdp: str = "", extra: str = "", options: str = "") -> str:
    """As `answers`, when another request came in between."""
    return sent(
        f"""SIP/2.0 {line}
Via: [$via]
[last_From:]
[last_To:]
[last_Call-ID:]
CSeq: 1 INVITE
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
{extra}""",
        sdp,
        options,
    )


def test_a_caller_that_requires_reliable_ringing_gets_it(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        rings = [invite(extra=REQUIRES), trying(), hears(180, check=RSEQ), prack(), hears(200), hears(200)]
        steps = [*rings, ack(), bye("3"), hears(200)]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            heard = caller.finish()
        callee.finish()
        assert not callee.received("PRACK") and callee.messages()[0].header("Supported").startswith("100rel")
    assert next(m for m in heard if m.start.startswith("SIP/2.0 180")).header("Require") == "100rel"


def test_a_stranger_that_requires_it_gets_its_announcement_reliably(service: Service, phones: Phones) -> None:
    pair = service.person("customer", service.place.caller), service.person("driver", service.place.callee)
    session = service.open_session(*pair)
    stranger = service.person("third phone", service.place.caller)
    steps = [invite(extra=REQUIRES), trying(), hears(183, check=RSEQ), prack(), hears(200)]
    with phones.calls(
        dials(session), service.place.caller, stranger.number, *steps, hears(404, within=12000), refusal_ack()
    ) as caller:
        caller.finish()


def test_a_callee_that_answers_in_a_reliable_183_is_acknowledged_and_need_not_repeat_itself(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    tagged = answers("183 Session Progress", PCMA, extra="Require: 100rel\nRSeq: 27\n", options='retrans="500"')
    story = [is_invited_and_keeps_its_via(), tagged, is_asked("PRACK"), accepts(), answers_the_invite("200 OK")]
    with phones.waits_for_call(service.place.callee, *story, is_asked("ACK"), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), ack(), bye(), hears(200)]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            heard = caller.finish()
        (acknowledged,) = (m for m in callee.finish() if m.start.startswith("PRACK"))
    assert acknowledged.header("RAck") == "27 1 INVITE"
    assert all(not m.header("RSeq") for m in heard)


# --- a call that is changed while it stands (RFC 3261 14.2, RFC 3311 5.2, RFC 6337)

HELD = PCMA.replace("a=sendrecv", "a=sendonly")
ELSEWHERE = PCMA.replace("[media_ip]", "198.51.100.7")


def asks_again(cseq: int, sdp: str, method: str = "INVITE") -> str:
    return sent(request(method, str(cseq)), sdp, 'retrans="500"')


def acks(cseq: int, sdp: str = "") -> str:
    return sent(request("ACK", str(cseq)), sdp)


def test_hold_and_resume_are_answered_on_their_own_leg_and_the_recording_goes_on(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair, record="always")
    holds = [asks_again(2, HELD), trying(), hears(200), acks(2), waits(500)]
    resumes = [asks_again(3, PCMA, "UPDATE"), hears(200), waits(500), bye("4"), hears(200)]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), ack(), waits(300), *holds, *resumes]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            answers = [m for m in caller.finish() if m.received and m.start.startswith("SIP/2.0 200") and m.body]
        assert [m.start.split()[0] for m in callee.finish() if m.received] == ["INVITE", "ACK", "BYE"]
    assert [m.body.split("a=")[-1] for m in answers] == ["sendrecv", "recvonly", "sendrecv"]
    recording = service.recording(session["id"])
    assert recording["status"] == "available" and recording["duration"] > 1.2 and recording["gaps"] == []


def test_an_offer_that_cannot_be_used_is_refused_and_the_call_goes_on(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    again = [asks_again(2, ELSEWHERE), trying(), hears(488), refusal_ack("2")]
    update = [asks_again(3, ELSEWHERE, "UPDATE"), hears(488), waits(100), bye("4"), hears(200)]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), ack(), *again, *update]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            caller.finish()
        callee.finish()
    assert service.ended_interaction(session["id"])["status"] == "completed"


def test_a_re_invite_without_an_offer_is_answered_with_ours(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    again = [asks_again(2, ""), trying(), hears(200), acks(2, PCMA), waits(100), bye("3"), hears(200)]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        with phones.calls(
            dials(session), service.place.caller, pair[0].number,
            invite(), trying(), hears(180), hears(200), ack(), *again,
        ) as caller:  # fmt: skip
            offers = [m.body for m in caller.finish() if m.received and m.body]
        callee.finish()
    assert "PCMU" in offers[1] and f"c=IN IP4 {service.place.edge}" in offers[1]


# --- session timers, on each leg by itself (RFC 4028)


def test_a_session_interval_is_granted_refreshed_and_kept_from_the_other_leg(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    interval = "Supported: timer\nSession-Expires: 90;refresher=uac\nMin-SE: 90\n"
    refresh = [sent(request("UPDATE", "2", extra=interval), options='retrans="500"'), hears(200)]
    again = [sent(request("INVITE", "3", extra=interval), PCMA, 'retrans="500"'), trying(), hears(200), acks(3)]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [
            invite(extra=interval),
            trying(),
            hears(180),
            hears(200),
            ack(),
            *refresh,
            *again,
            bye("4"),
            hears(200),
        ]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            granted = [m for m in caller.finish() if m.received and m.header("Session-Expires")]
        invited = callee.finish()[0]
    assert [m.header("Session-Expires") for m in granted] == ["90;refresher=uac"] * 3
    assert {m.header("Require") for m in granted} == {"timer"}
    assert invited.header("Supported") == "100rel, timer" and invited.header("Session-Expires") == "1800"  # our own


def test_an_interval_below_ours_is_refused_with_the_least_we_take_also_within_a_call(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    short = "Supported: timer\nSession-Expires: 60\n"
    refresh = [sent(request("UPDATE", "2", extra=short), options='retrans="500"'), hears(422)]
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), ack(), *refresh, bye("3"), hears(200)]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *steps) as caller:
            (refused,) = (m for m in caller.finish() if m.start.startswith("SIP/2.0 422"))
        callee.finish()
    assert refused.header("Min-SE") == "90"
