"""A session whose people come and go one by one: at most two of them."""

from __future__ import annotations

import asyncio
import contextlib
import random

import msgspec
import pytest

from masking import joining, opening, services, sessions
from masking.checks import LONGEST
from masking.events import loose_outbox
from masking.refusals import (
    GeoUnavailable,
    NotFound,
    NumberInUse,
    NumberPoolExhausted,
    ParticipantConflict,
    Refused,
    SessionClosed,
    SessionFull,
    Unserved,
)
from masking.routes import Refusal, Route
from masking.services import ServiceChange
from masking.sessions import NewParticipant, NewSession, Participant, Session
from pools.inventory import PhoneNumber
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, World, participants, proxy


async def opened(world: World, *numbers: str, ttl: int = 3600) -> Session:
    new = NewSession(participants=participants(*numbers), number_model="per_party", ttl=ttl)
    return (await opening.open_session(world.house, world.access, new, fewest=0))[0]


async def joined(world: World, session: str, number: str, wish: PhoneNumber | str = "") -> Participant:
    new = NewParticipant(identifier=number)
    return (await joining.join(world.house, world.access, session, new, wish=wish))[1]  # type: ignore[arg-type]


def dials(one: Participant) -> str:
    return one.proxies[0].number


async def reached(world: World, called: str, caller: str) -> str:
    """Who rings, or why nobody does."""
    found = await world.call(called, caller)
    if isinstance(found, Refusal):
        return found.decision
    await world.house.leases.append(found.session, [], end_call=found.interaction)
    return found.callee.reveal()


async def test_people_join_an_empty_session_and_reach_each_other_when_both_are_there(world: World) -> None:
    await world.pool(4)
    session = (await opened(world)).id
    customer = await joined(world, session, CUSTOMER)
    assert await reached(world, dials(customer), CUSTOMER) == "direction", "the partner is not there yet"
    driver = await joined(world, session, DRIVER)
    assert (customer.proxies[0].to, driver.proxies[0].to) == (driver.id, customer.id)
    routed = await world.call(dials(customer), CUSTOMER)
    assert isinstance(routed, Route) and (routed.callee.reveal(), routed.shows) == (DRIVER, dials(driver))
    await world.house.leases.append(session, [], end_call=routed.interaction)
    assert await reached(world, dials(driver), DRIVER) == CUSTOMER
    assert await world.types(session) == [
        *["session.opened", "session.updated", "number.leased", "call.refused", "session.updated", "number.leased"],
        *["call.initiated", "call.initiated"],
    ]


async def test_who_leaves_reaches_nobody_and_the_other_keeps_the_number_for_the_next(world: World) -> None:
    await world.pool(4)
    first = await opened(world, CUSTOMER, DRIVER)
    customer, driver = first.participants
    left = await joining.leave(world.house, world.access, first.id, driver.id)
    assert [one.id for one in left.participants] == [customer.id]
    assert await reached(world, dials(driver), DRIVER) == "ended"
    assert await reached(world, dials(customer), CUSTOMER) == "direction"
    merchant = await joined(world, first.id, MERCHANT)
    after = (await sessions.get(world.house, world.access, first.id)).participants
    assert proxy(first, 0, 1) == dials(after[0]) and after[0].proxies[0].to == merchant.id
    assert await reached(world, dials(customer), CUSTOMER) == MERCHANT
    assert await reached(world, dials(merchant), MERCHANT) == CUSTOMER
    assert await reached(world, dials(driver), DRIVER) == "ended"
    for one in after:
        await joining.leave(world.house, world.access, first.id, one.id)
    closed = await sessions.close(world.house, world.access, first.id)
    assert closed.participants == []
    released = [kind for kind in await world.types(first.id) if kind == "number.released"]
    assert len(released) == 3, "each number once"


async def test_one_person_is_enough_to_open_a_session_and_somebody_of_a_shared_number_may_leave(world: World) -> None:
    await world.pool(4)
    alone = await opened(world, CUSTOMER)
    assert await reached(world, dials(alone.participants[0]), CUSTOMER) == "direction"
    await joined(world, alone.id, DRIVER)
    assert await reached(world, dials(alone.participants[0]), CUSTOMER) == DRIVER
    shared = await world.open(CUSTOMER, DRIVER)
    await joining.leave(world.house, world.access, shared.id, shared.participants[0].id)
    merchant = await joined(world, shared.id, MERCHANT)
    assert await reached(world, proxy(shared, 1, 0), DRIVER) == MERCHANT
    assert await reached(world, dials(merchant), MERCHANT) == DRIVER


async def test_a_person_may_wish_for_a_number_or_for_the_one_they_had_last(world: World) -> None:
    numbers = await world.pool(3)
    wished = await world.house.inventory.find(numbers[2])
    assert wished is not None
    first, second = (await opened(world)).id, (await opened(world)).id
    assert dials(await joined(world, first, CUSTOMER, wished)) == numbers[2]
    with pytest.raises(NumberInUse):
        await joined(world, second, CUSTOMER, wished)
    await sessions.close(world.house, world.access, first)
    await world.later(1800)
    assert dials(await joined(world, second, CUSTOMER, "sticky")) == numbers[2]


@pytest.mark.parametrize(
    ("number", "refusal"),
    [(CUSTOMER, ParticipantConflict), (MERCHANT, SessionFull), ("+842471000000", Refused), ("113", Refused)],
)
async def test_nobody_joins_twice_nor_as_the_third(world: World, number: str, refusal: type[Refused]) -> None:
    await world.pool(4)
    session = (await opened(world, CUSTOMER, DRIVER)).id
    with pytest.raises(refusal):
        await joined(world, session, number)


async def test_what_cannot_be_joined_or_left_says_so(world: World) -> None:
    await world.pool(1)
    first = await opened(world, CUSTOMER)
    with pytest.raises(NotFound):
        await joining.leave(world.house, world.access, first.id, "par_unknown")
    with pytest.raises(NumberPoolExhausted):
        await joined(world, (await opened(world)).id, CUSTOMER)
    await sessions.close(world.house, world.access, first.id)
    with pytest.raises(SessionClosed):
        await joined(world, first.id, DRIVER)
    await world.pool(9)
    three = await world.open(CUSTOMER, DRIVER, MERCHANT)
    with pytest.raises(Unserved):
        await joining.leave(world.house, world.access, three.id, three.participants[0].id)


async def test_each_has_a_number_of_their_own_country_whoever_comes_first(world: World) -> None:
    await world.pool(4)
    await world.pool(3, "RU")
    session = (await opened(world)).id
    muscovite = await joined(world, session, MUSCOVITE)
    assert dials(muscovite).startswith("+7") and await reached(world, dials(muscovite), MUSCOVITE) == "direction"
    customer = await joined(world, session, CUSTOMER)
    assert dials(customer).startswith("+84") and await reached(world, dials(customer), CUSTOMER) == MUSCOVITE
    assert await reached(world, dials(muscovite), MUSCOVITE) == CUSTOMER
    await joining.leave(world.house, world.access, session, muscovite.id)
    assert await reached(world, dials(muscovite), MUSCOVITE) == "ended"
    driver = await joined(world, session, DRIVER)
    assert await reached(world, dials(customer), CUSTOMER) == DRIVER
    assert await reached(world, dials(driver), DRIVER) == CUSTOMER
    both = await opened(world, CUSTOMER, MUSCOVITE)
    await joining.leave(world.house, world.access, both.id, both.participants[0].id)
    again = await joined(world, both.id, DRIVER)
    assert await reached(world, dials(both.participants[1]), MUSCOVITE) == DRIVER
    assert await reached(world, dials(again), DRIVER) == MUSCOVITE
    await sessions.close(world.house, world.access, session)
    assert await reached(world, dials(customer), CUSTOMER) == "ended"


async def test_where_a_country_has_no_numbers_the_service_says_whether_others_do(world: World) -> None:
    await world.pool(4)
    session = (await opened(world)).id
    await services.change(world.house, "acme", "default", ServiceChange(geo_match="strict"))
    with pytest.raises(GeoUnavailable):
        await joined(world, session, MUSCOVITE)
    await services.change(world.house, "acme", "default", ServiceChange(geo_match="soft"))
    assert dials(await joined(world, session, MUSCOVITE)).startswith("+84")


async def test_of_many_who_join_at_once_two_do_and_each_is_told_who_they_are(world: World) -> None:
    await world.pool(6)
    session = (await opened(world)).id
    numbers = [CUSTOMER, DRIVER, MERCHANT, "+84987654321"]
    came = await asyncio.gather(*(joined(world, session, number) for number in numbers), return_exceptions=True)
    people = [(number, one) for number, one in zip(numbers, came, strict=True) if isinstance(one, Participant)]
    assert len(people) == 2 and sum(isinstance(one, SessionFull) for one in came) == 2
    (one, first), (other, second) = people
    assert (first.display[-2:], second.display[-2:]) == (one[-2:], other[-2:])
    assert await reached(world, dials(first), one) == other
    assert await reached(world, dials(second), other) == one


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_comes_and_goes_a_dialling_reaches_the_partner_of_now_or_nobody(world: World, seed: int) -> None:
    """Two pools, three sessions, five people: after every step each of them dials every number there is."""
    dice = random.Random(seed)
    numbers = await world.pool(3) + await world.pool(2, "RU")
    people = [CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, "+79167654321"]
    there: dict[str, dict[str, Participant]] = {(await opened(world, ttl=LONGEST)).id: {} for _ in range(3)}
    for _ in range(24):
        session, who = dice.choice(sorted(there)), dice.choice(people)
        if who in there[session]:
            await joining.leave(world.house, world.access, session, there[session].pop(who).id)
        elif len(there[session]) < 2:
            with contextlib.suppress(NumberPoolExhausted):
                there[session][who] = await joined(world, session, who)
        elif dice.random() < 0.3:
            await sessions.close(world.house, world.access, session)
            del there[session]
            there[(await opened(world, ttl=LONGEST)).id] = {}
        await world.later(dice.choice([0, 60, 1800]))
        meant = {(dials(own), number): pair for pair in there.values() for number, own in pair.items()}
        for x in numbers:
            for person in people:
                found, pair = await reached(world, x, person), meant.get((x, person))
                if pair is None:
                    assert found in ("ended", "no_binding")
                elif len(pair) == 2:
                    assert found == next(number for number in pair if number != person)
                else:
                    assert found == "direction"


async def test_a_pool_that_those_who_join_use_up_says_so_before_and_when_it_is(world: World) -> None:
    await world.pool(5)
    for _ in range(5):
        await joined(world, (await opened(world)).id, CUSTOMER)
    with pytest.raises(NumberPoolExhausted):
        await joined(world, (await opened(world)).id, CUSTOMER)
    events = await loose_outbox(world.house, "0", 10)
    assert [(one.type, msgspec.json.decode(one.data).get("used")) for one in events] == [
        ("number.low", 4),
        ("number.exhausted", None),
    ]
