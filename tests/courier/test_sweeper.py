"""Sessions whose time is over, calls whose edge is dead: each ended once."""

from __future__ import annotations

import asyncio

from masking import interactions, sessions, shelves
from masking.courier.lease import Lease
from masking.courier.sweeper import GRACE, Sweeper
from masking.events import moment
from masking.interactions import Call, Ending
from masking.routes import Route
from masking.stages import Stage
from tests.courier.conftest import Round
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, START, World, proxy


async def test_expired_sessions_are_ended_once(world: World, courier: Round) -> None:
    await world.pool(30)
    names = [(await world.open(ttl=60)).id for _ in range(20)]
    longer = await world.open(ttl=600)
    assert await courier.sweeper.round() == 0
    await world.later(60)
    both = await asyncio.gather(courier.sweeper.round(), Sweeper(world.house).round())
    assert sum(both) == 20 and await courier.sweeper.round() == 0
    for name in names:
        types = await world.types(name)
        assert types[2:] == ["session.expired", "session.closed", "number.released"]
    assert (await sessions.get(world.house, world.access, longer.id)).status == "open"
    await courier.carry()
    found = await sessions.get(world.house, world.access, names[0])
    assert (found.status, found.closed_reason) == ("closed", "expired")


async def test_a_dead_edges_call_is_ended_once_within_ten_seconds(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    await world.house.leases.beat("edge-1", 60_000)
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    call = Call.of(route)
    await interactions.answered(world.house, call, world.house.now())
    assert await courier.sweeper.round() == 0, "its owner lives"
    await world.house.redis.command("DEL", "w:edge-1")
    assert await courier.sweeper.round() == 0, "it has just been missed"
    await world.later(GRACE)
    assert await courier.sweeper.round() == 1
    assert await courier.sweeper.round() == 0
    late = Ending(blame="caller", reason="hangup", sip_code=200)
    assert not await interactions.ended(world.house, call, world.house.now(), late)
    assert (await world.types(session.id)).count("call.ended") == 1
    await courier.carry()
    found = await interactions.get(world.house, "acme", call.interaction)
    assert (found.status, found.hangup_by, found.reason) == ("failed", "platform", "owner_lost")
    assert found.billable == GRACE
    assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Route), "its slot is free"


async def test_a_call_whose_session_redis_has_forgotten_is_forgotten_too(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Route)
    [shard] = await world.house.inventory.shard_names()
    await world.house.redis.command("DEL", "{" + shard + "}s:" + session.id, "{" + shard + "}e:" + session.id)
    assert await courier.sweeper.round() == 0, "its owner has just been missed"
    assert len(await world.house.leases.live_calls(shard)) == 1
    await world.later(GRACE)
    assert await courier.sweeper.round() == 1
    assert await world.house.leases.live_calls(shard) == []
    assert await courier.sweeper.round() == 0
    assert await world.house.leases.read(session.id) is None, "no half a session came to be"


async def test_a_call_that_another_edge_took_over_goes_on(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    route = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(route, Route)
    await courier.sweeper.round()
    await world.later(GRACE)
    heir = Call.of(route)
    heir.owner = "edge-2"
    await interactions.snapshot(world.house, heir, b"state")
    await world.house.leases.beat("edge-2", 60_000)
    assert await courier.sweeper.round() == 0
    assert "call.ended" not in await world.types(session.id)


async def test_heartbeats_that_lapsed_while_redis_was_away_have_time_to_come_back(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open()
    await world.call(proxy(session, 0, 1), CUSTOMER)
    assert await courier.sweeper.round() == 0
    await world.house.leases.beat("edge-1", 60_000)
    await world.later(GRACE)
    assert await courier.sweeper.round() == 0
    await world.house.redis.command("DEL", "w:edge-1")
    assert await courier.sweeper.round() == 0, "missed anew, not since then"


async def test_a_live_call_outlives_its_session(world: World, courier: Round) -> None:
    await world.pool(1)
    session = await world.open(ttl=60)
    await world.house.leases.beat("edge-1", 60_000)
    route = await world.call(proxy(session, 1, 0), DRIVER)
    assert isinstance(route, Route)
    await world.later(61)
    await courier.sweeper.round()
    assert (await sessions.get(world.house, world.access, session.id)).status == "closed"
    call = Call.of(route)
    await interactions.answered(world.house, call, world.house.now())
    assert await interactions.ended(
        world.house, call, world.house.now(), Ending(blame="callee", reason="hangup", sip_code=200)
    )
    await courier.carry()
    assert (await interactions.get(world.house, "acme", call.interaction)).status == "completed"
    assert (await sessions.get(world.house, world.access, session.id)).status == "closed"


async def test_one_courier_holds_the_lease(world: World) -> None:
    first, second = Lease(world.house, "courier-a"), Lease(world.house, "courier-b")
    assert await first.hold() and await first.hold()
    assert not await second.hold()
    await second.leave()
    assert await first.hold(), "nobody gives away what is not theirs"
    await first.leave()
    assert await second.hold() and not await first.hold()


async def test_a_stage_that_begins_is_told_once_and_the_last_ones_end_closes(world: World, courier: Round) -> None:
    await world.pool(2)
    stages = [
        Stage(name="offer", until=moment(START + 60)),
        Stage(name="active", until=moment(START + 120)),
        Stage(name="grace", until=moment(START + 180)),
    ]
    session, closed = await world.open(stages=stages), await world.open(CUSTOMER, MERCHANT, stages=stages)
    await sessions.close(world.house, world.access, closed.id)
    for name in ("offer", "active", "grace"):
        await courier.sweeper.round()
        await courier.sweeper.round()
        await courier.carry()
        [kept] = (await shelves.listing(world.house, world.access, status="open")).data
        assert (kept.id, kept.stage) == (session.id, name)
        await world.later(60)
    await courier.sweeper.round()
    await courier.carry()
    assert (await world.types(session.id))[2:] == [*["session.updated"] * 2, "session.closed", "number.released"]
    assert "session.updated" not in await world.types(closed.id)
    found = await sessions.get(world.house, world.access, session.id)
    assert (found.status, found.closed_reason, found.stage) == ("closed", "stage_end", None)
    [shard] = await world.house.inventory.shard_names()
    assert await world.house.leases.woken(shard, world.house.now_ms) == [], "nobody is looked at for nothing"
