"""Calls that the app asks for, told by SIPp on the running service."""

from __future__ import annotations

import pytest

from tests.system.service import Service
from tests.system.sipp import (
    Message,
    Phones,
    accepts,
    callee_bye,
    hears,
    is_asked,
    is_invited_and_keeps_caller,
    picks_up,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(90)]


def invited(messages: list[Message]) -> Message:
    return next(message for message in messages if message.start.startswith("INVITE"))


def test_two_phones_are_rung_across_a_border_and_the_call_is_recorded_with_notice(
    service: Service, phones: Phones
) -> None:
    place = service.place
    service.post("/v1/services", {"unique_name": "app-calls"}, 201)
    service.import_numbers(["+842471007701"], "vn-main", "app-calls")
    service.import_numbers(["+74951007701"], "ru", "app-calls")
    customer, driver = (
        service.person("customer", place.callee),
        service.person("driver", place.moscow, country="RU"),
    )
    session = service.open_session(customer, driver, service="app-calls", record="always")
    people = [one["id"] for one in session["participants"]]
    dials = [one["proxies"][0]["number"] for one in session["participants"]]

    first_story = [is_asked("INVITE"), *picks_up(), is_asked("BYE", within=20_000), accepts()]
    second_story = [is_invited_and_keeps_caller(), *picks_up(), waits(4500), callee_bye(), hears(200)]
    with (
        phones.waits_for_call(place.callee, *first_story) as first,
        phones.waits_for_call(place.moscow, *second_story) as second,
    ):
        asked = service.post(f"/v1/sessions/{session['id']}:call", {"from": people[0], "to": people[1]}, 202)
        heard_first, heard_second = first.finish(), second.finish()

    assert (asked["direction"], asked["status"], asked["dialled"]) == ("outbound", "ringing", dials[0])
    one, other = invited(heard_first), invited(heard_second)
    assert customer.number.strip("+") in one.start and dials[0].strip("+") in one.header("From")
    assert driver.number.strip("+") in other.start and dials[1].strip("+") in other.header("From")
    assert customer.number[-8:] not in other.text and driver.number[-8:] not in one.text
    interaction = service.ended_interaction(session["id"])
    assert (interaction["id"], interaction["status"], interaction["hangup_by"]) == (asked["id"], "completed", "callee")
    assert [leg["trunk"] for leg in interaction["legs"]] == ["vn-main", "ru"]
    assert interaction["billable"] > interaction["conversation"] + 3  # "connecting" is a sentence of three seconds
    recording = service.recording(session["id"])
    assert recording["status"] == "available" and {notice["leg"] for notice in recording["notices"]} == {1, 2}
    assert recording["duration"] < interaction["billable"]
