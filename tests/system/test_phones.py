"""Real phones: what one says the other hears and the recording keeps on its channel; who dials what reaches whom."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.baresip import RATE, Baresip, channels, host_address, power, share_of
from tests.system.service import Person, Service, eventually, running

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]

TALK = 9.0  # seconds after the answer: a notice of at most 4 s, then tones
ONE_SECOND = slice(-2 * RATE, -RATE)  # the last but one second of a call, well behind the notice


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """One that stands on the machine's own address, where baresip's media comes from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host_address(), 0))
        listen = f"{host_address()}:{probe.getsockname()[1]}"
    with running(tmp_path / "service", host_address(), settings={"sip": {"listen": [f"udp:{listen}"]}}) as service:
        yield service
        assert service.leaks() == []
        assert "Traceback" not in service.log()


@contextmanager
def phone(
    service: Service,
    folder: Path,
    person: Person,
    address: str,
    *,
    hertz: int,
    dials: str = "",
    number: int = 0,
    keys: bool = False,
) -> Iterator[Baresip]:
    """A person's phone: one that dials X, or one that waits to be called. `number` keeps callers of a time apart;
    `keys`: it can be told to press some."""
    port = 5070 + 2 * number if dials else 5080  # baresip takes the next port too
    target = f"sip:{dials}@{service.ready['sip'][0].removeprefix('udp:')}" if dials else ""
    with Baresip(folder, person.number, address, port, hertz=hertz, dial=target, keys=keys) as baresip:
        service.legs[person.name] |= {address, *baresip.media}
        yield baresip if dials else baresip.is_ready()


def test_two_phones_talk_through_masked_numbers_and_the_recording_keeps_them_apart(
    service: Service, tmp_path: Path
) -> None:
    place = service.place
    customer, driver = service.person("customer", place.caller), service.person("driver", place.callee)
    session = service.open_session(customer, driver, record="always")
    x, y = (participant["proxies"][0]["number"] for participant in session["participants"])

    with phone(service, tmp_path, driver, place.callee, hertz=880) as callee:
        with phone(service, tmp_path, customer, place.caller, hertz=440, dials=x) as caller:
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
    with phone(service, tmp_path, customer, place.callee, hertz=440) as called_back:
        with phone(service, tmp_path, driver, place.caller, hertz=880, dials=y, keys=True) as again:
            again.says("Call established")
            eventually(lambda: data_of(service, session["id"], "call.bridged")[1:], 6, "the second call's bridge")
            again.presses("*7")
            (report,) = eventually(lambda: data_of(service, session["id"], "abuse.reported"), 4, "the report by key")
        assert called_back.saw_caller() == x
    people = [one["id"] for one in session["participants"]]
    assert (report["via"], report["reported_by"], report["about"]) == ("keypad", people[1], people[0])
    assert [one["id"] for one in service.get("/v1/blocks")["data"]] == [report["block"]]
    held = eventually(lambda: kept(service, *report["recordings"]), 10, "the recording, held")
    assert held["hold"]["reason"] == "reported by key during the call" and held["status"] == "available"

    # A third phone dialling either number is told off; after the close both are told that the trip has ended.
    third = service.person("third phone", place.caller)
    with ThreadPoolExecutor(4) as side_by_side:
        calls = [
            side_by_side.submit(is_told_off, service, tmp_path, third, dialled, n) for n, dialled in enumerate((x, y))
        ]
        for one in calls:
            one.result()
        service.post(f"/v1/sessions/{session['id']}:close")
        both = ((customer, x), (driver, y))
        calls = [side_by_side.submit(is_told_off, service, tmp_path, *who, 2 + n) for n, who in enumerate(both)]
        for one in calls:
            one.result()


def data_of(service: Service, session: str, kind: str) -> list[dict[str, Any]]:
    """The data of a session's events of that type."""
    return [one["data"] for one in service.get(f"/v1/sessions/{session}/events")["data"] if one["type"] == kind]


def kept(service: Service, recording: str) -> dict[str, Any] | None:
    """A recording once it can be played."""
    found = dict(service.get(f"/v1/recordings/{recording}"))
    return found if found["status"] == "available" else None


def is_told_off(service: Service, folder: Path, person: Person, dialled: str, number: int) -> None:
    """An announcement is heard, then 404."""
    with phone(service, folder, person, service.place.caller, hertz=440, dials=dialled, number=number) as caller:
        caller.says("404 Not Found|session closed: 404", 14)
    assert len(caller.heard()) > RATE and power(caller.heard()) > 1000
