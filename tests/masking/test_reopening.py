"""An ended session goes on with its numbers while they rest for its people; a sliding one lives on after each call."""

from __future__ import annotations

from datetime import timedelta

import pytest

from masking import interactions, opening, reopening, services, sessions
from masking.events import moment
from masking.interactions import Call, Ending
from masking.pins import Pin
from masking.refusals import CannotReopen, NotFound, UniqueNameConflict
from masking.routes import Refusal, Route
from masking.sessions import NewSession, Session
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, World, numbers_of, participants, proxy

HANGUP = Ending(blame="caller", reason="hangup", sip_code=200)


async def reopened(world: World, session: Session, ttl: int | None = None) -> Session:
    return await reopening.reopen(world.house, world.access, session.id, ttl=ttl, expires_at=None)


async def why_not(world: World, session: Session) -> object:
    with pytest.raises(CannotReopen) as caught:
        await reopened(world, session)
    return caught.value.extra["reason"]


async def test_a_closed_session_goes_on_with_its_numbers_while_they_rest(world: World) -> None:
    await world.pool(3)
    session = await world.open()
    await sessions.close(world.house, world.access, session.id)
    await world.later(1799)
    again = await reopened(world, session, ttl=600)
    assert (again.id, again.status, again.closed_reason, again.closed_at) == (session.id, "open", None, None)
    assert numbers_of(again) == numbers_of(session)
    assert again.expires_at == moment(world.house.now()) + timedelta(seconds=600)
    assert isinstance(await world.call(proxy(session, 1, 0), DRIVER), Route)
    assert (await world.types(session.id))[-3:] == ["session.reopened", "number.leased", "call.initiated"]


async def test_an_expired_session_that_nobody_swept_is_closed_first(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=60)
    await world.later(61)
    await reopened(world, session)
    types = await world.types(session.id)
    assert types.index("session.expired") < types.index("session.closed") < types.index("session.reopened")


async def test_numbers_that_have_rested_are_not_given_back(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    await sessions.close(world.house, world.access, session.id)
    await world.later(1800)
    assert await why_not(world, session) == "rested"


async def test_a_session_without_quarantine_stays_closed(world: World) -> None:
    await world.pool(1)
    session = await world.open(pair_quarantine=0)
    await sessions.close(world.house, world.access, session.id)
    assert await why_not(world, session) == "rested"


async def test_a_session_whose_number_was_suspended_stays_closed(world: World) -> None:
    (number,) = await world.pool(1)
    session = await world.open()
    await sessions.close(world.house, world.access, session.id)
    service = (await services.get(world.house, "acme", "default")).id
    await world.house.inventory.set_state("acme", service, number, "suspended")
    assert await why_not(world, session) == "number_lost"


async def test_reopening_an_open_session_changes_nothing(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    assert await reopened(world, session, ttl=9999) == session
    with pytest.raises(NotFound):
        await reopening.reopen(world.house, world.access, "ses_abcdef" + "x" * 22, ttl=None, expires_at=None)


async def test_two_countries_come_back_together(world: World) -> None:
    await world.pool(2, "VN")
    await world.pool(2, "RU")
    session = await world.open(CUSTOMER, MUSCOVITE)
    await sessions.close(world.house, world.access, session.id)
    assert isinstance(await world.call(proxy(session, 1, 0), MUSCOVITE, trunk="carrier-ru"), Refusal)
    await reopened(world, session)
    assert isinstance(await world.call(proxy(session, 1, 0), MUSCOVITE, trunk="carrier-ru"), Route)


async def test_the_name_comes_back_too_unless_another_session_has_it_by_now(world: World) -> None:
    await world.pool(4)
    session = await world.open(unique_name="order-1")
    await sessions.close(world.house, world.access, session.id)
    await reopened(world, session)
    same = NewSession(participants=participants(CUSTOMER, DRIVER), unique_name="order-1")
    assert (await opening.open_session(world.house, world.access, same))[0].id == session.id
    await sessions.close(world.house, world.access, session.id)
    other = await world.open(CUSTOMER, MERCHANT, unique_name="order-1")
    with pytest.raises(UniqueNameConflict) as caught:
        await reopened(world, session)
    assert caught.value.extra["session"] == other.id
    assert isinstance(await world.call(proxy(session, 1, 0), DRIVER), Refusal)


async def test_a_name_that_was_claimed_in_vain_is_free_again(world: World) -> None:
    await world.pool(4)
    session = await world.open(unique_name="order-1")
    await sessions.close(world.house, world.access, session.id)
    await world.later(1800)
    assert await why_not(world, session) == "rested"
    assert (await world.open(CUSTOMER, MERCHANT, unique_name="order-1")).status == "open"


async def test_pins_come_back_as_they_were(world: World) -> None:
    await world.pool(2)
    session = await world.open(pin=Pin(policy="always"))
    await sessions.close(world.house, world.access, session.id)
    again = await reopened(world, session)
    assert again.participants[0].proxies[0].pin == session.participants[0].proxies[0].pin is not None


async def test_a_sliding_session_lives_on_after_each_call(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=600, ttl_mode="sliding", unique_name="order-1")
    assert session.ttl_mode == "sliding"
    await world.later(500)
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route) and route.sliding
    await world.later(400)
    await interactions.ended(world.house, Call.of(route), world.house.now(), HANGUP)
    after = await sessions.get(world.house, world.access, session.id)
    assert after.expires_at == moment(world.house.now()) + timedelta(seconds=600)
    await world.later(599)
    assert isinstance(await world.call(proxy(session, 1, 0), DRIVER), Route)


async def test_an_end_further_away_is_not_moved_nearer_by_a_call(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=600, ttl_mode="sliding")
    await sessions.extend(world.house, world.access, session.id, ttl=9000, expires_at=None)
    await world.call(proxy(session, 0, 1), CUSTOMER)
    after = await sessions.get(world.house, world.access, session.id)
    assert after.expires_at == session.created_at + timedelta(seconds=9000)


async def test_a_call_that_outlives_a_closed_sliding_session_does_not_revive_it(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=600, ttl_mode="sliding")
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    await sessions.close(world.house, world.access, session.id)
    await interactions.ended(world.house, Call.of(route), world.house.now(), HANGUP)
    assert (await sessions.get(world.house, world.access, session.id)).status == "closed"
