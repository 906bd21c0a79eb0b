"""`*7` in a call."""

from __future__ import annotations

import asyncio

import pytest

from masking import barring
from sipedge.media.plane import Digit, PlaneGone
from sipedge.reporting import Keys
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Progressed, Responded
from tests.edge.conftest import Stage
from tests.edge.phones import media_of
from tests.edge.test_keypad import Keys as Pad


def pressed(keys: Keys, text: str, at: float = 1.0, way: str = "event", leg: int = 1) -> list[bool]:
    return [keys.complete(Digit("int_x", leg, key, 0.1, way), at) for key in text]  # type: ignore[arg-type]


def test_the_code_is_star_seven_within_seconds_by_one_leg_in_one_way() -> None:
    keys = Keys()
    assert pressed(keys, "7*17**") == [False] * 6
    assert pressed(keys, "7", at=4.5) == [False], "too late"
    assert pressed(keys, "*", leg=2) + pressed(keys, "7") == [False, False], "another phone's star"
    assert pressed(keys, "*", way="info") + pressed(keys, "7") == [False, False], "told in another way"
    assert pressed(keys, "*7", way="tone") == [False, False], "speech may sound so"
    assert pressed(keys, "**7") == [False, False, True]
    assert pressed(keys, "*7") == [False, False], "once a call"
    assert pressed(keys, "*7", leg=2) == [False, True]


@pytest.mark.parametrize("way", ["event", "info"])
async def test_whoever_keys_it_blocks_the_other_and_hears_that_it_was_taken(stage: Stage, way: str) -> None:
    scene = await stage(record="always")
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.callee.expect(Acked)
    await scene.caller.expect(Answered)
    await scene.bridged()
    scene.caller.audio.clear()
    scene.callee.audio.clear()
    pad = Pad(scene.callee, invited.leg, media_of(invited.request.body))
    await pad.press("*7", way)
    report = await scene.event("abuse.reported")
    await asyncio.sleep(0.4)
    assert len(scene.callee.audio) >= 15 and not [one for one in scene.caller.audio if one[1] & 0x7F == 8]
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert (told.status, report["interaction"]) == ("completed", told.id), "the call went on"
    assert (report["reported_by"], report["about"], report["via"]) == (told.to, told.from_, "keypad")
    assert report["recordings"] == told.recordings
    assert (await scene.event("recording.held"))["recording"] == told.recordings[0]
    (block,) = await barring.listing(scene.place.house, "default")
    assert (block.id, block.scope) == (report["block"], "pair")
    assert (await scene.caller.expect(Responded)).status == 200
    scene.call()
    assert (await scene.caller.expect(Progressed)).status == 183
    assert (await scene.caller.expect(Failed)).status == 403


async def test_a_report_that_cannot_be_confirmed_is_taken_all_the_same_and_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage()
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.callee.expect(Acked)
    await scene.caller.expect(Answered)
    await scene.bridged()

    async def gone(*_: object) -> int:
        raise PlaneGone

    monkeypatch.setattr(scene.place.edge.plane, "confirm", gone)
    (call,) = scene.place.edge.exchange.calls.values()
    keys = [Digit(call.id, 1, key, 0.1) for key in "*7*7"]
    for key in keys:
        call.circuit.inbox.put(key)
    report = await scene.event("abuse.reported")
    assert report["reported_by"] == (await scene.event("call.initiated"))["from"]
    scene.caller.hang_up(leg)
    await scene.interaction()
    assert scene.place.edge.exchange.counts["reports_by_key"] == 1
    assert len(await barring.listing(scene.place.house, "default")) == 1
