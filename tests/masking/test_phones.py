"""One person with several phones: any may call, the first rings."""

from __future__ import annotations

import pytest

from masking import amending, intents, opening
from masking.pins import Pin
from masking.refusals import Invalid, InvalidPhoneNumber, ParticipantConflict
from masking.routes import Refusal, Route
from masking.sessions import NewParticipant, NewSession, Session
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, STRANGER, World, proxy

OFFICE = "+84905550001"


async def opened(world: World, *phones: str, **wishes: object) -> Session:
    people = [NewParticipant(identifiers=list(phones), role="customer"), NewParticipant(identifier=DRIVER)]
    new = NewSession(participants=people, **wishes)  # type: ignore[arg-type]
    return (await opening.open_session(world.house, world.access, new))[0]


async def test_a_person_calls_from_any_phone_and_the_first_rings(world: World) -> None:
    await world.pool(1)
    session = await opened(world, CUSTOMER, OFFICE)
    x = proxy(session, 0, 1)
    assert session.participants[0].display == "+8490…67"
    for phone in (CUSTOMER, OFFICE):
        route = await world.call(x, phone)
        assert isinstance(route, Route) and route.callee.reveal() == DRIVER
        assert route.from_participant == session.participants[0].id
        await world.house.leases.append(session.id, [], end_call=route.interaction)
    back = await world.call(x, DRIVER)
    assert isinstance(back, Route) and back.callee.reveal() == CUSTOMER


async def test_no_phone_of_a_session_meets_another_on_the_same_number(world: World) -> None:
    await world.pool(2)
    first = await opened(world, CUSTOMER, OFFICE)
    second = await world.open(MERCHANT, OFFICE)
    assert proxy(first, 0, 1) != proxy(second, 0, 1)


async def test_a_phone_that_stands_twice_is_refused(world: World) -> None:
    await world.pool(1)
    for phones in ((CUSTOMER, CUSTOMER), (CUSTOMER, DRIVER)):
        with pytest.raises(ParticipantConflict):
            await opened(world, *phones)


async def test_every_phone_is_looked_at(world: World) -> None:
    (x,) = await world.pool(1)
    for phone in ("113", x):
        with pytest.raises(InvalidPhoneNumber):
            await opened(world, CUSTOMER, phone)
    for phones in ((), ("+84901234567", "+84901234568", "+84901234569", "+84901234560", "+84901234561", OFFICE)):
        with pytest.raises(Invalid):
            await opened(world, *phones)


async def test_one_of_identifier_and_identifiers(world: World) -> None:
    await world.pool(1)
    both = NewParticipant(identifier=CUSTOMER, identifiers=[OFFICE])
    with pytest.raises(Invalid):
        await opening.open_session(
            world.house, world.access, NewSession(participants=[both, NewParticipant(identifier=DRIVER)])
        )


async def test_the_same_people_with_the_same_phones_find_their_session_again(world: World) -> None:
    await world.pool(2)
    session = await opened(world, CUSTOMER, OFFICE, unique_name="order-1")
    assert (await opened(world, CUSTOMER, OFFICE, unique_name="order-1")).id == session.id


async def test_an_intent_stands_for_whichever_phone_calls(world: World) -> None:
    await world.pool(1)
    session = await opened(world, CUSTOMER, OFFICE, pin=Pin(policy="always"))
    await intents.announce(world.house, world.access, session.id, session.participants[0].id)
    assert isinstance(await world.dial(proxy(session, 0, 1), OFFICE), Route)


async def test_whoever_replaces_a_person_of_two_phones_ends_both(world: World) -> None:
    await world.pool(1)
    session = await opened(world, CUSTOMER, OFFICE)
    new = NewParticipant(identifier=STRANGER)
    after = await amending.swap(world.house, world.access, session.id, session.participants[0].id, new)
    x = proxy(after, 0, 1)
    assert isinstance(await world.call(x, STRANGER), Route)
    assert all([isinstance(await world.call(x, phone), Refusal) for phone in (CUSTOMER, OFFICE)])
