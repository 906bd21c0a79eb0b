"""Who is blocked does not get through, and nobody else notices."""

from __future__ import annotations

import asyncio

import pytest

from masking import barring, services
from masking.barring import Block, NewBlock, Someone
from masking.refusals import ContainsPhoneNumber, Invalid, InvalidPhoneNumber, NotFound
from masking.routes import Refusal
from masking.services import ServiceChange
from masking.sessions import Session
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, World, proxy


async def block(world: World, scope: str, who: str, to: str | None = None, **wishes: str) -> Block:
    new = NewBlock(
        scope=scope,  # type: ignore[arg-type]
        who=Someone(identifier=who),
        to=Someone(identifier=to) if to else None,
        reason="calls at night",
        **wishes,  # type: ignore[arg-type]
    )
    return await barring.create(world.house, world.access, new)


async def decision(world: World, session: Session, source: int, target: int) -> str:
    people = [CUSTOMER, DRIVER, MERCHANT]
    found = await world.call(proxy(session, source, target), people[source])
    if isinstance(found, Refusal):
        return found.decision
    await world.house.leases.append(session.id, [], end_call=found.interaction)
    return "routed"


async def test_a_blocked_pair_cannot_reach_each_other_in_any_session(world: World) -> None:
    await world.pool(8)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT)
    made = await block(world, "pair", CUSTOMER, DRIVER)
    assert (made.who, made.to) == ("+8490…67", "+8490…21")
    for one in (session, await world.open(CUSTOMER, DRIVER)):
        assert await decision(world, one, 0, 1) == await decision(world, one, 1, 0) == "blocked"
    assert await decision(world, session, 0, 2) == await decision(world, session, 2, 1) == "routed"
    await barring.remove(world.house, world.access, made.id)
    await world.later(1)
    assert await decision(world, session, 0, 1) == "routed"


async def test_a_block_may_close_one_way_alone(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    await block(world, "pair", CUSTOMER, DRIVER, direction="inbound")
    assert await decision(world, session, 0, 1) == "routed"
    assert await decision(world, session, 1, 0) == "blocked"


async def test_a_person_is_blocked_in_one_service_or_in_all(world: World) -> None:
    await services.create(world.house, "acme", ServiceChange(unique_name="other"))
    await world.pool(2)
    await world.pool(2, service="other")
    here, there = await world.open(CUSTOMER, DRIVER), await world.open(CUSTOMER, DRIVER, service="other")
    await block(world, "service", DRIVER, service="other")
    assert await decision(world, here, 1, 0) == "routed"
    assert await decision(world, there, 1, 0) == await decision(world, there, 0, 1) == "blocked"
    await block(world, "number", DRIVER, direction="outbound")
    assert await decision(world, here, 1, 0) == "blocked"
    assert await decision(world, here, 0, 1) == "routed"


async def test_the_call_of_somebody_blocked_is_a_refused_interaction_and_holds_no_slot(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    await block(world, "number", DRIVER)
    assert await decision(world, session, 1, 0) == "blocked"
    holder = await world.house.leases.read(session.id)
    assert holder is not None and holder.calls == 0
    assert (await world.types(session.id))[-1] == "call.refused"


async def test_two_blocks_of_one_thing_are_taken_back_one_by_one(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    first, second = await block(world, "number", DRIVER), await block(world, "number", DRIVER)
    assert [one.id for one in await barring.listing(world.house, "acme")] in (
        [first.id, second.id],
        [second.id, first.id],
    )
    await barring.remove(world.house, world.access, first.id)
    assert await decision(world, session, 1, 0) == "blocked"
    await barring.remove(world.house, world.access, second.id)
    await world.later(1)
    assert await decision(world, session, 1, 0) == "routed"
    with pytest.raises(NotFound):
        await barring.remove(world.house, world.access, second.id)


async def test_a_block_made_elsewhere_is_seen_within_a_second(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    assert await decision(world, session, 1, 0) == "routed"
    made = await block(world, "number", DRIVER)
    old: asyncio.Future[int] = asyncio.Future()
    old.set_result(0)
    world.house.seen["blocks of acme"] = (world.house.now(), old)  # as another process has it
    assert await decision(world, session, 1, 0) == "routed"
    await world.later(1)
    assert await decision(world, session, 1, 0) == "blocked", made.id


async def test_a_participant_is_blocked_with_no_number_said(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    who = Someone(session=session.id, participant=session.participants[1].id)
    await barring.create(world.house, world.access, NewBlock(scope="number", who=who, reason="threats"))
    assert await decision(world, session, 1, 0) == "blocked"
    for nobody, refusal in (
        (Someone(), Invalid),
        (Someone(session=session.id), Invalid),
        (Someone(session=session.id, participant="par_x"), Invalid),
        (Someone(session=session.id, participant="par_x", identifier=DRIVER), Invalid),
        (Someone(session="ses_abcdef" + "x" * 22, participant="par_x"), NotFound),
        (Someone(identifier="113"), InvalidPhoneNumber),
    ):
        with pytest.raises(refusal):
            await barring.create(world.house, world.access, NewBlock(scope="number", who=nobody, reason="threats"))


async def test_what_does_not_go_together_is_refused(world: World) -> None:
    for scope, to, wishes in (
        ("pair", None, {}),
        ("number", CUSTOMER, {}),
        ("number", None, {"service": "default"}),
    ):
        with pytest.raises(Invalid):
            await block(world, scope, DRIVER, to, **wishes)
    with pytest.raises(NotFound):
        await block(world, "service", DRIVER, service="nobody's")
    with pytest.raises(ContainsPhoneNumber):
        told = NewBlock(scope="number", who=Someone(identifier=DRIVER), reason=f"from {DRIVER}")
        await barring.create(world.house, world.access, told)


async def test_redis_keeps_no_number_of_a_block(world: World) -> None:
    await block(world, "pair", CUSTOMER, DRIVER)
    kept = str(await world.house.redis.command("HGETALL", "blocks:{acme}"))
    kept += str(await world.house.redis.command("HGETALL", "blocked:{acme}"))
    assert CUSTOMER[3:] not in kept and DRIVER[3:] not in kept
