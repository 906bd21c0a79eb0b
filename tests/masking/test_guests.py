"""One-party sessions: anybody may call a person's number, who calls back over it; neither learns the other's."""

from __future__ import annotations

from typing import Any

import pytest

from masking import amending, barring, joining, records, reopening, services, sessions
from masking.barring import NewBlock, Someone
from masking.capacity import Expected, RoleLoad, plan
from masking.events import moment
from masking.pins import Pin
from masking.refusals import Invalid, NumberPoolExhausted, Unserved
from masking.routes import Refusal, Route
from masking.services import ServiceChange
from masking.sessions import NewParticipant, Session
from masking.stages import Stage
from tests.masking.test_explaining import compared
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, START, STRANGER, World


@pytest.fixture
async def axn(world: World) -> World:
    """A world whose service `axn` has one-party sessions, and two numbers."""
    await services.create(world.house, "acme", ServiceChange(unique_name="axn", number_model="one_party"))
    await world.pool(2, service="axn")
    return world


async def own(world: World, person: str = CUSTOMER, **wishes: Any) -> tuple[Session, str]:
    session = await world.open(person, service="axn", **wishes)
    [shown] = session.participants
    [number] = {one.number for one in shown.proxies}
    return session, number


async def reached(world: World, x: str, caller: str | None) -> str:
    """Whom the call reaches, who sees X; or what it meets, as explained."""
    if caller is not None:
        explained = await compared(world, caller, x)
        if explained.session is not None:
            await world.house.leases.append(explained.session, [], end_call=f"int_{world.calls}")
    met = await world.call(x, caller)
    if isinstance(met, Refusal):
        return met.decision
    await world.house.leases.append(met.session, [], end_call=met.interaction)
    assert met.shows == x == met.dialled
    return met.callee.reveal()


async def test_anybody_reaches_the_person_who_calls_back_whoever_called_last(axn: World) -> None:
    session, x = await own(axn)
    assert await reached(axn, x, CUSTOMER) == "unavailable", "nobody has called yet"
    for caller in (DRIVER, MUSCOVITE, STRANGER):
        assert await reached(axn, x, caller) == CUSTOMER
        assert await reached(axn, x, CUSTOMER) == caller
    assert await reached(axn, x, None) == CUSTOMER, "a withheld caller reaches the person"
    assert await reached(axn, x, CUSTOMER) == STRANGER, "and cannot be called back"
    found = await records.held(axn.house, "acme", session.id)
    assert found is not None and found[1].guest is not None
    told = await axn.call(x, DRIVER)
    assert isinstance(told, Route) and told.from_participant == found[1].guest.id and told.from_role == "anyone"


async def test_a_number_is_one_persons_while_the_session_lives_and_rests_for_everybody(axn: World) -> None:
    (first, x), (_, y) = await own(axn), await own(axn, DRIVER)
    assert x != y
    with pytest.raises(NumberPoolExhausted):
        await own(axn, MERCHANT)
    assert await reached(axn, x, DRIVER) == CUSTOMER, "whoever has a number of their own is anybody elsewhere"
    await sessions.close(axn.house, axn.access, first.id)
    assert [await reached(axn, x, caller) for caller in (STRANGER, CUSTOMER)] == ["ended", "ended"]
    await reopening.reopen(axn.house, axn.access, first.id, ttl=None, expires_at=None)
    assert await reached(axn, x, STRANGER) == CUSTOMER
    await axn.later(3600 + 1800)
    assert await reached(axn, x, STRANGER) == "no_binding"
    _, again = await own(axn, MERCHANT)
    assert await reached(axn, again, CUSTOMER) == MERCHANT


async def test_who_may_call_and_when_is_said_of_anyone(axn: World) -> None:
    _, x = await own(axn, direction="anyone->customer")
    assert (await reached(axn, x, DRIVER), await reached(axn, x, CUSTOMER)) == (CUSTOMER, "direction")
    night = [Stage(name="day", until=moment(START + 60)), Stage(name="night", direction="customer->anyone")]
    _, y = await own(axn, MERCHANT, stages=night)
    assert await reached(axn, y, DRIVER) == MERCHANT
    await axn.later(60)
    assert (await reached(axn, y, STRANGER), await reached(axn, y, MERCHANT)) == ("direction", DRIVER)


async def test_a_block_keeps_a_number_from_calling_and_from_being_called_back(axn: World) -> None:
    _, x = await own(axn)
    assert await reached(axn, x, DRIVER) == CUSTOMER
    block = NewBlock(scope="number", who=Someone(identifier=DRIVER), reason="calls at night")
    await barring.create(axn.house, axn.access, block)
    assert [await reached(axn, x, one) for one in (DRIVER, CUSTOMER, STRANGER)] == ["blocked", "blocked", CUSTOMER]


async def test_the_person_may_be_replaced_and_the_number_too(axn: World) -> None:
    session, x = await own(axn)
    assert await reached(axn, x, STRANGER) == CUSTOMER
    who = NewParticipant(identifier=DRIVER)
    after = await amending.swap(axn.house, axn.access, session.id, session.participants[0].id, who)
    assert [await reached(axn, x, one) for one in (STRANGER, DRIVER, CUSTOMER)] == [DRIVER, STRANGER, "ended"]
    after = await amending.replace_number(axn.house, axn.access, session.id, x, 60)
    [y] = {one.number for one in after.participants[0].proxies}
    met = await axn.call(x, MUSCOVITE)
    assert isinstance(met, Route) and met.shows == y != x and met.callee.reveal() == DRIVER
    await axn.house.leases.append(met.session, [], end_call=met.interaction)
    assert await reached(axn, y, DRIVER) == MUSCOVITE


async def test_what_does_not_go_with_one_party_is_refused(axn: World) -> None:
    house, access = axn.house, axn.access
    await axn.pool(1)
    for wishes in ({"pin": Pin(policy="always")}, {"caller_trust": "verified"}, {"number_model": "shared"}):
        with pytest.raises(Invalid):
            await own(axn, **wishes)
    with pytest.raises(Invalid):
        await axn.open(CUSTOMER, DRIVER, service="axn")
    with pytest.raises(Invalid):
        await axn.open(CUSTOMER, DRIVER, number_model="one_party")
    with pytest.raises(Invalid):
        await axn.open(CUSTOMER)
    for service, model in (("axn", "auto"), ("default", "one_party")):
        with pytest.raises(Invalid):
            await services.change(house, "acme", service, ServiceChange(number_model=model))  # type: ignore[arg-type]
    session, _ = await own(axn)
    with pytest.raises(Unserved):
        await joining.join(house, access, session.id, NewParticipant(identifier=DRIVER))
    with pytest.raises(Unserved):
        await joining.leave(house, access, session.id, session.participants[0].id)


async def test_a_plan_counts_a_number_for_each_session(axn: World) -> None:
    load = Expected(roles=[RoleLoad(role="seller", concurrency=2, redial_degree=0)])
    assert (await plan(axn.house, "acme", "axn", load)).needed == 2


async def test_nobodys_number_is_kept_in_the_clear(axn: World) -> None:
    session, x = await own(axn)
    assert await reached(axn, x, STRANGER) == CUSTOMER
    await axn.house.redis.command("CONFIG", "SET", "rdbcompression", "no")
    keys = await axn.house.redis.command("KEYS", "*")
    dump = b"".join([name + (await axn.house.redis.command("DUMP", name)) for name in keys])
    assert STRANGER[-8:].encode() not in dump and CUSTOMER[-8:].encode() not in dump and x.encode() in dump
    shown = await sessions.get(axn.house, axn.access, session.id)
    assert len(shown.participants) == 1
