"""Who is reached over a virtual number, at what price, and who is not."""

from __future__ import annotations

from typing import Any

import pytest

from masking import interactions, routes, services, sessions
from masking.interactions import Call, Ending, Leg
from masking.routes import Refusal, Route
from masking.services import ServiceChange
from masking.sessions import SessionChange
from pools.inventory import Item
from pools.redis import Redis, Unavailable
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, STRANGER, World, numbers_of, proxy

HANGUP = Ending(blame="caller", reason="hangup", sip_code=200)


async def test_each_reaches_the_other_over_the_number_they_see(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="always", ring_timeout=30)
    number = proxy(session, 0, 1)
    route = await world.call(number, CUSTOMER)
    assert isinstance(route, Route)
    customer, driver = session.participants
    assert (route.from_participant, route.to_participant) == (customer.id, driver.id)
    assert (route.from_role, route.to_role) == ("customer", "driver")
    assert route.callee.reveal() == DRIVER and route.shows == number
    assert (route.tenant, route.trunk, route.country, route.ring_timeout) == ("acme", "carrier-vn", "VN", 30)
    assert route.record and route.recording == "rec_1"
    assert DRIVER not in repr(route) and "…" in repr(route)
    await interactions.ended(world.house, Call.of(route), world.house.now(), HANGUP)
    back = await world.call(route.shows, DRIVER)
    assert isinstance(back, Route) and back.callee.reveal() == CUSTOMER


async def test_a_claim_is_one_round_trip(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pool(1)
    session = await world.open()
    number = proxy(session, 0, 1)
    await world.call(number, STRANGER)  # what a process knows of a number and a service is at hand for a while
    asked: list[Any] = []
    command = Redis.command

    def counted(self: Redis, *words: Any) -> Any:
        asked.append(words)
        return command(self, *words)

    monkeypatch.setattr(Redis, "command", counted)
    assert isinstance(await world.call(number, CUSTOMER), Route)
    assert [words[0] for words in asked] == ["EVALSHA"]
    asked.clear()
    wrong = await world.call(number, STRANGER)
    wrong_asked = [words[0] for words in asked]
    asked.clear()
    withheld = await world.call(number, None)
    assert [words[0] for words in asked] == wrong_asked == ["EVALSHA", "XADD"]
    asked.clear()
    unknown = await world.call("+842471999999", CUSTOMER)
    # What is asked differs; how much does not: one question, and the event that nobody waits for.
    assert [words[0] for words in asked] == ["HGETALL", "XADD"]
    for refusal in (wrong, withheld, unknown):
        assert isinstance(refusal, Refusal)
        assert (refusal.decision, refusal.session) == ("no_binding", None)


async def test_another_tenants_number_is_no_binding(world: World) -> None:
    await world.pool(1)
    theirs = await services.get(world.house, "other", "default")
    await world.house.inventory.add("other", theirs.id, [Item("+842471888888", "VN", "carrier-vn")])
    await world.open()
    refusal = await world.call("+842471888888", CUSTOMER)
    assert isinstance(refusal, Refusal) and (refusal.decision, refusal.session) == ("no_binding", None)


async def test_an_ended_session_is_remembered_for_its_pair_alone(world: World) -> None:
    await world.pool(1)
    session = await world.open(pair_quarantine=600)
    number = proxy(session, 0, 1)
    await sessions.close(world.house, world.access, session.id)
    ended = await world.call(number, CUSTOMER)
    assert isinstance(ended, Refusal) and (ended.decision, ended.session) == ("ended", session.id)
    assert isinstance(await world.call(number, STRANGER), Refusal)
    [told] = [one for one in await interactions.of_session(world.house, "acme", session.id)]
    assert (told.status, told.decision, told.from_) == ("refused", "ended", session.participants[0].id)
    await world.later(600)
    forgotten = await world.call(number, CUSTOMER)
    assert isinstance(forgotten, Refusal) and forgotten.decision == "no_binding"


async def test_an_expired_binding_is_ended_before_anybody_swept_it(world: World) -> None:
    await world.pool(1)
    session = await world.open(ttl=60)
    await world.later(60)
    refusal = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(refusal, Refusal) and refusal.decision == "ended"


async def test_one_call_at_a_time_and_the_same_claim_is_the_same_call(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    number = proxy(session, 0, 1)
    first = await world.call(number, CUSTOMER, "int_same")
    assert await world.call(number, CUSTOMER, "int_same") == first
    busy = await world.call(number, DRIVER, "int_other")
    assert isinstance(busy, Refusal) and busy.decision == "limit"
    assert await world.types(session.id) == ["session.opened", "number.leased", "call.initiated", "call.refused"]
    assert isinstance(first, Route)
    await interactions.ended(world.house, Call.of(first), world.house.now(), HANGUP)
    assert isinstance(await world.call(number, DRIVER, "int_third"), Route)


async def test_a_number_out_of_service_is_unavailable(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    [number] = numbers_of(session)
    default = await services.get(world.house, "acme", "default")
    await world.house.inventory.set_state("acme", default.id, number, "draining")
    assert isinstance(await world.call(number, CUSTOMER), Route)
    await world.house.inventory.set_state("acme", default.id, number, "suspended")
    refusal = await world.call(number, DRIVER)
    assert isinstance(refusal, Refusal) and refusal.decision == "unavailable"


async def test_what_patch_changed_is_what_the_next_call_gets(world: World) -> None:
    await services.create(world.house, "acme", ServiceChange(unique_name="quiet"))
    await world.pool(1, service="quiet")
    session = await world.open(service="quiet")
    silent = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(silent, Route) and not silent.record and silent.recording is None
    await interactions.ended(world.house, Call.of(silent), world.house.now(), HANGUP)
    await sessions.change(world.house, world.access, session.id, SessionChange(record="always", call_time_limit=60))
    told = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(told, Route) and told.record and told.call_time_limit == 60


async def test_without_redis_nobody_is_routed(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    await world.house.redis.close()
    with pytest.raises(Unavailable):
        await world.call(proxy(session, 0, 1), CUSTOMER)


async def test_the_first_call_puts_the_session_in_progress_for_good(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    assert (await sessions.get(world.house, world.access, session.id)).status == "open"
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert (await sessions.get(world.house, world.access, session.id)).status == "in_progress"
    assert isinstance(route, Route)
    unanswered = Ending(blame="callee", reason="busy", sip_code=486, legs=(Leg(sip_code=486), Leg(sip_code=486)))
    await interactions.ended(world.house, Call.of(route), world.house.now(), unanswered)
    assert (await sessions.get(world.house, world.access, session.id)).status == "in_progress"


async def test_a_claimed_call_that_cannot_be_tried_is_refused_once(world: World) -> None:
    await world.pool(1)
    session = await world.open()
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    for _ in range(2):
        await interactions.refused(
            world.house,
            interaction=route.interaction,
            decision="unavailable",
            at=world.house.now(),
            session=session.id,
            data={"reason": "no_trunk"},
        )
    assert not await interactions.ended(world.house, Call.of(route), world.house.now(), HANGUP)
    assert (await world.types(session.id))[2:] == ["call.initiated", "call.refused"]
    [found] = await interactions.of_session(world.house, "acme", session.id)
    assert (found.status, found.decision, found.reason) == ("refused", "unavailable", "no_trunk")
    assert found.to == session.participants[1].id, "what the claim told stays"


async def test_an_event_of_no_session_belongs_to_whose_numbers_the_trunk_carries(world: World) -> None:
    await world.pool(1)
    assert await routes.tenant_of_trunk(world.house, "carrier-vn") == "acme"
    assert await routes.tenant_of_trunk(world.house, "nobodys") == "default"


async def test_the_third_person_keeps_out_of_a_pairs_number(world: World) -> None:
    await world.pool(6)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT)
    refusal = await world.call(proxy(session, 0, 1), MERCHANT)
    assert isinstance(refusal, Refusal) and refusal.decision == "no_binding"


async def test_eight_people_all_reach_each_other_and_nobody_else(world: World) -> None:
    await world.pool(12)
    people = [f"+8490123400{place}" for place in range(8)]
    session = await world.open(*people)
    for source, caller in enumerate(people):
        numbers = [proxy(session, source, target) for target in range(8) if target != source]
        assert len(set(numbers)) == 7, "each of the others has a number of their own"
        for target in set(range(8)) - {source}:
            route = await world.call(proxy(session, source, target), caller)
            assert isinstance(route, Route)
            assert (route.callee.reveal(), route.shows) == (people[target], proxy(session, target, source))
            await interactions.ended(world.house, Call.of(route), world.house.now(), HANGUP)
