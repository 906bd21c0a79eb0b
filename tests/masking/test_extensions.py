"""One number for many: who is reached is said by an extension."""

from __future__ import annotations

from typing import Any

import pytest

from masking import extensions, intents, routes, services, sessions
from masking.pins import Pin
from masking.refusals import Invalid, NumberPoolExhausted
from masking.routes import Challenge, Claimed, Refusal, Route
from masking.services import ServiceChange
from masking.sessions import Session
from tests.masking.test_sessions import refusal
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, STRANGER, World, numbers_of, proxy


def extension(session: Session, source: int, target: int) -> str:
    to = session.participants[target].id
    return next(one.extension or "" for one in session.participants[source].proxies if one.to == to)


@pytest.fixture(autouse=True)
async def asks(world: World) -> None:
    await services.change(world.house, "acme", "default", ServiceChange(number_model="extension"))


async def keys(world: World, number: str, caller: str | None, digits: str, **more: Any) -> Claimed | None:
    asked = await world.dial(number, caller, **more)
    assert isinstance(asked, Challenge) and asked.extension and not asked.suffices(digits)
    return await routes.keyed(world.house, asked, digits)


async def test_a_session_has_one_number_and_an_extension_for_each_person(world: World) -> None:
    await world.pool(5)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT, max_concurrent_calls=9)
    assert len(numbers_of(session)) == 1
    for source, caller in enumerate((CUSTOMER, DRIVER, MERCHANT)):
        for target in {0, 1, 2} - {source}:
            route = await keys(world, proxy(session, source, target), caller, extension(session, source, target))
            assert isinstance(route, Route) and route.decision == "routed"
            assert route.from_participant == session.participants[source].id
            assert route.to_participant == session.participants[target].id
            assert route.shows == numbers_of(session)[0]
    assert len({extension(session, 0, 1), extension(session, 0, 2), extension(session, 1, 0)}) == 3
    assert extension(session, 0, 2) == extension(session, 1, 2)


async def test_the_same_people_share_a_number_between_sessions(world: World) -> None:
    await world.pool(1)
    found = [await world.open() for _ in range(5)]
    assert len({number for session in found for number in numbers_of(session)}) == 1
    for session in found:
        route = await keys(world, proxy(session, 0, 1), CUSTOMER, extension(session, 0, 1))
        assert isinstance(route, Route) and route.session == session.id


async def test_each_dials_a_number_of_its_own_country(world: World) -> None:
    await world.pool(2)
    await world.pool(2, "RU")
    session = await world.open(CUSTOMER, MUSCOVITE)
    assert proxy(session, 0, 1).startswith("+84") and proxy(session, 1, 0).startswith("+7")
    route = await keys(world, proxy(session, 1, 0), MUSCOVITE, extension(session, 1, 0))
    assert isinstance(route, Route) and route.shows == proxy(session, 0, 1)


@pytest.mark.parametrize("caller", [STRANGER, None])
async def test_an_extension_opens_nothing_for_another_phone(world: World, caller: str | None) -> None:
    await world.pool(1)
    session = await world.open()
    number = proxy(session, 0, 1)
    for digits in (extension(session, 0, 1), extension(session, 1, 0), "0", "123456"):
        assert await keys(world, number, caller, digits) is None
    asked = await world.dial(number, caller)
    assert isinstance(asked, Challenge) and await routes.may_key(world.house, asked)
    refused = await routes.give_up(world.house, asked)
    assert (refused.decision, refused.session) == ("no_binding", None)


async def test_an_ended_sessions_extension_says_that_it_has_ended(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    await sessions.close(world.house, world.access, session.id)
    refused = await keys(world, proxy(session, 0, 1), CUSTOMER, extension(session, 0, 1))
    assert isinstance(refused, Refusal) and (refused.decision, refused.session) == ("ended", session.id)


async def test_a_pin_may_be_wanted_after_the_extension(world: World) -> None:
    await world.pool(1)
    session = await world.open(pin=Pin(policy="always"))
    pin = session.participants[0].proxies[0].pin or ""
    asked = await keys(world, proxy(session, 0, 1), CUSTOMER, extension(session, 0, 1))
    assert isinstance(asked, Challenge) and not asked.extension
    route = await routes.keyed(world.house, asked, pin[:4])
    assert isinstance(route, Route) and (route.session, route.decision) == (session.id, "pin")


async def test_another_phone_may_key_its_pin_where_the_service_lets_it(world: World) -> None:
    await services.change(world.house, "acme", "default", ServiceChange(out_of_session="pin"))
    await world.pool(1)
    session = await world.open(pin=Pin(policy="unknown_caller"))
    route = await keys(world, proxy(session, 0, 1), STRANGER, session.participants[0].proxies[0].pin or "")
    assert isinstance(route, Route) and route.decision == "pin"


async def test_an_intent_says_whom_too(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT)
    customer, _, merchant = (person.id for person in session.participants)
    await intents.announce(world.house, world.access, session.id, customer, merchant)
    route = await world.dial(proxy(session, 0, 2), None)
    assert isinstance(route, Route) and (route.from_participant, route.to_participant) == (customer, merchant)


async def test_extensions_get_longer_when_those_drawn_are_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pool(1)
    monkeypatch.setattr(extensions, "SHORTEST", 1)
    found = [await world.open() for _ in range(30)]
    lengths = [len(extension(session, 0, 1)) for session in found]
    assert min(lengths) == 1 and max(lengths) > 1
    monkeypatch.setattr(extensions, "LONGEST", 1)
    with pytest.raises(NumberPoolExhausted):
        for _ in range(200):
            await world.open()


async def test_only_a_service_of_extensions_has_sessions_of_them(world: World) -> None:
    await services.change(world.house, "acme", "default", ServiceChange(number_model="auto"))
    await world.pool(1)
    refused = await refusal(world, number_model="extension")
    assert isinstance(refused, Invalid) and refused.errors[0].field == "number_model"
