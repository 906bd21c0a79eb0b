"""What a caller meets: one SIPp story for every row of the contract's table, told on the running service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.system.service import Person, Service, eventually
from tests.system.sipp import (
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
    is_cancelled,
    is_invited_and_keeps_caller,
    picks_up,
    refusal_ack,
    request,
    sent,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]

Session = dict[str, Any]
HANGS_UP = [ack(), waits(300), bye(), hears(200)]
IS_HUNG_UP = [is_asked("BYE"), accepts()]
# An announcement is early media: 183 with SDP, at most 10 s of speech, then the code.
REFUSED_WITH_ANNOUNCEMENT = [trying(), hears(183)]


@pytest.fixture
def pair(service: Service) -> tuple[Person, Person]:
    """A customer who calls from the caller's address and a driver on the main trunk's."""
    place = service.place
    return service.person("customer", place.caller), service.person("driver", place.callee, place.second_trunk)


def dials(session: Session, of: int = 0) -> str:
    """The number participant `of` dials to reach the first other one."""
    return str(session["participants"][of]["proxies"][0]["number"])


def refused(code: int) -> list[str]:
    return [hears(code, within=12000), refusal_ack()]


def told(
    phones: Phones, service: Service, caller: Person | str, dialled: str, *steps: str, **more: Any
) -> list[Message]:
    """A caller's story without a callee."""
    number = caller if isinstance(caller, str) else caller.number
    address = more.pop("address", service.place.caller)
    with phones.calls(dialled, address, number, *steps, **more) as phone:
        return phone.finish()


def answer_of(messages: list[Message], code: int) -> Message:
    return next(m for m in messages if m.received and m.start.startswith(f"SIP/2.0 {code}"))


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


def opened(service: Service, **fields: Any) -> tuple[Person, Person, Session]:
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    return customer, driver, service.open_session(customer, driver, **fields)


def told_off(
    phones: Phones, service: Service, caller: Person | str, dialled: str, code: int = 404, **more: Any
) -> None:
    """An announcement, then the code and its cause."""
    heard = told(phones, service, caller, dialled, invite(), trying(), hears(183), *refused(code), **more)
    assert service.place.edge in answer_of(heard, 183).body
    assert "Q.850" in answer_of(heard, code).header("Reason")


@long_story
def an_unknown_caller(service: Service, phones: Phones) -> None:
    _, _, session = opened(service)
    told_off(phones, service, service.person("third phone", service.place.caller), dials(session))


@long_story
def a_withheld_caller(service: Service, phones: Phones) -> None:
    _, _, session = opened(service)
    told_off(phones, service, "anonymous", dials(session))


@long_story
def a_number_outside_every_pool(service: Service, phones: Phones) -> None:
    stranger = service.person("third phone", service.place.caller)
    told(phones, service, stranger, "+842479999999", invite(), trying(), hears(183, optional=True), *refused(404))


@long_story
def the_caller_of_an_ended_session(service: Service, phones: Phones) -> None:
    customer, _, session = opened(service)
    service.post(f"/v1/sessions/{session['id']}:close")
    told_off(phones, service, customer, dials(session))
    refusal = service.ended_interaction(session["id"])
    assert (refusal["status"], refusal["decision"]) == ("refused", "ended")


@long_story
def the_callee_of_an_ended_session(service: Service, phones: Phones) -> None:
    _, driver, session = opened(service)
    service.post(f"/v1/sessions/{session['id']}:close")
    told_off(phones, service, driver, dials(session, 1), address=service.place.callee)


@long_story
def a_carrier_that_mutes_early_media_is_answered_told_and_hung_up_on(service: Service, phones: Phones) -> None:
    address = service.place.muting_carrier
    customer, driver = service.person("customer", address), service.person("driver", service.place.callee)
    session = service.open_session(customer, driver)
    service.post(f"/v1/sessions/{session['id']}:close")
    steps = [invite(), trying(), hears(200), ack(), is_asked("BYE", within=12000), accepts()]
    told(phones, service, customer, dials(session), *steps, address=address)
    refusal = service.ended_interaction(session["id"])
    assert (refusal["status"], refusal["answered_by"], refusal["billable"]) == ("refused", "platform", 0)


def emergency(number: str) -> Story:
    def tell(service: Service, phones: Phones) -> None:
        told_off(phones, service, service.person("customer", service.place.caller), number, 403)

        def alert() -> bool:
            refusals = [e["data"] for e in service.events() if e["type"] == "call.refused" and e["session"] is None]
            return any(one["reason"] == "emergency" and one["dialled"] == number for one in refusals)

        eventually(alert, 3, "the alert")

    return tell


LONG_STORIES |= {f"emergency number {number}": emergency(number) for number in ("112", "113", "115")}


@long_story
def an_answer_that_is_never_acknowledged_ends_in_bye_to_both(service: Service, phones: Phones) -> None:
    place = service.place
    service.post("/v1/services", {"unique_name": "late"}, 201)
    service.import_numbers(["+842471009901"], "vn-late", "late")
    customer, driver = service.person("customer", place.caller), service.person("driver", place.late_trunk)
    session = service.open_session(customer, driver, service="late")
    late_bye = [is_asked("BYE", within=45000), accepts()]
    with phones.waits_for_call(place.late_trunk, is_asked("INVITE"), *picks_up(), *late_bye) as callee:
        began = time.monotonic()
        with phones.calls(
            dials(session), place.caller, customer.number, invite(), trying(), hears(180), hears(200), *late_bye
        ) as caller:
            caller.finish(50), callee.finish(5)
    assert 30 < time.monotonic() - began < 40


# --- a live binding


def test_the_callee_rings_showing_the_masked_number_and_both_may_hang_up(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    x, y = dials(session), dials(session, 1)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        heard = told(phones, service, pair[0], x, invite(), hears(100), hears(180), hears(200), *HANGS_UP)
        rung = callee.finish()[0]
    assert rung.start.startswith(f"INVITE sip:{pair[1].number}@{service.place.callee}")
    assert f"sip:{y}@" in rung.header("From") and f"sip:{y}@" in rung.header("P-Asserted-Identity")
    assert answer_of(heard, 180).body == "", "ringing crosses as 180 without SDP"
    assert service.place.edge in answer_of(heard, 200).body and service.place.callee not in answer_of(heard, 200).body
    interaction = service.ended_interaction(session["id"])
    assert (interaction["status"], interaction["decision"]) == ("completed", "routed")
    assert (interaction["hangup_by"], interaction["answered_by"]) == ("caller", "callee")
    assert interaction["dialled"] == x and interaction["legs"][1]["sip_code"] == 200


def test_the_callee_hangs_up(service: Service, phones: Phones, pair: tuple[Person, Person]) -> None:
    session = service.open_session(*pair)
    ends = [is_invited_and_keeps_caller(), *picks_up(), waits(300), callee_bye(), hears(200)]
    with phones.waits_for_call(service.place.callee, *ends) as callee:
        told(phones, service, pair[0], dials(session), invite(), trying(), hears(180), hears(200), ack(), *IS_HUNG_UP)
        callee.finish()
    assert service.ended_interaction(session["id"])["hangup_by"] == "callee"


def test_the_callee_dials_back_the_number_it_saw_and_reaches_the_caller(service: Service, phones: Phones) -> None:
    place = service.place
    customer, driver = service.person("customer", place.callee), service.person("driver", place.caller)
    session = service.open_session(customer, driver)
    with phones.waits_for_call(place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        told(phones, service, driver, dials(session, 1), invite(), trying(), hears(180), hears(200), *HANGS_UP)
        assert callee.finish()[0].start.startswith(f"INVITE sip:{customer.number}@")


def test_a_number_dialled_the_national_way_over_tcp_reaches_the_callee(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    national, caller = "0" + dials(session).removeprefix("+84"), "0" + pair[0].number.removeprefix("+84")
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), *HANGS_UP]
        told(phones, service, caller, national, *steps, transport="t1")
        callee.finish()


def test_an_asserted_identity_under_privacy_id_still_names_the_caller_to_us_and_to_nobody_else(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    asserted = f"P-Asserted-Identity: <sip:{pair[0].number}@carrier.example>\nPrivacy: id\n"
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(extra=asserted), trying(), hears(180), hears(200), *HANGS_UP]
        told(phones, service, "anonymous", dials(session), *steps)
        assert f"sip:{dials(session, 1)}@" in callee.finish()[0].header("From")


# --- nobody bound


def test_an_invite_without_sdp_is_refused_at_once(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    stranger = service.person("third phone", service.place.caller)
    told(phones, service, stranger, dials(session), invite(""), trying(), hears(404, within=1000), refusal_ack())


def test_a_trunk_without_announcements_gets_the_code_at_once(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    address = service.place.silent_carrier
    stranger = service.person("third phone", address)
    steps = [invite(), trying(), hears(404, within=1000), refusal_ack()]
    told(phones, service, stranger, dials(session), *steps, address=address)


def test_the_callers_cancel_stops_an_announcement(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    stranger = service.person("third phone", service.place.caller)
    steps = [invite(), *REFUSED_WITH_ANNOUNCEMENT, waits(200), cancel(), hears(200), hears(487), refusal_ack()]
    told(phones, service, stranger, dials(session), *steps)


# --- the callee does not take the call


@pytest.mark.parametrize("line, code, status", [
    ("486 Busy Here", 486, "busy"), ("600 Busy Everywhere", 486, "busy"), ("603 Decline", 603, "declined"),
    ("404 Not Found", 404, "failed"), ("480 Temporarily Unavailable", 480, None),
    ("484 Address Incomplete", 484, "failed"), ("488 Not Acceptable Here", 488, "failed"), ("410 Gone", 480, None),
    ("302 Moved Temporarily", 480, None),
])  # fmt: skip
def test_the_callees_refusal_reaches_the_caller_as_the_contract_maps_it(
    service: Service, phones: Phones, pair: tuple[Person, Person], line: str, code: int, status: str | None
) -> None:
    session = service.open_session(*pair)
    moved = f"Contact: <sip:+842479999999@{service.place.stranger}>\n" if line.startswith("302") else ""
    with phones.waits_for_call(
        service.place.callee, is_asked("INVITE"), answers(line, extra=moved), is_asked("ACK")
    ) as callee:
        told(phones, service, pair[0], dials(session), invite(), trying(), hears(code), refusal_ack())
        callee.finish()
    interaction = service.ended_interaction(session["id"])
    assert status is None or interaction["status"] == status
    assert interaction["legs"][0]["sip_code"] == code and interaction["legs"][1]["sip_code"] == int(line[:3])
    (missed,) = [
        event["data"]
        for event in service.get(f"/v1/sessions/{session['id']}/events")["data"]
        if event["type"] == "call.missed"
    ]
    assert missed["participant"] == interaction["to"] and missed["call_back"]["number"] == dials(session, 1)


def test_the_second_phone_rings_when_the_first_is_busy(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    caller, driver = pair
    spare = service.person("driver's second phone", service.place.callee, service.place.second_trunk)
    people = [{"identifier": caller.number}, {"identifiers": [driver.number, spare.number], "ring": "sequential"}]
    session = service.open_session(participants=people)
    picks = [is_invited_and_keeps_caller(), *picks_up(), waits(300), callee_bye(), hears(200)]
    with (
        phones.waits_for_call(
            service.place.callee, is_asked("INVITE"), answers("486 Busy Here"), is_asked("ACK")
        ) as one,
        phones.waits_for_call(service.place.second_trunk, *picks) as other,
    ):
        told(phones, service, caller, dials(session), invite(), trying(), hears(180), hears(200), ack(), *IS_HUNG_UP)
        one.finish()
        taken = other.finish()[0]
    assert spare.number.strip("+") in taken.start and dials(session, 1).strip("+") in taken.header("From")
    assert driver.number[-8:] not in taken.text and caller.number[-8:] not in taken.text
    assert service.ended_interaction(session["id"])["status"] == "completed"


def test_nobody_answers_in_time_and_the_callee_is_cancelled(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair, ring_timeout=5)
    rings = [is_asked("INVITE"), answers("180 Ringing"), *is_cancelled()]
    with phones.waits_for_call(service.place.callee, *rings):
        told(phones, service, pair[0], dials(session), invite(), trying(), hears(180), hears(480), refusal_ack())
    assert service.ended_interaction(session["id"])["status"] == "no_answer"


def test_the_caller_gives_up_and_the_callee_is_cancelled(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    rings = [is_asked("INVITE"), answers("180 Ringing"), *is_cancelled()]
    with phones.waits_for_call(service.place.callee, *rings) as callee:
        steps = [invite(), trying(), hears(180), waits(200), cancel(), hears(200), hears(487), refusal_ack()]
        told(phones, service, pair[0], dials(session), *steps)
        assert callee.received("CANCEL")
    assert service.ended_interaction(session["id"])["status"] == "canceled"


# --- another trunk


@pytest.mark.parametrize(
    "first", ["503 Service Unavailable", "408 Request Timeout", "500 Error", "502 Bad", "504 Late"]
)
def test_another_trunk_of_the_carrier_is_tried_where_the_first_cannot(
    service: Service, phones: Phones, pair: tuple[Person, Person], first: str
) -> None:
    session, place = service.open_session(*pair), service.place
    cannot = [is_asked("INVITE"), answers(first), is_asked("ACK")]
    with phones.waits_for_call(place.callee, *cannot) as broken, phones.waits_for_call(
        place.second_trunk, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP
    ) as callee:  # fmt: skip
        told(phones, service, pair[0], dials(session), invite(), trying(), hears(180), hears(200), *HANGS_UP)
        broken.finish(), callee.finish()
    assert service.ended_interaction(session["id"])["status"] == "completed"


def test_a_trunk_that_is_silent_for_two_seconds_is_passed_over(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session, place = service.open_session(*pair), service.place
    with phones.waits_for_call(place.callee, is_asked("INVITE"), waits(8000)), phones.waits_for_call(
        place.second_trunk, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP
    ) as callee:  # fmt: skip
        steps = [invite(), trying(), hears(180, within=3000), hears(200), *HANGS_UP]
        told(phones, service, pair[0], dials(session), *steps)
        callee.finish()


def test_a_callee_who_rang_is_never_rung_by_another_trunk(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session, place = service.open_session(*pair), service.place
    rings = [
        is_asked("INVITE"),
        answers("180 Ringing"),
        waits(100),
        answers("503 Service Unavailable"),
        is_asked("ACK"),
    ]
    with phones.waits_for_call(place.callee, *rings) as first, phones.waits_for_call(
        place.second_trunk, is_asked("INVITE"), *picks_up()
    ) as second:  # fmt: skip
        told(phones, service, pair[0], dials(session), invite(), trying(), hears(180), hears(480), refusal_ack())
        first.finish()
        assert second.messages() == []


def test_every_trunk_refuses_and_the_caller_gets_480(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session, place = service.open_session(*pair), service.place
    cannot = [is_asked("INVITE"), answers("503 Service Unavailable"), is_asked("ACK")]
    with phones.waits_for_call(place.callee, *cannot), phones.waits_for_call(place.second_trunk, *cannot):
        told(phones, service, pair[0], dials(session), invite(), trying(), hears(480), refusal_ack())


# --- limits and modes


def test_a_second_call_of_a_session_meets_busy(service: Service, phones: Phones, pair: tuple[Person, Person]) -> None:
    session = service.open_session(*pair)
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        first = [invite(), trying(), hears(180), hears(200), ack(), waits(1500), bye(), hears(200)]
        with phones.calls(dials(session), service.place.caller, pair[0].number, *first) as caller:
            eventually(lambda: caller.received("SIP/2.0 200"), 5, "the first call")
            told(phones, service, pair[0], dials(session), invite(), trying(), hears(486), refusal_ack())
            caller.finish(), callee.finish()


def test_a_trunk_with_all_its_calls_up_gets_480_with_a_cause_and_never_503(service: Service, phones: Phones) -> None:
    place = service.place
    address = place.small_carrier
    customer, other = service.person("customer", address), service.person("other customer", address)
    driver = service.person("driver", place.callee)
    first, second = service.open_session(customer, driver), service.open_session(other, driver)
    with phones.waits_for_call(place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), ack(), waits(1500), bye(), hears(200)]
        with phones.calls(dials(first), address, customer.number, *steps) as caller:
            eventually(lambda: caller.received("SIP/2.0 200"), 5, "the first call")
            steps = [invite(), trying(), hears(480), refusal_ack()]
            heard = told(phones, service, other, dials(second), *steps, address=address)
            caller.finish(), callee.finish()
    cause = answer_of(heard, 480).header("Reason")
    assert "Q.850" in cause and ("cause=34" in cause or "cause=42" in cause)


# --- requests that are not calls


def asks(method: str, *, extra: str = "", to: str = "") -> str:
    return sent(request(method, "1", uri="sip:[service]@[remote_ip]:[remote_port]", to=to, extra=extra))


@pytest.mark.parametrize("step, code", [
    (asks("OPTIONS"), 200), (asks("MESSAGE", extra="Content-Type: text/plain\n"), 405), (asks("REGISTER"), 405),
    (asks("SUBSCRIBE", extra="Event: dialog\n"), 405), (asks("REFER", extra="Refer-To: <sip:+842479999999@x>\n"), 405),
    (asks("BYE", to=";tag=gone"), 481), (asks("INFO", to=";tag=gone"), 481),
])  # fmt: skip
def test_a_request_that_is_no_call_gets_its_answer(service: Service, phones: Phones, step: str, code: int) -> None:
    caller = service.person("customer", service.place.caller)
    told(phones, service, caller, "+842471000000", step, hears(code))


@pytest.mark.parametrize("extra, code, says", [
    ("Require: teleportation\n", 420, ("Unsupported", "teleportation")), ("Max-Forwards: 0\n", 483, None),
    ("Session-Expires: 60\nSupported: timer\n", 422, ("Min-SE", "90")),
])  # fmt: skip
def test_an_invite_that_asks_too_much_is_refused(
    service: Service, phones: Phones, pair: tuple[Person, Person], extra: str, code: int, says: tuple[str, str] | None
) -> None:
    session = service.open_session(*pair)
    steps = [invite(extra=extra), trying(), hears(code, within=1000), refusal_ack()]
    heard = told(phones, service, pair[0], dials(session), *steps)
    if says:
        assert answer_of(heard, code).header(says[0]) == says[1]


def test_a_transfer_is_refused_and_the_call_goes_on(
    service: Service, phones: Phones, pair: tuple[Person, Person]
) -> None:
    session = service.open_session(*pair)
    refer = sent(request("REFER", "2", extra="Refer-To: <sip:+842479999999@x>\n"))
    with phones.waits_for_call(service.place.callee, is_asked("INVITE"), *picks_up(), *IS_HUNG_UP) as callee:
        steps = [invite(), trying(), hears(180), hears(200), ack(), refer, hears(405), waits(200), bye("3"), hears(200)]
        told(phones, service, pair[0], dials(session), *steps)
        callee.finish()


# --- and how the long stories ended


@pytest.mark.parametrize("story", LONG_STORIES)
def test_a_long_story_ends_as_it_should(long_stories: dict[str, Future[None]], story: str) -> None:
    long_stories[story].result(50)
