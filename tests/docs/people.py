"""What people do while a page is read: the HTML comments of docs/, by their words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from masking_client.answers import Proxy, Session
from pytest_masking.service import Service
from sipedge.softphone.calls import CallFailed
from sipedge.softphone.carrier import NobodyRang, Talk
from tests.system.service import eventually

CUSTOMER, DRIVER = "+84901234567", "+84907654321"
PHONES = {
    "customer": CUSTOMER,
    "driver": DRIVER,
    "restaurant": "+84912345678",
    "courier": DRIVER,
    "new courier": "+84987654321",
    "tourist": "+66812345678",
}
STRANGE = "+84905550001"
TONE = 440


def latest(service: Service) -> Session:
    """The session that was opened last."""
    return next(session for session in service.client.list_sessions(limit=1))


def way(service: Service, caller: str, callee: str) -> Proxy:
    """What one role dials to reach another."""
    session = service.client.get_session(latest(service).id)
    people = {one.role: one for one in session.participants}
    return next(proxy for proxy in people[caller].proxies if proxy.to == people[callee].id)


def hold_a_talk(service: Service, call: Talk, ringing: Talk) -> None:
    """Until the service has written it down."""
    call.answered()
    call.say(TONE)
    assert ringing.hears(TONE)
    call.hang_up()
    ringing.over()
    session = latest(service).id
    eventually(lambda: all(one.ended_at for one in service.client.list_interactions(session)), 10.0, "the call's end")


def calls(caller: str, callee: str, phone: str = "") -> Callable[[Service], None]:
    """They reach each other; `phone`: the callee's, where it is not the one of the role."""

    def play(service: Service) -> None:
        number = way(service, caller, callee).number
        call = service.phone(PHONES[caller]).call(number)
        hold_a_talk(service, call, service.phone(phone or PHONES[callee]).answer())

    return play


def may_not_call(caller: str, callee: str) -> Callable[[Service], None]:
    def play(service: Service) -> None:
        call = service.phone(PHONES[caller]).call(way(service, caller, callee).number)
        with pytest.raises(CallFailed):
            call.answered()
        with pytest.raises(NobodyRang):
            service.phone(PHONES[callee]).ringing(timeout=0.2)

    return play


def keys_the_pin(service: Service) -> None:
    proxy = way(service, "customer", "driver")
    call = service.phone(STRANGE).call(proxy.number).answered()
    call.press(f"{proxy.pin}#")
    hold_a_talk(service, call, service.phone(DRIVER).answer())


def needs_no_pin(service: Service) -> None:
    call = service.phone(STRANGE).call(way(service, "customer", "driver").number)
    hold_a_talk(service, call, service.phone(DRIVER).answer())


def order_1042(service: Service) -> None:
    """An order whose call was recorded, some time ago: both readings are of the same."""
    if any(service.client.list_recordings(unique_name="order-1042")):
        return
    session = service.client.open_session(
        unique_name="order-1042",
        record="always",
        participants=[{"identifier": CUSTOMER, "role": "customer"}, {"identifier": DRIVER, "role": "driver"}],
    )
    calls("customer", "driver")(service)
    service.client.close_session(session.id)
    service.webhooks.wait("recording.available", session=session.id)


def opens_a_session(service: Service) -> None:
    service.client.open_session(participants=[{"identifier": CUSTOMER}, {"identifier": DRIVER}])


def in_turn(*plays: Callable[[Service], None]) -> Callable[[Service], None]:
    def play(service: Service) -> None:
        for one in plays:
            one(service)

    return play


PLAYS: dict[str, Callable[[Service], None]] = {
    "order-1042 was recorded": order_1042,
    "somebody opens a session": opens_a_session,
    "a strange phone keys the customer's PIN and reaches the driver": keys_the_pin,
    "a strange phone reaches the driver without a PIN": needs_no_pin,
    "the driver calls the tourist": calls("driver", "tourist"),
    "the customer calls the courier, the courier the restaurant; the customer may not call the restaurant": in_turn(
        calls("customer", "courier"), calls("courier", "restaurant"), may_not_call("customer", "restaurant")
    ),
    "the customer calls the new courier": calls("customer", "courier", PHONES["new courier"]),
}
