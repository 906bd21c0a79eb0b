"""Real phones: what one says the other hears and the recording keeps on its channel; who dials what reaches whom."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.system.baresip import RATE, Baresip, channels, power, share_of
from tests.system.service import Service

pytestmark = [pytest.mark.service, pytest.mark.peer]

TALK = 9.0  # seconds after the answer: a notice of at most 4 s, then tones
ONE_SECOND = slice(-2 * RATE, -RATE)  # the last but one second of a call, well behind the notice


def test_two_phones_talk_through_masked_numbers_and_the_recording_keeps_them_apart(
    service: Service, tmp_path: Path
) -> None:
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    session = service.open_session(customer, driver, record="always")
    x, y = (participant["proxies"][0]["number"] for participant in session["participants"])

    with Baresip(tmp_path, driver.number, place.callee, 5080, hertz=880) as callee:
        callee.is_ready()
        with Baresip(tmp_path, customer.number, place.caller, 5070, hertz=440, dial=f"sip:{x}@{place.edge}") as caller:
            caller.says("Call established")
            time.sleep(TALK)
        assert callee.saw_caller() == y
        callee.says("terminated|closed", 3)
    recording = service.recording(session["id"])

    assert share_of(caller.heard()[ONE_SECOND], 880) > 0.9 and share_of(callee.heard()[ONE_SECOND], 440) > 0.9
    interaction = service.ended_interaction(session["id"])
    assert abs(recording["duration"] - interaction["billable"]) <= 0.02
    assert recording["status"] == "available" and recording["gaps"] == []
    left, right = channels(service.media(recording["id"]))
    assert share_of(left[ONE_SECOND], 440) > 0.9 and share_of(right[ONE_SECOND], 880) > 0.9
    assert abs(len(left) / RATE - recording["duration"]) <= 0.02
    notice_end = max(notice["to"] for notice in recording["notices"])
    assert {notice["leg"] for notice in recording["notices"]} == {1, 2} and 0.5 < notice_end <= 4.5
    told = slice(0, round((notice_end - 0.05) * RATE))
    assert power(left[told]) == power(right[told]) == 0, "nobody is recorded before being told"
    assert power(caller.heard()[: 2 * RATE]) > 1000 and power(callee.heard()[: 2 * RATE]) > 1000, "the notice"

    # The callee dials back the number it saw and reaches the caller's phone.
    with Baresip(tmp_path, customer.number, place.callee, 5080, hertz=440) as called_back:
        called_back.is_ready()
        with Baresip(tmp_path, driver.number, place.caller, 5070, hertz=880, dial=f"sip:{y}@{place.edge}") as again:
            again.says("Call established")
        assert called_back.saw_caller() == x
    service.legs[customer.name].add(place.callee)
    service.legs[driver.name].add(place.caller)

    # A third phone dialling either number is told off; after the close both are told that the trip has ended.
    third = service.person("third phone", place.caller)
    for dialled in (x, y):
        assert_told_off(tmp_path, third.number, place.caller, dialled, place.edge)
    service.post(f"/v1/sessions/{session['id']}:close")
    assert_told_off(tmp_path, customer.number, place.caller, x, place.edge)
    assert_told_off(tmp_path, driver.number, place.caller, y, place.edge)


def assert_told_off(folder: Path, number: str, address: str, dialled: str, edge: str) -> None:
    """An announcement is heard, then 404."""
    with Baresip(folder, number, address, 5070, hertz=440, dial=f"sip:{dialled}@{edge}") as phone:
        phone.says("404 Not Found|session closed: 404", 14)
    assert len(phone.heard()) > RATE and power(phone.heard()) > 1000
