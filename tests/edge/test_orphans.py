"""Calls nobody tells the story of: found, ended once, and no living edge's call among them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from masking import interactions, routes, sessions
from masking.house import Unavailable
from masking.numbering import read
from masking.routes import Refusal, Route
from sipedge import orphans, snapshots
from sipedge.sip.dialogs import Dialog
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited
from sipedge.sip.flows import Flow
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, Make, Opener, Place, Scene, Stage, X, trunk


async def claim(place: Place, owner: str, dialled: str) -> Route:
    """A call slot taken by some other edge."""
    called, caller = read("VN", dialled), read("VN", CUSTOMER)
    assert called is not None
    at, interaction = place.house.now(), place.house.token("int_")
    found = await routes.claim(
        place.house, called=called, caller=caller, interaction=interaction, owner=owner, trunk="callers", at=at
    )
    assert isinstance(found, Route)
    return found


async def test_a_call_of_a_dead_edge_is_ended_once_its_heartbeat_has_been_missed_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(orphans, "SWEEP_SECONDS", 60.0)
    scene = await stage()
    sweeper, leases = scene.place.edge.orphans, scene.place.house.leases
    await claim(scene.place, "edge-elsewhere.1.a", scene.dialled)
    await leases.beat("edge-elsewhere.1.a", 250)
    assert await sweeper.sweep() == 0  # it beats
    await asyncio.sleep(0.3)
    assert await sweeper.sweep() == 0  # missed once: Redis may have been away
    await asyncio.sleep(0.35)
    assert await sweeper.sweep() == 1
    assert await sweeper.sweep() == 0
    told = await scene.interaction()
    assert (told.status, told.reason, told.hangup_by) == ("failed", "owner_lost", "platform")


async def test_an_edge_that_shows_itself_again_keeps_its_calls(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(orphans, "SWEEP_SECONDS", 60.0)
    scene = await stage()
    sweeper, leases = scene.place.edge.orphans, scene.place.house.leases
    route = await claim(scene.place, "edge-elsewhere.1.a", scene.dialled)
    assert await sweeper.sweep() == 0
    await leases.beat("edge-elsewhere.1.a", 5_000)
    await asyncio.sleep(0.25)
    assert await sweeper.sweep() == 0
    await claim_other(scene, route)


async def claim_other(scene: Scene, route: Route) -> None:
    """What is no edge's (another kind of owner) is left to its own kind, however dead it is."""
    await scene.place.house.leases.append(
        route.session, [], call_facts=(route.interaction, "robot-1", b'{"tenant":"default","trunk":"callers"}')
    )
    await asyncio.sleep(0.25)
    assert await scene.place.edge.orphans.sweep() == 0


async def test_a_known_dead_neighbour_is_not_waited_for(stage: Stage) -> None:
    scene = await stage()
    await claim(scene.place, "edge-gone.1.a", scene.dialled)
    await scene.place.house.leases.beat("edge-gone.1.a", 60_000)
    assert (await scene.interaction()).reason == "owner_lost"


async def test_a_claim_that_redis_took_without_saying_so_is_given_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "CLAIMING", 0.2)
    monkeypatch.setattr(orphans, "SWEEP_SECONDS", 0.1)
    scene = await stage()
    asked = routes.claim

    async def lost(*given: Any, **named: Any) -> Route | Refusal:
        await asked(*given, **named)
        raise Unavailable("the answer was lost")

    with monkeypatch.context() as losing:
        losing.setattr(routes, "claim", lost)
        scene.call()
        assert (await scene.caller.expect(Failed)).status == 503
    assert (await scene.interaction()).status == "failed"
    async with asyncio.timeout(2.0):
        while scene.place.edge.exchange.unsure:
            await asyncio.sleep(0.01)
    scene.call()  # its slot is free
    await scene.callee.expect(Invited)


async def test_a_long_call_of_ours_is_no_orphan(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "CLAIMING", 0.0)
    scene = await stage()
    leg = scene.call()
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    assert await scene.place.edge.orphans.sweep() == 0
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    assert (await scene.interaction()).status == "completed"


async def test_the_end_of_a_call_is_told_once_whoever_tells_it_first(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call()
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    (call,) = scene.place.edge.exchange.calls.values()
    assert call.facts is not None
    ending = interactions.Ending(blame="platform", reason="owner_lost", sip_code=200)
    assert await interactions.ended(scene.place.house, call.facts, scene.place.house.now(), ending)
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    await scene.place.idle()
    timeline = await sessions.timeline(scene.place.house, ACCESS, scene.session)
    assert [one.data["reason"] for one in timeline if one.type == "call.ended"] == ["owner_lost"]


async def test_a_snapshot_opens_only_for_its_own_call(open_edge: Opener, phones: Make) -> None:
    place = await open_edge(trunk("all", phones(DRIVER)))
    flow = Flow("udp", ("127.0.0.1", 5060), ("127.0.0.1", 5061))
    dialog = Dialog("leg", "id", "a", "b", f"<sip:{X[0]}@x>", f"<sip:{DRIVER}@y>", f"sip:{DRIVER}@y", flow, local_seq=3)
    snapshot = snapshots.Snapshot(tenant="default", trunk="callees", answered_at=5.0)
    state = snapshots.write(place.house, "int_one", snapshot, [dialog])
    assert DRIVER[1:].encode() not in state and DRIVER[3:].encode() not in state
    found = snapshots.read(place.house, "int_one", state)
    assert found is not None and found[1] == [dialog] and found[0].answered_at == 5.0
    other = snapshots.read(place.house, "int_two", state)
    assert other is not None and other[1] == []
    assert snapshots.read(place.house, "int_one", b"\xff nonsense") is None
    begun = snapshots.read(place.house, "int_one", b'{"tenant":"default","trunk":"t","at":1.5}')
    assert begun is not None and begun[1] == []
