"""A recording that the app begins, pauses and stops while the call is up: announced, obeyed, told."""

from __future__ import annotations

import asyncio

import pytest

from masking import demands, sessions
from masking.consent import ConsentPolicy
from masking.demands import Demand
from masking.refusals import Conflict, NotFound
from sipedge.sip.events import Acked, Answered, Invited
from tests.edge.conftest import ACCESS, Scene, Stage
from tests.edge.test_calls import talk, up


async def ask(scene: Scene, action: demands.Action, interaction: str | None = None) -> list[str]:
    wish = Demand(action=action, interaction=interaction)
    return (await demands.demand(scene.place.house, ACCESS, scene.session, wish)).interactions


async def told(scene: Scene, kind: str, seconds: float = 3.0) -> None:
    await scene.event(kind, seconds)


async def kinds(scene: Scene) -> list[str]:
    found = await sessions.timeline(scene.place.house, ACCESS, scene.session)
    return [event.type for event in found if event.type.startswith("recording.")]


async def test_a_recording_begins_in_the_call_once_both_have_been_told(stage: Stage) -> None:
    scene = await stage(record="on_demand", languages=("en", "vi"))
    leg, invited, answered = await up(scene)
    assert await talk(scene, invited, answered)
    assert await kinds(scene) == []
    (interaction,) = await ask(scene, "start")
    await told(scene, "recording.started")
    before = len(scene.caller.audio)
    await asyncio.sleep(0.5)
    assert len(scene.caller.audio) - before >= 10, "the notice"
    await ask(scene, "pause", interaction)
    await told(scene, "recording.paused")
    await ask(scene, "resume")
    await told(scene, "recording.resumed")
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    ended = await scene.interaction()
    assert ended.id == interaction and ended.recordings == ["rec_" + interaction.removeprefix("int_")]
    assert await kinds(scene) == ["recording.started", "recording.paused", "recording.resumed"]
    proof = (await scene.event("call.ended"))["notices"]
    assert sorted((one["leg"], one["asset"]) for one in proof) == [
        (1, "en/recording_notice"),
        (2, "vi/recording_notice"),
    ]
    assert list(scene.place.config.spool_dir.glob(f"{ended.recordings[0]}*"))


async def test_what_was_stopped_does_not_begin_again(stage: Stage) -> None:
    scene = await stage(record="always")
    leg, _invited, _answered = await up(scene)
    await scene.bridged()
    await ask(scene, "stop")
    await told(scene, "recording.stopped")
    for action in ("start", "pause", "resume", "stop"):
        await ask(scene, action)
    await asyncio.sleep(0.3)
    scene.caller.hang_up(leg)
    assert len((await scene.interaction()).recordings) == 1
    assert await kinds(scene) == ["recording.started", "recording.stopped"]


async def test_a_recording_asked_for_while_it_rings_begins_with_the_answer(stage: Stage) -> None:
    scene = await stage(record="on_demand")
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    await ask(scene, "start")
    async with asyncio.timeout(3.0):
        while not any(call._wanted for call in scene.place.edge.exchange.calls.values()):
            await asyncio.sleep(0.01)
    scene.callee.answer(invited)
    answered = await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    assert not await talk(scene, invited, answered, 0.1), "first the notice"
    await scene.bridged()
    scene.caller.hang_up(leg)
    assert len((await scene.interaction()).recordings) == 1
    assert len((await scene.event("call.bridged"))["notices"]) == 2


async def test_nothing_is_demanded_where_it_means_nothing(stage: Stage) -> None:
    scene = await stage(record="never")
    with pytest.raises(Conflict, match="is up"):
        await ask(scene, "start")
    leg, _invited, _answered = await up(scene)
    with pytest.raises(Conflict, match="record: never"):
        await ask(scene, "start")
    with pytest.raises(Conflict, match="is up"):
        await ask(scene, "pause", "int_another")
    with pytest.raises(NotFound):
        await demands.demand(scene.place.house, ACCESS, "ses_nobody", Demand(action="stop"))
    await ask(scene, "pause")
    scene.caller.hang_up(leg)
    await scene.interaction()
    assert await kinds(scene) == []


async def test_a_place_that_forbids_recordings_forbids_those_on_demand(stage: Stage) -> None:
    scene = await stage(policy=ConsentPolicy(default="never"), record="on_demand")
    leg, _invited, _answered = await up(scene)
    with pytest.raises(Conflict, match="forbids"):
        await ask(scene, "start")
    scene.caller.hang_up(leg)
    assert (await scene.interaction()).recordings == []
