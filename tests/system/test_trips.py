"""A session's life as phones of another make meet it: people and numbers change, it ends, rests and goes on."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.system.service import Person, Service
from tests.system.sipp import (
    Phones,
    accepts,
    ack,
    bye,
    hears,
    invite,
    is_asked,
    picks_up,
    refusal_ack,
    trying,
    waits,
)

pytestmark = [pytest.mark.service, pytest.mark.peer, pytest.mark.timeout(150)]

Session = dict[str, Any]


class Town:
    """The service, and phones that call each other through it."""

    def __init__(self, service: Service, phones: Phones) -> None:
        self.service = service
        self.phones = phones

    def person(self, name: str) -> Person:
        """Somebody who calls from the caller's address, or from a carrier that plays no announcements, and is called
        behind the main trunk."""
        place = self.service.place
        return self.service.person(name, place.caller, place.callee, place.silent_carrier)

    def reaches(self, caller: Person, dialled: str, callee: Person, sees: str = "") -> None:
        """The callee's phone rings, sees `sees` (else what was dialled), and they talk for a moment."""
        place = self.service.place
        answers = [is_asked("INVITE"), *picks_up(), is_asked("BYE"), accepts()]
        with self.phones.waits_for_call(place.callee, *answers) as phone:
            steps = [invite(), trying(), hears(180), hears(200), ack(), waits(50), bye(), hears(200)]
            with self.phones.calls(dialled, place.caller, caller.number, *steps) as mine:
                mine.finish()
            rung = phone.finish()[0]
        assert rung.start.startswith(f"INVITE sip:{callee.number}@"), "somebody else's phone rang"
        assert f"sip:{sees or dialled}@" in rung.header("From") and caller.number not in str(rung)

    def refused(self, caller: Person, dialled: str, code: int) -> None:
        steps = [invite(), trying(), hears(code), refusal_ack()]
        with self.phones.calls(dialled, self.service.place.silent_carrier, caller.number, *steps) as phone:
            phone.finish()

    def does(self, session: Session, verb: str, body: Any = None) -> Session:
        found: Session = self.service.post(f"/v1/sessions/{session['id']}:{verb}", body)
        return found


@pytest.fixture
def town(service: Service, phones: Phones) -> Town:
    return Town(service, phones)


def number(session: Session, of: int = 0) -> str:
    """The number participant `of` dials to reach the first other one."""
    return str(session["participants"][of]["proxies"][0]["number"])


def test_people_and_numbers_change_while_the_trip_lasts(town: Town) -> None:
    customer, first, second = map(town.person, ("customer", "first driver", "second driver"))
    session = town.service.open_session(customer, first)
    x = number(session)
    town.reaches(customer, x, first)

    swap = {"participant": session["participants"][1]["id"], "replacement": {"identifier": second.number}}
    assert number(town.does(session, "swap_participant", swap)) == x
    town.reaches(customer, x, second)
    town.reaches(second, x, customer)
    town.refused(first, x, 404)

    y = number(town.does(session, "replace_number", {"number": x, "overlap": 2}))
    gone = time.monotonic() + 2
    town.reaches(customer, x, second, sees=y)
    town.reaches(second, y, customer)
    time.sleep(max(0.0, gone - time.monotonic()) + 0.1)
    town.refused(customer, x, 404)


def test_a_trip_ends_rests_goes_on_and_is_blocked(town: Town) -> None:
    customer, driver, support = map(town.person, ("customer", "driver", "support"))
    session = town.service.open_session(customer, driver)
    x, path = number(session), f"/v1/sessions/{session['id']}"
    town.does(session, "close")
    town.refused(customer, x, 404)
    town.does(session, "reopen")
    town.reaches(driver, x, customer)

    who = {"session": session["id"], "participant": session["participants"][1]["id"]}
    to = {"session": session["id"], "participant": session["participants"][0]["id"]}
    block = {"scope": "pair", "who": who, "to": to, "direction": "outbound", "reason": "calls at night"}
    block = town.service.post("/v1/blocks", block, 201)
    time.sleep(1.1)  # the contract's second, in which an edge learns that there are blocks
    town.refused(driver, x, 403)
    town.service.call("DELETE", f"/v1/blocks/{block['id']}")
    town.reaches(driver, x, customer)

    late_call = {"policy": "forward", "forward_to": support.number}
    assert town.service.call("PATCH", path, {"late_call": late_call}).status_code == 200
    town.does(session, "close")
    town.reaches(customer, x, support)
    told = town.service.ended_interaction(session["id"])
    assert (told["decision"], told["forwarded"], told["to"], told["status"]) == ("ended", True, None, "completed")


def test_who_may_call_changes_by_itself_and_any_phone_of_a_person_counts(town: Town) -> None:
    customer, other, driver = map(town.person, ("customer", "customer's other phone", "driver"))
    begins = datetime.now(UTC) + timedelta(seconds=3)
    people = [
        {"identifiers": [customer.number, other.number], "role": "customer"},
        {"identifier": driver.number, "role": "driver"},
    ]
    stages = [{"name": "offer", "until": begins.isoformat(), "direction": "driver->customer"}, {"name": "active"}]
    body = {"participants": people, "stages": stages, "record": "never", "late_call": {"policy": "reopen"}}
    session = town.service.post("/v1/sessions", body, 201)
    x = number(session)
    town.refused(other, x, 403)
    town.reaches(driver, x, customer)
    time.sleep(max(0.0, (begins - datetime.now(UTC)).total_seconds()) + 0.1)
    town.reaches(other, x, driver)
    assert town.service.get(f"/v1/sessions/{session['id']}")["stage"] == "active"

    town.does(session, "close")
    town.reaches(customer, x, driver)
    assert town.service.get(f"/v1/sessions/{session['id']}")["status"] == "in_progress", "the call has opened it again"


def test_anybody_reaches_the_one_party_of_a_session_who_calls_back(town: Town) -> None:
    town.service.post("/v1/services", {"unique_name": "listings", "number_model": "one_party", "record": "never"}, 201)
    town.service.import_numbers(["+842471008601"], "vn-main", "listings")
    seller, buyer, other = map(town.person, ("seller", "buyer", "other buyer"))
    session = town.service.open_session(seller, service="listings")
    x = number(session)
    town.refused(seller, x, 403)
    for caller in (buyer, other):
        town.reaches(caller, x, seller)
        town.reaches(seller, x, caller)
    town.does(session, "close")
    town.refused(buyer, x, 404)
