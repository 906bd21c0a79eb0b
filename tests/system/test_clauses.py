"""The call machinery, clause by clause: where each is told by SIPp on the running service.

| clause | RFC | told by |
|---|---|---|
| PRACK on each leg by itself | 3262 3, 4, 5 | test_machinery: the three tests of reliable provisional responses |
| UPDATE | 3311 5.2 | test_machinery: `…hold_and_resume…`, `…offer_that_cannot_be_used…`, `…interval_below_ours…` |
| early media | 3261 13.2.1, 3960 3 | `…a_network_says_before_the_answer_is_kept…`, `…two_phones_that_play…` |
| forked 18x, one phone's media at a time | 3261 12.1, 13.2.2.4 | `…two_phones_that_play_early_media…` |
| forked 2xx | 3261 13.2.2.4 | `…a_second_phone_that_answers…` |
| CANCEL race | 3261 9.1, 9.2 | `…an_answer_that_crosses_our_cancel…`, `…a_cancel_that_crosses_our_answer…` |
| BYE race | 3261 15.1.1, 15.1.2 | `…two_byes_that_cross…`, `…a_bye_waits_for_the_ack…` |
| lost ACK | 3261 13.2.2.4, 13.3.1.4 | `…an_answer_is_repeated…`, `…a_repeated_answer…`; never: test_stories |
| merged requests | 3261 8.2.2.2 | `…the_same_request_by_another_way…` |
| glare | 3261 14.1, 14.2 | `re invites that cross …` story |
| delayed offer, offerless re-INVITE | 3261 13.2.1, 14.2 | `…an_invite_without_an_offer…`; test_machinery |
| hold, resume, re-negotiation; a failed one | 3264 8, 3261 14.2 | test_machinery: as UPDATE, and `…without_an_offer…` |
| session timers, UAS; 422 | 4028 9 | test_machinery: the two tests of session timers |
| session timers, UAC; 422; expiry | 4028 7.2, 7.3, 10 | `a session that …` stories, `…an_interval_the_callee…` |
| Max-Forwards | 3261 8.2.2, 16.3; 7332 5 | `…max_forwards_crosses_less_one…` |
| our own call coming back | 7332 1, 3261 16.3 | `…a_call_of_ours_that_comes_back…` |
| RTP silence | 3550 6.3.5 (time-out) | `…a_call_without_rtp…` |
| hard limit and its warning tone | none: the contract's `call_time_limit` | `a call at its limit …` story |
| DTMF | 4733 2.5, 6086 4, ITU-T Q.23 | `…a_key_by_…` |
| REFER, 3xx | 3515 2.4.2, 3261 8.1.3.4 | test_stories: `…a_transfer_is_refused…`, `…the_callees_refusal…[302 …]` |
| Replaces | 3891 3, 3261 8.2.2.3 | `…a_call_that_would_replace…` |
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recordings.keytones import HIGH, KEYS, LOW
from sipedge.media.g711 import encode
from sipedge.media.tones import sound
from tests.system.service import Person, Service, Trunk, eventually, running, take_place
from tests.system.sipp import (
    PCMA,
    PCMA_STREAMED,
    Message,
    Phones,
    accepts,
    ack,
    answers,
    bye,
    callee_bye,
    cancel,
    hears,
    invite,
    is_asked,
    is_invited_and_keeps_caller,
    picks_up,
    plays,
    refusal_ack,
    request,
    sent,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(120)]

Session = dict[str, Any]
IS_HUNG_UP = [is_asked("BYE"), accepts()]
REACHES = [invite(), trying(), hears(180), hears(200), ack()]
HANGS_UP = [bye(), hears(200)]
BARE = "".join(line for line in PCMA_STREAMED.splitlines(keepends=True) if ":101" not in line).replace("8 101", "8")
KEPT = {"via": "Via:", "from": "From:", "to": "To:", "cseq": "CSeq:"}


@pytest.fixture
def pair(service: Service) -> tuple[Person, Person]:
    """A customer who calls from the caller's address and a driver on the main trunk's."""
    place = service.place
    return service.person("customer", place.caller), service.person("driver", place.callee, place.second_trunk)


def dials(session: Session, of: int = 0) -> str:
    return str(session["participants"][of]["proxies"][0]["number"])


def told(phones: Phones, service: Service, caller: Person, session: Session, *steps: str) -> list[Message]:
    with phones.calls(dials(session), service.place.caller, caller.number, *steps) as phone:
        return phone.finish()


def tag(message: Message) -> str:
    return message.header("To").partition("tag=")[2]


def is_asked_and_keeps(method: str, *, within: int = 9000) -> str:
    """As `is_asked`, for an answer that is given later (`answers_kept`)."""
    kept = "".join(
        f'<ereg regexp=".*" search_in="hdr" header="{header}" assign_to="{name}"/>' for name, header in KEPT.items()
    )
    return f'<recv request="{method}" timeout="{within}" rrs="true"><action>{kept}</action></recv>'


def answers_kept(line: str, name: str = "", sdp: str = "") -> str:
    """`name`: the tag that its To lacks."""
    to = f"To:[$to];tag={name}[pid]" if name else "To:[$to]"
    lines = [f"SIP/2.0 {line}", "Via:[$via]", "From:[$from]", to, "Call-ID: [call_id]", "CSeq:[$cseq]"]
    contact = [f"Contact: <sip:{name}@[local_ip]:[local_port];transport=[transport]>"] if sdp else []
    return sent("\n".join(lines + contact), sdp)


@contextmanager
def ear(address: str) -> Iterator[tuple[socket.socket, str]]:
    """A phone's own media socket, and the description that names it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind((address, 0))
        media.setblocking(False)
        yield media, PCMA.replace("[media_port]", str(media.getsockname()[1]))


def heard(media: socket.socket) -> list[bytes]:
    """The RTP that came since the last look."""
    found = []
    while True:
        try:
            found.append(media.recv(2048))
        except BlockingIOError:
            return [packet for packet in found if not 192 <= packet[1] <= 223]  # RTCP (RFC 5761 4)


def says(media: socket.socket, to: tuple[str, int], number: int, byte: int) -> None:
    media.sendto(struct.pack("!BBHII", 0x80, 8, number, 160 * number, byte) + bytes([byte]) * 160, to)


def media_of(message: Message, host: str) -> tuple[str, int]:
    return host, int(next(line.split()[1] for line in message.body.splitlines() if line.startswith("m=audio")))


# --- stories that mostly wait: all told at once, each judged by its own test

Story = Callable[[Service, Phones], None]
LONG_STORIES: dict[str, Story] = {}


def long_story(tell: Story) -> Story:
    LONG_STORIES[tell.__name__.replace("_", " ")] = tell
    return tell


@pytest.fixture(scope="module", autouse=True)
def long_stories(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    phones = Phones(tmp_path_factory.mktemp("long"), service.place.edge)
    with ThreadPoolExecutor(len(LONG_STORIES)) as side_by_side:
        yield {name: side_by_side.submit(tell, service, phones) for name, tell in LONG_STORIES.items()}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that takes 5 s without RTP for a dead call, on a trunk whose early media passes."""
    place = take_place()
    trunk = Trunk("vn-main", f"sip:{place.callee}:5080", [place.caller, place.callee], more={"early_media": "pass"})
    settings = {"media": {"silence_timeout": 5}}
    with running(tmp_path_factory.mktemp("hasty"), place=place, trunks=[trunk], settings=settings) as service:
        yield service
        assert service.leaks() == []


def by_way_of(service: Service, trunk: str, address: str, number: str, **fields: Any) -> tuple[Person, Session]:
    """A caller and a session whose callee is reached by a trunk that no other story uses."""
    service.post("/v1/services", {"unique_name": f"by-{trunk}"}, 201)
    service.import_numbers([number], trunk, f"by-{trunk}")
    caller, callee = service.person("customer", service.place.caller), service.person("driver", address)
    return caller, service.open_session(caller, callee, service=f"by-{trunk}", **fields)


@long_story
def a_call_at_its_limit_is_warned_and_hung_up_on_both_legs(service: Service, phones: Phones) -> None:
    """The contract's `call_time_limit` and `warning_at`; nobody speaks, so all that is heard is the warning tone."""
    place = service.place
    limits = {"call_time_limit": 30, "warning_at": 25}
    caller, session = by_way_of(service, "vn-late", place.late_trunk, "+842471008801", **limits)
    ends = [is_asked("BYE", within=40000), accepts()]
    with ear(place.caller) as (one, offer), ear(place.late_trunk) as (two, answer):
        with phones.waits_for_call(place.late_trunk, is_asked("INVITE"), *picks_up(answer), *ends) as callee:
            with phones.calls(dials(session), place.caller, caller.number, invite(offer), *REACHES[1:], *ends) as phone:
                eventually(lambda: any(m.start.startswith("ACK") for m in phone.messages()), 5, "the call")
                began = time.monotonic()
                tones = [eventually(lambda ear=ear: heard(ear), 8, "the warning") for ear in (one, two)]  # type: ignore[misc]
                warned = time.monotonic() - began
                phone.finish(40), callee.finish(5)
                lasted = time.monotonic() - began
    assert all(tones) and 4 < warned < 6.5 and 29 < lasted < 31.5
    interaction = service.ended_interaction(session["id"])
    assert (interaction["hangup_by"], interaction["status"]) == ("platform", "completed")


@long_story
def re_invites_that_cross_are_491_and_ours_waits_as_who_owns_the_call_id(service: Service, phones: Phones) -> None:
    """RFC 3261 14.2 and 14.1: theirs, while ours is unanswered, is 491; ours, refused by 491, is sent again after 2.1
    to 4 s. The callee leaves refreshing to us and takes no UPDATE, so ours is a re-INVITE."""
    place = service.place
    caller, session = by_way_of(service, "vn-small", place.small_carrier, "+842471008802")
    timer = "Session-Expires: 26;refresher=uac\nRequire: timer\n"
    picks = [is_invited_and_keeps_caller(), answers("200 OK", PCMA, options='retrans="500"', extra=timer)]
    theirs = sent(
        """INVITE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:[local_ip]:[local_port]>;tag=[pid]s[call_number]
To: [$caller]
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:[local_ip]:[local_port]>""",
        PCMA,
    )
    crossing = [is_asked_and_keeps("INVITE", within=20000), theirs, hears(491), refusal_ack()]
    again = [answers_kept("491 Request Pending"), is_asked("ACK"), is_asked("INVITE"), agrees(timer), is_asked("ACK")]
    story = [*picks, is_asked("ACK"), *crossing, *again, *IS_HUNG_UP]
    with phones.waits_for_call(place.small_carrier, *story) as callee:
        steps = [invite(), trying(), hears(180, optional=True), hears(200), ack(), waits(18500), *HANGS_UP]
        with phones.calls(dials(session), place.caller, caller.number, *steps) as phone:
            refused = "SIP/2.0 491 Request Pending"
            eventually(lambda: any(not m.received and m.start == refused for m in callee.messages()), 18, "the glare")
            at = time.monotonic()
            seen = {m.header("CSeq") for m in callee.received("INVITE")}
            eventually(lambda: {m.header("CSeq") for m in callee.received("INVITE")} - seen, 5, "our second try")
            waited = time.monotonic() - at
            phone.finish(), callee.finish()
    assert 1.95 < waited < 4.3


def agrees(extra: str) -> str:
    """200 to a re-INVITE: its To has our tag already."""
    return sent(
        f"""SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
{extra}""",
        PCMA,
    )


@long_story
def a_session_that_is_ours_to_refresh_is_refreshed_by_update(service: Service, phones: Phones) -> None:
    """RFC 4028 7.2, 10: half the interval after the callee left it to us; UPDATE, where the callee takes it."""
    place = service.place
    caller, session = by_way_of(service, "vn-answer", place.muting_carrier, "+842471008803")
    timer = "Session-Expires: 6;refresher=uac\nRequire: timer\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE\n"
    refreshed = answers("200 OK of", extra=timer)
    picks = [is_asked("INVITE"), answers("200 OK", PCMA, options='retrans="500"', extra=timer), is_asked("ACK")]
    story = [*picks, is_asked("UPDATE"), refreshed, is_asked("UPDATE"), refreshed, *IS_HUNG_UP]
    with phones.waits_for_call(place.muting_carrier, *story) as callee:
        steps = [invite(), trying(), hears(180, optional=True), hears(200), ack(), waits(7000), *HANGS_UP]
        with phones.calls(dials(session), place.caller, caller.number, *steps) as phone:
            phone.finish(), callee.finish()
    updates = callee.received("UPDATE")
    assert {m.header("Session-Expires") for m in updates} == {"6;refresher=uac"} and not updates[0].body


@long_story
def a_session_that_nobody_refreshes_is_hung_up_on_both_legs(service: Service, phones: Phones) -> None:
    """RFC 4028 10: BYE, a third of the interval before its end."""
    place = service.place
    caller, session = by_way_of(service, "vn-none", place.silent_carrier, "+842471008804")
    timer = "Session-Expires: 6;refresher=uas\nRequire: timer\n"
    picks = [is_asked("INVITE"), answers("200 OK", PCMA, options='retrans="500"', extra=timer), is_asked("ACK")]
    with phones.waits_for_call(place.silent_carrier, *picks, *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180, optional=True), hears(200), ack(), *IS_HUNG_UP]
        with phones.calls(dials(session), place.caller, caller.number, *steps) as phone:
            phone.finish(), callee.finish()
    assert service.ended_interaction(session["id"])["hangup_by"] == "platform"


def test_a_call_without_rtp_from_either_phone_is_hung_up_on_both_legs(hasty: Service, tmp_path: Path) -> None:
    """RFC 3550 6.3.5 times a silent source out; two of them are a dead call (`media.silence_timeout`)."""
    place, phones = hasty.place, Phones(tmp_path, hasty.place.edge)
    caller, callee = hasty.person("customer", place.caller), hasty.person("driver", place.callee)
    session = hasty.open_session(caller, callee)
    with phones.waits_for_call(place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as phone:
        began = time.monotonic()
        told(phones, hasty, caller, session, *REACHES, *IS_HUNG_UP)
        phone.finish()
    assert 4.5 < time.monotonic() - began < 9
    assert hasty.ended_interaction(session["id"])["hangup_by"] == "platform"


# --- early media and forks


def fork(line: str, name: str, sdp: str = "") -> str:
    """An answer of one of several phones behind the carrier."""
    return sent(
        f"""SIP/2.0 {line}
[last_Via:]
[last_From:]
[last_To:];tag={name}[pid]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:{name}@[local_ip]:[local_port];transport=[transport]>""",
        sdp,
    )


def test_what_a_network_says_before_the_answer_is_kept_from_the_caller_who_hears_ringing(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3960 3: early media may speak the callee's number; a 183 with a description crosses as 180 without one."""
    session = service.open_session(*pair)
    story = [is_asked("INVITE"), answers("183 Session Progress", PCMA), waits(200), *picks_up(), *IS_HUNG_UP]
    with phones.waits_for_call(service.place.callee, *story) as callee:
        answered = told(phones, service, pair[0], session, *REACHES, *HANGS_UP)
        callee.finish()
    (ringing,) = (m for m in answered if m.start.startswith("SIP/2.0 18"))
    assert ringing.start.startswith("SIP/2.0 180") and not ringing.body


def test_a_second_phone_that_answers_is_acknowledged_and_hung_up_and_the_caller_sees_one(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3261 13.2.2.4: every 2xx of a forked INVITE is ACKed; all but the first are ended by BYE."""
    session = service.open_session(*pair)
    rings = [fork("180 Ringing", "one"), fork("180 Ringing", "two")]
    first = [fork("200 OK", "one", PCMA), is_asked("ACK")]
    second = [answers_kept("200 OK", "two", PCMA), is_asked("ACK"), *IS_HUNG_UP]
    story = [is_asked_and_keeps("INVITE"), *rings, waits(100), *first, *second, *IS_HUNG_UP]
    with phones.waits_for_call(service.place.callee, *story) as callee:
        answered = told(phones, service, pair[0], session, *REACHES, waits(500), *HANGS_UP)
        asked = [m for m in callee.finish() if m.received]
    assert [m.start.split()[1].partition("@")[0] for m in asked if m.start.startswith("BYE")] == ["sip:two", "sip:one"]
    assert sorted(tag(m)[:3] for m in asked if m.start.startswith("ACK")) == ["one", "two"]
    assert len({tag(m) for m in answered if m.received and tag(m)}) == 1


def test_of_two_phones_that_play_early_media_the_caller_hears_one_at_a_time(hasty: Service, tmp_path: Path) -> None:
    """RFC 3261 12.1, RFC 3960 3.1: each 183 of a fork is an early dialog of its own. On a trunk whose early media
    passes the caller has one dialog, and hears the phone that described itself last."""
    place, phones = hasty.place, Phones(tmp_path, hasty.place.edge)
    customer, driver = hasty.person("customer", place.caller), hasty.person("driver", place.callee)
    session = hasty.open_session(customer, driver)
    with ear(place.caller) as (ours, offer), ear(place.callee) as (one, first), ear(place.callee) as (two, second):
        early = [fork("183 Session Progress", "one", first), waits(1200), fork("183 Session Progress", "two", second)]
        answer = [waits(1200), fork("200 OK", "two", second), is_asked("ACK"), *IS_HUNG_UP]
        with phones.waits_for_call(place.callee, is_asked("INVITE"), *early, *answer) as callee:
            steps = [invite(offer), trying(), hears(180, optional=True), hears(183), hears(200), ack(), *HANGS_UP]
            with phones.calls(dials(session), place.caller, customer.number, *steps) as caller:
                eventually(lambda: caller.received("SIP/2.0 183"), 5, "early media")
                to = media_of(callee.received("INVITE")[0], place.edge)
                for number in range(90):  # both play all the time
                    says(one, to, number, 0x11)
                    says(two, to, number, 0x22)
                    time.sleep(0.02)
                answered = caller.finish()
                callee.finish()
        played = [packet[12] for packet in heard(ours)]
    assert set(played) == {0x11, 0x22} and played == sorted(played), "first the one, then the other, never both"
    assert len({tag(m) for m in answered if m.received and m.start.startswith("SIP/2.0 183")}) == 1


# --- races


def test_an_answer_that_crosses_our_cancel_is_acknowledged_and_hung_up(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3261 9.1: a CANCEL may come too late; the 2xx is ACKed and its dialog ended by BYE (13.2.2.4)."""
    session = service.open_session(*pair)
    too_late = """SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=[pid]s[call_number]
[last_Call-ID:]
CSeq: [last_cseq_number] INVITE
Contact: <sip:[local_ip]:[local_port]>"""
    story = [is_asked("INVITE"), answers("180 Ringing"), is_asked("CANCEL"), accepts(), sent(too_late, PCMA)]
    with phones.waits_for_call(service.place.callee, *story, is_asked("ACK"), *IS_HUNG_UP) as callee:
        gives_up = [cancel(), hears(200), hears(487), refusal_ack()]
        told(phones, service, pair[0], session, invite(), trying(), hears(180), waits(100), *gives_up)
        callee.finish()
    assert service.ended_interaction(session["id"])["status"] == "canceled"


def test_a_cancel_that_crosses_our_answer_changes_nothing(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3261 9.2: CANCEL has no effect on a request that has its final answer."""
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        late = [invite(), trying(), hears(180), hears(200), cancel(), hears(200), ack(), waits(200), *HANGS_UP]
        told(phones, service, pair[0], session, *late)
        callee.finish()
    assert service.ended_interaction(session["id"])["status"] == "completed"


def test_two_byes_that_cross_are_both_answered(service: Service, phones: Phones, pair: tuple[Person, Person]) -> None:
    """RFC 3261 15.1.2: the caller hangs up while our BYE to it is still unanswered."""
    session = service.open_session(*pair)
    ends = [is_invited_and_keeps_caller(), *picks_up(), waits(300), callee_bye(), hears(200)]
    with phones.waits_for_call(service.place.callee, *ends) as callee:
        crossing = [is_asked_and_keeps("BYE"), *HANGS_UP, answers_kept("200 OK")]
        told(phones, service, pair[0], session, *REACHES, *crossing)
        callee.finish()
    assert service.ended_interaction(session["id"])["hangup_by"] == "callee"


def test_a_bye_waits_for_the_ack(service: Service, phones: Phones, pair: tuple[Person, Person]) -> None:
    """RFC 3261 15.1.1: the answering side may not send BYE before the ACK of its 2xx."""
    session = service.open_session(*pair)
    ends = [is_invited_and_keeps_caller(), *picks_up(), callee_bye(), hears(200)]
    with phones.waits_for_call(service.place.callee, *ends) as callee:
        steps = [invite(), trying(), hears(180), hears(200), waits(700), ack(), *IS_HUNG_UP]
        starts = [m.start.split()[0] for m in told(phones, service, pair[0], session, *steps)]
        callee.finish()
    assert starts.index("ACK") < starts.index("BYE")


def test_an_answer_is_repeated_until_its_ack_comes(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3261 13.3.1.4: a 2xx is sent again after T1, 2 T1, ... while its ACK is lost."""
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), waits(1800), ack(), waits(200), *HANGS_UP]
        answered = told(phones, service, pair[0], session, *steps)
        callee.finish()
    repeated = [m for m in answered if m.start.startswith("SIP/2.0 200") and m.header("CSeq") == "1 INVITE"]
    assert len(repeated) == 3 and len({m.text for m in repeated}) == 1


def test_a_repeated_answer_is_acknowledged_again(service: Service, phones: Phones, pair: tuple[Person, Person]) -> None:
    """RFC 3261 13.2.2.4: our ACK was lost, so the callee says its 2xx once more."""
    session = service.open_session(*pair)
    answer = [answers_kept("200 OK", "phone", PCMA), is_asked("ACK")]
    # What SIPp heard last must not be the ACK, or it takes the next one for a repetition.
    asks = (
        callee_bye().replace("BYE", "INFO").replace("[$caller]", "[$from]").replace("[pid]s[call_number]", "phone[pid]")
    )
    story = [is_asked_and_keeps("INVITE"), fork("180 Ringing", "phone"), *answer, asks, hears(200), *answer]
    with phones.waits_for_call(service.place.callee, *story, *IS_HUNG_UP) as callee:
        told(phones, service, pair[0], session, *REACHES, waits(300), *HANGS_UP)
        acks = [m.text for m in callee.finish() if m.start.startswith("ACK")]
    assert len(acks) == 2 and acks[0] == acks[1]


def test_the_same_request_by_another_way_is_refused_as_merged(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3261 8.2.2.2: same From tag, Call-ID and CSeq, another branch: 482, and the first goes on."""
    session = service.open_session(*pair)
    rings = [is_asked("INVITE"), answers("180 Ringing"), waits(600), answers("200 OK", PCMA, options='retrans="500"')]
    with phones.waits_for_call(service.place.callee, *rings, is_asked("ACK"), *IS_HUNG_UP) as callee:
        again = [invite(retransmits=False), hears(482), refusal_ack()]
        steps = [invite(), trying(), hears(180), *again, hears(200), ack(), waits(100), *HANGS_UP]
        told(phones, service, pair[0], session, *steps)
        assert len([m for m in callee.finish() if m.start.startswith("INVITE")]) == 1


# --- offers, intervals, hops


def test_an_invite_without_an_offer_gets_ours_and_answers_it_in_the_ack(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3261 13.2.1: the delayed offer."""
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(""), trying(), hears(180), hears(200), sent(request("ACK", "1"), PCMA), waits(300), *HANGS_UP]
        answered = told(phones, service, pair[0], session, *steps)
        assert callee.finish()[0].body
    (offer,) = (m.body for m in answered if m.received and m.body)
    assert "PCMA" in offer and f"c=IN IP4 {service.place.edge}" in offer
    interaction = service.ended_interaction(session["id"])
    assert (interaction["status"], interaction["legs"][0]["codec"]) == ("completed", "PCMA")


def test_an_interval_the_callee_finds_too_short_is_proposed_longer_once(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 4028 7.3: after a 422 the call is made again with at least its Min-SE."""
    session = service.open_session(*pair)
    refuses = [is_asked("INVITE"), answers("422 Session Interval Too Small", extra="Min-SE: 3600\n"), is_asked("ACK")]
    with phones.waits_for_call(service.place.callee, *refuses, calls=2) as callee:
        told(phones, service, pair[0], session, invite(), trying(), hears(480), refusal_ack())
        asked = [m for m in callee.finish() if m.start.startswith("INVITE")]
    assert [m.header("Session-Expires") for m in asked] == ["1800", "3600"]


def test_max_forwards_crosses_less_one_and_ends_at_zero(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 7332 5, RFC 3261 16.3: 483 where nothing is left of it."""
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(extra="Max-Forwards: 10\n"), *REACHES[1:], waits(100), *HANGS_UP]
        told(phones, service, pair[0], session, *steps)
        assert callee.finish()[0].header("Max-Forwards") == "9"
    told(phones, service, pair[0], session, invite(extra="Max-Forwards: 0\n"), trying(), hears(483), refusal_ack())


def test_a_call_of_ours_that_comes_back_is_a_loop(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 7332 1, RFC 3261 16.3: the callee's phone forwards to a number of ours, and the network, which keeps no
    Max-Forwards, shows the virtual number that we showed."""
    session, place = service.open_session(*pair), service.place
    rings = [is_asked("INVITE"), answers("180 Ringing"), waits(1500), *picks_up()[1:], *IS_HUNG_UP]
    with phones.waits_for_call(place.callee, *rings) as callee:
        with phones.calls(dials(session), place.caller, pair[0].number, *REACHES, waits(100), *HANGS_UP) as caller:
            eventually(lambda: caller.received("SIP/2.0 180"), 5, "the ringing")
            back = [invite(), trying(), hears(482, within=1000), refusal_ack()]
            with phones.calls(dials(session), place.callee, dials(session, 1), *back) as forwarded:
                forwarded.finish()
            caller.finish(), callee.finish()


def test_a_call_that_would_replace_another_replaces_nothing(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 3891 3, RFC 3261 8.2.2.3: required it is 420; merely asked it is a call like any other, here one too many."""
    session, place = service.open_session(*pair), service.place
    with phones.waits_for_call(place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        with phones.calls(dials(session), place.caller, pair[0].number, *REACHES, waits(1500), *HANGS_UP) as caller:
            answer = eventually(lambda: caller.received("SIP/2.0 200"), 5, "the answer")[0]
            mine = answer.header("From").partition("tag=")[2]
            replaces = f"Replaces: {answer.header('Call-ID')};to-tag={tag(answer)};from-tag={mine}\n"
            for extra, code in ((replaces + "Require: replaces\n", 420), (replaces, 486)):
                told(phones, service, pair[0], session, invite(extra=extra), trying(), hears(code), refusal_ack())
            caller.finish()
        assert [m.start.split()[0] for m in callee.finish() if m.received] == ["INVITE", "ACK", "BYE"]


# --- keys


def tells(key: str) -> list[str]:
    """One key by INFO."""
    head = request("INFO", "2").strip()
    body = f"Signal={key}\nDuration=160\n"
    info = f"{head}\nContent-Type: application/dtmf-relay\nContent-Length: [len]\n\n{body}"
    return [f'<send retrans="500"><![CDATA[\n\n{info}]]></send>', hears(200)]


def keyed(key: str) -> bytes:
    """A key's tones for 100 ms and a pause of 100 ms, as A-law (ITU-T Q.23)."""
    row = next(place for place, keys in enumerate(KEYS) if key in keys)
    tones = sound((LOW[row], HIGH[KEYS[row].index(key)]), 800)
    return encode("PCMA", tones.tobytes() + bytes(1600))


@pytest.mark.parametrize("way", ["info", "telephone event"])
def test_a_key_by_info_or_as_an_event_reaches_the_other_phone_as_an_event(
    service: Service, phones: Phones, pair: tuple[Person, Person], way: str
) -> None:
    """RFC 6086 4 and RFC 4733 2.5: whichever way the caller tells it, the callee hears event 7 under its number."""
    session = service.open_session(*pair)
    key = tells("7") if way == "info" else ['<nop><action><exec play_dtmf="7"/></action></nop>']
    offer = PCMA if way == "info" else PCMA.replace("101", "96")  # the number SIPp's own keys carry
    with ear(service.place.callee) as (media, sdp):
        story = [is_asked("INVITE"), *picks_up(sdp), *IS_HUNG_UP]
        with phones.waits_for_call(service.place.callee, *story) as callee:
            steps = [invite(offer), *REACHES[1:], waits(300), *key, waits(1500), bye("3"), hears(200)]
            told(phones, service, pair[0], session, *steps)
            callee.finish()
        events = [packet for packet in heard(media) if packet[1] & 0x7F == 101]
    assert events and {packet[12] for packet in events} == {7}
    assert any(packet[13] & 0x80 for packet in events), "its end is told"


def test_a_key_by_info_reaches_a_phone_without_events_by_info(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    """RFC 6086 4: the callee's answer takes no RFC 4733, so it is told the key in words of our own."""
    session = service.open_session(*pair)
    story = [is_asked("INVITE"), *picks_up(BARE), is_asked("INFO"), accepts(), *IS_HUNG_UP]
    with phones.waits_for_call(service.place.callee, *story) as callee:
        told(phones, service, pair[0], session, *REACHES, waits(200), *tells("7"), waits(300), bye("3"), hears(200))
        callee.finish()
    (info,) = callee.received("INFO")
    assert info.header("Content-Type") == "application/dtmf-relay" and "Signal=7" in info.body


def test_a_key_by_tones_reaches_the_other_phone_as_it_was_played(
    service: Service, phones: Phones, pair: tuple[Person, Person], tmp_path: Path
) -> None:
    """ITU-T Q.23: tones are audio, and cross as audio."""
    session = service.open_session(*pair)
    raw = tmp_path / "keys.alaw"
    raw.write_bytes(keyed("7") * 3)
    with ear(service.place.callee) as (media, sdp):
        with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(sdp), *IS_HUNG_UP) as callee:
            told(phones, service, pair[0], session, invite(BARE), *REACHES[1:], plays(raw, 1), waits(900), *HANGS_UP)
            callee.finish()
        audio = b"".join(packet[12:] for packet in heard(media) if packet[1] & 0x7F == 8)
    assert keyed("7")[:640] in audio


def test_a_key_by_tones_is_heard_where_we_ask_for_a_pin(
    service: Service, phones: Phones, pair: tuple[Person, Person], tmp_path: Path
) -> None:
    """ITU-T Q.23: a phone without RFC 4733 keys its PIN in the audio."""
    session = service.open_session(*pair, pin={"policy": "always"})
    pin = session["participants"][0]["proxies"][0]["pin"][:4]
    raw = tmp_path / "keys.alaw"
    raw.write_bytes(b"".join(map(keyed, pin)) + encode("PCMA", bytes(16000)))
    busy = [is_asked("INVITE"), answers("486 Busy Here"), is_asked("ACK")]
    with phones.waits_for_call(service.place.callee, *busy) as callee:
        steps = [invite(BARE), trying(), hears(200), ack(), waits(300), plays(raw, 1), is_asked("BYE", within=14000)]
        told(phones, service, pair[0], session, *steps, accepts())
        callee.finish()
    assert service.ended_interaction(session["id"])["decision"] == "pin"


# --- and how the long stories ended


@pytest.mark.parametrize("story", LONG_STORIES)
def test_a_long_story_ends_as_it_should(long_stories: dict[str, Future[None]], story: str) -> None:
    long_stories[story].result(60)
