"""A call that is up when its session ends: it goes on, or ends with it where the session says so."""

from __future__ import annotations

import asyncio
import time

import pytest

from masking import routes, sessions
from masking.events import moment
from pools.redis import Unavailable
from sipedge import calls
from sipedge.sip.events import Ended
from tests.edge.conftest import ACCESS, Scene, Stage
from tests.edge.test_calls import up


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LOOKS_EVERY", 0.1)


async def ended_with_its_session(scene: Scene) -> None:
    for phone in (scene.caller, scene.callee):
        assert (await phone.expect(Ended)).request.cause == 16
    told = await scene.interaction()
    assert (told.status, told.reason, told.hangup_by) == ("completed", "session_end", "platform")


async def test_a_call_ends_when_its_sessions_time_is_over_and_both_are_warned(stage: Stage) -> None:
    ends = time.time() + 1.5
    scene = await stage(on_expiry_in_call="hangup", expires_at=moment(ends), call_time_limit=30, warning_at=1)
    await up(scene)
    while len(scene.caller.audio) < 20 or len(scene.callee.audio) < 20:
        await asyncio.sleep(0.02)
    assert time.time() < ends
    await ended_with_its_session(scene)
    assert ends - 0.1 < time.time() < ends + 0.6


async def test_a_call_ends_when_its_session_is_closed(stage: Stage) -> None:
    scene = await stage(on_expiry_in_call="hangup", warning_at=0)
    await up(scene)
    await scene.bridged()
    await sessions.close(scene.place.house, ACCESS, scene.session)
    await ended_with_its_session(scene)


async def test_a_session_that_is_prolonged_keeps_its_call_and_an_end_once_heard_stands_without_the_core(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage(on_expiry_in_call="hangup", expires_at=moment(time.time() + 0.7), warning_at=0)
    await up(scene)
    house = scene.place.house
    longer = moment(time.time() + 1.4)
    await sessions.extend(house, ACCESS, scene.session, ttl=None, expires_at=longer)
    await asyncio.sleep(0.9)
    assert scene.place.edge.exchange.calls, "its first end has passed"

    async def gone(*_: object) -> float:
        raise Unavailable("gone")

    monkeypatch.setattr(routes, "seconds_left", gone)
    await ended_with_its_session(scene)
    assert time.time() > longer.timestamp() - 0.1


async def test_else_a_call_outlives_its_session(stage: Stage) -> None:
    scene = await stage()
    leg, _, _ = await up(scene)
    await sessions.close(scene.place.house, ACCESS, scene.session)
    await asyncio.sleep(0.3)
    assert scene.place.edge.exchange.calls
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    assert (await scene.interaction()).reason == "hangup"
