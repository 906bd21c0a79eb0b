"""What calls came to reaches the numbers' health, and new sessions keep away from what ails."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from masking import archive, interactions, number_health, reports, services
from masking.courier.checkup import Checkup
from masking.courier.outbox import Outbox
from masking.interactions import Call, Ending
from masking.number_health import Health, NumberHealth, Outcome
from masking.reports import NewReport
from masking.routes import Route
from masking.services import ServiceChange
from masking.sessions import Session
from pools.leases import Leases
from pools.redis import Redis
from tests.courier.conftest import Round
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, MUSCOVITE, World, numbers_of, proxy

RULES = NumberHealth(min_calls=2, min_answer_ratio=0.5, max_short_ratio=0.5, max_reports=1)


@pytest.fixture
def checkup(world: World) -> Checkup:
    return Checkup(world.house)


@pytest.fixture
async def ward(world: World, waiting: Redis, courier: Round, checkup: Checkup) -> Round:
    """A courier that counts, for a service that judges soon."""
    await services.change(world.house, "acme", "default", ServiceChange(number_health=RULES))
    courier.outbox = Outbox(world.house, courier.engine, Leases(waiting), count=checkup.take)
    return courier


async def rings(world: World, session: Session, talks: float | None, reason: str = "no_answer") -> None:
    """A call of the customer's: answered and `talks` seconds long, or not answered."""
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    call = Call.of(route)
    if talks is not None:
        await interactions.answered(world.house, call, world.house.now())
        await interactions.bridged(world.house, call, world.house.now())
        await world.later(talks)
        reason = "hangup"
    await interactions.ended(world.house, call, world.house.now(), Ending(blame="callee", reason=reason, sip_code=480))


async def health(world: World, number: str) -> Health:
    found = await world.house.inventory.find(number)
    assert found is not None
    return (await number_health.of_numbers(world.house, [found], RULES))[0]


async def told(courier: Round) -> list[tuple[str, dict[str, Any]]]:
    events = [msgspec.json.decode(row.body) for row in await courier.rows(archive.events)]
    return [(one["type"], one["data"]) for one in events if one["type"] in ("number.unhealthy", "number.healthy")]


async def test_a_number_nobody_answers_is_passed_over_and_its_tenant_told(world: World, ward: Round) -> None:
    await world.pool(3)
    session = await world.open()
    (number,) = numbers_of(session)
    for reason in ("no_answer", "fault", "owner_lost", "busy"):
        await rings(world, session, None, reason)
    await ward.carry()
    found = await health(world, number)
    assert (found.healthy, found.ails, found.calls, found.answer_ratio) == (False, ("unanswered",), 2, 0.0)
    assert found.short_call_ratio is None and found.last_call_at is not None
    others = {number for _ in range(2) for number in numbers_of(await world.open(MERCHANT, MUSCOVITE))}
    assert number not in others
    assert number in numbers_of(await world.open(MERCHANT, MUSCOVITE)), "rather than none at all"
    await rings(world, session, 60.0)
    await rings(world, session, 60.0)
    await ward.carry()
    (ill, data), (well, _) = await told(ward)
    assert (ill, well) == ("number.unhealthy", "number.healthy")
    assert (data["number"], data["service"], data["country"]) == (number, "default", "VN")
    assert (data["ails"], data["calls"]) == (["unanswered"], 2)
    assert (await health(world, number)).healthy


async def test_short_calls_and_reports_are_of_the_number_that_was_seen(world: World, ward: Round) -> None:
    await world.pool(2)
    await world.pool(2, "RU")
    session = await world.open(CUSTOMER, MUSCOVITE, number_model="per_party")
    dialled, seen = proxy(session, 0, 1), proxy(session, 1, 0)
    assert dialled != seen
    await rings(world, session, 1.0)
    await rings(world, session, 1.0)
    await ward.carry()
    assert (await health(world, seen)).ails == ("short_calls",)
    assert (await health(world, dialled)).calls == 0
    customer, muscovite = (one.id for one in session.participants)
    new = NewReport(session=session.id, reported_by=customer, about=muscovite, reason="threats", block=False)
    await reports.create(world.house, world.access, new)
    await ward.carry()
    assert (await health(world, dialled)).ails == ("reports",), "the customer saw it when the other called"


async def test_numbers_of_a_silent_trunk_are_passed_over_until_it_is_back(
    world: World, ward: Round, checkup: Checkup
) -> None:
    (number, *_) = await world.pool(2)
    assert await checkup.round() == 0
    await number_health.say_silent(world.house, ["carrier-vn", "unknown"])
    assert await checkup.round() == 2
    assert await checkup.round() == 0
    assert (await health(world, number)).ails == ("trunk",)
    await world.house.redis.command("DEL", "silent:carrier-vn")
    assert await checkup.round() == 2
    assert (await health(world, number)).healthy


async def test_time_alone_makes_a_number_well(world: World, ward: Round, checkup: Checkup) -> None:
    await world.pool(2)
    session = await world.open(DRIVER, CUSTOMER)
    (number,) = numbers_of(session)
    await checkup.take([Outcome(number), Outcome(number), Outcome("+842471009999")])
    assert not (await health(world, number)).healthy
    assert await checkup.round() == 0
    await services.change(world.house, "acme", "default", ServiceChange(number_health=NumberHealth(min_calls=3)))
    assert await checkup.round() == 1, "judged anew by what counts now"
    await ward.carry()
    assert [kind for kind, _ in await told(ward)] == ["number.unhealthy", "number.healthy"]
