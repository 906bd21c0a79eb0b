"""Another person in a participant's place, another number in a number's place: whoever stays notices nothing."""

from __future__ import annotations

import pytest

from masking import amending, records, services, sessions
from masking.pins import Pin
from masking.refusals import (
    Invalid,
    InvalidPhoneNumber,
    NumberPoolExhausted,
    ParticipantConflict,
    SessionClosed,
)
from masking.routes import Challenge, Refusal, Route
from masking.services import ServiceChange
from masking.sessions import NewParticipant, Session
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, STRANGER, World, numbers_of, proxy


async def swap(world: World, session: Session, number: str = STRANGER, place: int = 1) -> Session:
    who = session.participants[place].id
    return await amending.swap(world.house, world.access, session.id, who, NewParticipant(identifier=number))


async def reached(world: World, called: str, caller: str) -> str | None:
    """Whom a call reaches; None for nobody."""
    route = await world.call(called, caller)
    if isinstance(route, Refusal):
        return None
    await world.house.leases.append(route.session, [], end_call=route.interaction)
    return route.callee.reveal()


async def test_another_driver_takes_over_and_the_customers_number_stays(world: World) -> None:
    await world.pool(3)
    session = await world.open(CUSTOMER, DRIVER)
    after = await swap(world, session)
    (customer, driver), x = after.participants, proxy(session, 0, 1)
    assert customer.id == session.participants[0].id and driver.id != session.participants[1].id
    assert (driver.role, driver.display) == ("driver", "+8498…21")
    assert proxy(after, 0, 1) == x == proxy(after, 1, 0)
    assert await reached(world, x, CUSTOMER) == STRANGER
    assert await reached(world, x, STRANGER) == CUSTOMER
    gone = await world.call(x, DRIVER)
    assert isinstance(gone, Refusal) and gone.decision == "ended"


async def test_a_driver_who_has_that_number_with_somebody_else_dials_one_of_their_own(world: World) -> None:
    await world.pool(2)
    session = await world.open(CUSTOMER, DRIVER)
    x = proxy(session, 0, 1)
    other = await world.open(MERCHANT, STRANGER)
    if proxy(other, 0, 1) != x:
        await sessions.close(world.house, world.access, other.id)
        other = await world.open(MERCHANT, STRANGER)
    assert proxy(other, 0, 1) == x
    await world.later(1801)  # a number that rested for the first pair is free again
    after = await swap(world, session)
    y = proxy(after, 1, 0)
    assert proxy(after, 0, 1) == x != y
    assert await reached(world, x, CUSTOMER) == STRANGER and await reached(world, y, STRANGER) == CUSTOMER
    assert await reached(world, x, STRANGER) == MERCHANT, "the other trip's number means the other trip"
    called = await world.call(x, CUSTOMER)
    assert isinstance(called, Route) and called.shows == y, "the callee sees the number they dial to call back"


async def test_the_newcomer_of_three_reaches_both_others(world: World) -> None:
    await world.pool(8)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT)
    after = await swap(world, session)
    assert proxy(after, 0, 2) == proxy(session, 0, 2)
    people = [CUSTOMER, STRANGER, MERCHANT]
    for source in range(3):
        for target in {0, 1, 2} - {source}:
            assert await reached(world, proxy(after, source, target), people[source]) == people[target]
    assert await reached(world, proxy(session, 1, 2), DRIVER) is None


async def test_a_person_is_swapped_twice_and_the_session_closes_for_all(world: World) -> None:
    await world.pool(2)
    session = await world.open(CUSTOMER, DRIVER)
    x = proxy(session, 0, 1)
    after = await swap(world, await swap(world, session), MERCHANT)
    assert await reached(world, x, CUSTOMER) == MERCHANT
    await sessions.close(world.house, world.access, after.id)
    assert [await reached(world, x, one) for one in (CUSTOMER, DRIVER, STRANGER, MERCHANT)] == [None] * 4
    await world.later(1801)
    assert len({(await world.open(CUSTOMER, MERCHANT)).id}) == 1


async def test_who_may_call_whom_goes_by_role_to_the_newcomer(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER, direction="customer->driver")
    after = await swap(world, session)
    closed = await world.call(proxy(after, 1, 0), STRANGER)
    assert isinstance(closed, Refusal) and closed.decision == "direction"


async def test_the_newcomer_has_a_pin_of_their_own_and_the_others_keep_theirs(world: World) -> None:
    await world.pool(2)
    session = await world.open(CUSTOMER, DRIVER, pin=Pin(policy="always"))
    after = await swap(world, session)
    assert after.participants[0].proxies[0].pin == session.participants[0].proxies[0].pin
    assert after.participants[1].proxies[0].pin != session.participants[1].proxies[0].pin
    asked = await world.dial(proxy(after, 1, 0), STRANGER)
    pin = after.participants[1].proxies[0].pin
    assert isinstance(asked, Challenge) and pin is not None and asked.suffices(pin)


async def test_extensions_stay_with_the_place(world: World) -> None:
    made = await services.create(world.house, "acme", ServiceChange(unique_name="axe", number_model="extension"))
    await world.pool(2, service="axe")
    session = await world.open(CUSTOMER, DRIVER, service=made.unique_name or "")
    after = await swap(world, session)
    kept, given = after.participants[0].proxies[0].extension, session.participants[0].proxies[0].extension
    assert kept == given is not None
    asked = await world.dial(proxy(after, 1, 0), STRANGER)
    assert isinstance(asked, Challenge) and asked.extension


async def test_the_event_tells_who_came_and_no_index(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    after = await swap(world, session)
    told = (await records.events_of(world.house, "acme", session.id))[-1]
    ids = {"from": session.participants[1].id, "to": after.participants[1].id}
    assert (told.type, told.data["replaced"], "parties" in told.data) == ("session.updated", ids, False)


async def test_what_cannot_be_swapped_says_why(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    for number, refusal in (
        (CUSTOMER, ParticipantConflict),
        (DRIVER, ParticipantConflict),
        ("113", InvalidPhoneNumber),
        (proxy(session, 0, 1), InvalidPhoneNumber),
    ):
        with pytest.raises(refusal):
            await swap(world, session, number)
    with pytest.raises(Invalid):
        await amending.swap(world.house, world.access, session.id, "par_x", NewParticipant(identifier=STRANGER))
    several = NewParticipant(identifiers=[STRANGER, CUSTOMER])
    with pytest.raises(ParticipantConflict):
        await amending.swap(world.house, world.access, session.id, session.participants[1].id, several)
    await world.open(MERCHANT, STRANGER)
    with pytest.raises(NumberPoolExhausted):
        await swap(world, session)
    await sessions.close(world.house, world.access, session.id)
    with pytest.raises(SessionClosed):
        await swap(world, session)


@pytest.fixture
async def border(world: World) -> Session:
    """A session whose people dial numbers of two countries; there is one number more of each."""
    await world.pool(2, "VN")
    await world.pool(2, "RU")
    return await world.open(CUSTOMER, MUSCOVITE)


@pytest.mark.parametrize("place", [0, 1])
async def test_of_a_session_over_two_pools_either_may_be_replaced(world: World, border: Session, place: int) -> None:
    people, numbers = [CUSTOMER, MUSCOVITE], [proxy(border, 0, 1), proxy(border, 1, 0)]
    after = await swap(world, border, STRANGER, place)
    gone, people[place] = people[place], STRANGER
    assert [proxy(after, 0, 1), proxy(after, 1, 0)] == numbers, "all dial what was dialled before"
    for one, other in ((0, 1), (1, 0)):
        called = await world.call(numbers[one], people[one])
        assert isinstance(called, Route) and called.callee.reveal() == people[other]
        assert called.shows == numbers[other]
        await world.house.leases.append(border.id, [], end_call=called.interaction)
    refused = await world.call(numbers[place], gone)
    assert isinstance(refused, Refusal) and refused.decision == "ended"
    assert await reached(world, numbers[1 - place], gone) is None
    await sessions.close(world.house, world.access, border.id)
    assert [await reached(world, x, one) for x in numbers for one in (*people, gone)] == [None] * 6
    assert (await world.types(border.id))[3:] == ["session.updated", *["call.initiated"] * 2, "call.refused",
        "session.closed", *["number.released"] * 2, *["call.refused"] * 3]  # fmt: skip


async def test_a_newcomer_over_two_pools_dials_one_of_their_own_where_they_must(world: World, border: Session) -> None:
    other = await world.open(STRANGER, MERCHANT)
    x = proxy(border, 0, 1)
    if proxy(other, 0, 1) != x:
        other = await world.open(STRANGER, DRIVER)
    assert proxy(other, 0, 1) == x
    with pytest.raises(NumberPoolExhausted):
        await swap(world, border, STRANGER, 0)
    assert await reached(world, x, CUSTOMER) == MUSCOVITE, "nothing has changed"
    [y] = await world.pool(1, "VN")
    after = await swap(world, border, STRANGER, 0)
    assert proxy(after, 0, 1) == y
    assert await reached(world, y, STRANGER) == MUSCOVITE
    assert await reached(world, proxy(after, 1, 0), MUSCOVITE) == STRANGER


@pytest.mark.parametrize("place", [0, 1])
async def test_a_number_of_either_country_is_replaced(world: World, border: Session, place: int) -> None:
    people, numbers = [CUSTOMER, MUSCOVITE], [proxy(border, 0, 1), proxy(border, 1, 0)]
    after = await amending.replace_number(world.house, world.access, border.id, numbers[place], 300)
    new = [proxy(after, 0, 1), proxy(after, 1, 0)]
    assert new[1 - place] == numbers[1 - place] and new[place] != numbers[place]
    assert new[place][:3] == numbers[place][:3], "of the same country"
    for span, works in ((0, True), (300, False)):
        await world.later(span)
        assert (await reached(world, numbers[place], people[place]) is not None) == works
        for one in (0, 1):
            assert await reached(world, new[one], people[one]) == people[1 - one]
    called = await world.call(new[1 - place], people[1 - place])
    assert isinstance(called, Route) and called.shows == new[place]


async def test_a_number_that_goes_still_means_the_newcomer_and_never_the_one_before(world: World) -> None:
    await world.pool(2)
    session = await world.open(CUSTOMER, DRIVER)
    old = proxy(session, 0, 1)
    await amending.replace_number(world.house, world.access, session.id, old, 300)
    await swap(world, session)
    assert await reached(world, old, CUSTOMER) == STRANGER
    refused = await world.call(old, DRIVER)
    assert isinstance(refused, Refusal) and refused.decision == "direction"


async def test_a_number_is_replaced_while_both_work_for_a_while(world: World) -> None:
    await world.pool(3)
    session = await world.open(CUSTOMER, DRIVER)
    old = proxy(session, 0, 1)
    after = await amending.replace_number(world.house, world.access, session.id, old, 300)
    (new,) = numbers_of(after)
    assert new != old
    called = await world.call(old, CUSTOMER)
    assert isinstance(called, Route) and called.shows == new, "the callee sees the new one at once"
    await world.house.leases.append(session.id, [], end_call=called.interaction)
    assert await reached(world, new, DRIVER) == CUSTOMER
    await world.later(300)
    assert await reached(world, old, CUSTOMER) is None
    assert await reached(world, new, CUSTOMER) == DRIVER
    types = await world.types(session.id)
    assert types[2:5] == ["session.updated", "number.leased", "number.released"]
    with pytest.raises(Invalid):
        await amending.replace_number(world.house, world.access, session.id, old, 300)


async def test_a_number_that_nothing_can_replace_stays(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    with pytest.raises(NumberPoolExhausted):
        await amending.replace_number(world.house, world.access, session.id, proxy(session, 0, 1), 0)
    assert await reached(world, proxy(session, 0, 1), CUSTOMER) == DRIVER


@pytest.mark.parametrize("beside", [False, True])
async def test_a_newcomer_may_have_several_phones_and_any_of_them_calls(world: World, beside: bool) -> None:
    [x] = await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    if beside:  # one of the newcomer's phones has that number with somebody else
        await world.open(MERCHANT, MUSCOVITE, number_model="shared")
        await world.pool(1)
    who = NewParticipant(identifiers=[STRANGER, MERCHANT])
    after = await amending.swap(world.house, world.access, session.id, session.participants[1].id, who)
    y = proxy(after, 1, 0)
    assert (y != x) == beside and proxy(after, 0, 1) == x
    assert [await reached(world, y, phone) for phone in (STRANGER, MERCHANT)] == [CUSTOMER] * 2
    assert await reached(world, x, CUSTOMER) == STRANGER
    await sessions.close(world.house, world.access, session.id)
    assert [await reached(world, y, phone) for phone in (STRANGER, MERCHANT)] == [None] * 2
