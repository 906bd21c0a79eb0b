"""The story of a masked call, told by two phones."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import os
import weakref
from typing import Any

import msgspec
import pytest

from masking import locks, numbering, routes
from masking.consent import ConsentPolicy
from masking.house import Unavailable
from masking.routes import Claimed
from sipedge import calls
from sipedge.media import spoken
from sipedge.media.plane import PlaneGone, RecordingFailed
from sipedge.sip.events import Acked, Answered, Cancelled, Ended, Failed, Invited, Progressed, Requested, Responded
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Scene, Stage, X, trunk
from tests.edge.phones import Phone, media_of


async def up(scene: Scene) -> tuple[str, Invited, Answered]:
    """A call that both phones are in: the caller's leg, what the callee got, what the caller got."""
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    answered = await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    return leg, invited, answered


async def talk(scene: Scene, invited: Invited, answered: Answered, seconds: float = 0.2) -> bool:
    """Do both phones hear each other?"""
    to_caller, to_callee = media_of(answered.response.body), media_of(invited.request.body)
    for start in range(0, round(seconds / 0.02)):
        scene.caller.speak(to_caller, 17, 1, start)
        scene.callee.speak(to_callee, 23, 1, start)
        await asyncio.sleep(0.02)
    return scene.callee.heard_marker(17) and scene.caller.heard_marker(23)


async def test_a_masked_call_rings_bridges_and_ends(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    assert invited.request.uri.digits == DRIVER
    assert invited.request.from_.uri.digits == scene.shown
    assert [one.uri.digits for one in invited.request.identities] == [scene.shown]
    scene.callee.respond(invited, 180)
    ringing = await scene.caller.expect(Progressed)
    assert (ringing.status, ringing.response.body) == (180, b"")
    scene.callee.answer(invited)
    answered = await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    assert (await scene.caller.expect(Responded)).status == 200
    told = await scene.interaction()
    assert (told.status, told.hangup_by, told.answered_by, told.decision) == ("completed", "caller", "callee", "routed")
    assert [(leg.trunk, leg.sip_code, leg.q850, leg.codec) for leg in told.legs] == [
        ("callers", 200, 16, "PCMA"),
        ("callees", 200, 16, "PCMA"),
    ]
    assert told.ringing_at is not None and told.billable > 0.2 and 0 < told.conversation <= told.billable


async def test_a_recorded_call_tells_both_before_they_hear_each_other(stage: Stage) -> None:
    scene = await stage(record="always", languages=("en", None))
    leg, invited, answered = await up(scene)
    assert not await talk(scene, invited, answered, 0.1)
    assert len(scene.caller.audio) > 1 and len(scene.callee.audio) > 1  # the notice
    await scene.bridged()
    assert await talk(scene, invited, answered)
    scene.callee.hang_up(invited.leg)
    await scene.caller.expect(Ended)
    told = await scene.interaction()
    assert told.hangup_by == "callee" and len(told.recordings) == 1
    bridged = await scene.event("call.bridged")
    assert sorted((one["leg"], one["asset"]) for one in bridged["notices"]) == [
        (1, "en/recording_notice"),
        (2, "vi/recording_notice"),
    ]
    assert all(0 <= one["at"] < one["to"] for one in bridged["notices"])
    started = await scene.event("recording.started")
    assert [(one["index"], one["role"]) for one in started["channels"]] == [(1, "r0"), (2, "r1")]
    assert list(scene.place.config.spool_dir.glob(f"{told.recordings[0]}*"))
    assert leg


async def test_a_recording_that_a_beep_tells_of_beeps_on_while_it_runs(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BEEPS_EVERY", 0.6)
    scene = await stage(policy=ConsentPolicy(default="beep"), record="always")
    _leg, invited, answered = await up(scene)
    await scene.bridged()
    beeped = len(scene.caller.audio), len(scene.callee.audio)
    assert min(beeped) >= 10, "0.3 s before anything is kept"
    await talk(scene, invited, answered, 1.2)
    scene.callee.hang_up(invited.leg)
    told = await scene.interaction()
    bridged = await scene.event("call.bridged")
    assert sorted((one["leg"], one["asset"], one["sha256"]) for one in bridged["notices"]) == [
        (1, "beep", spoken.BEEP.sha256),
        (2, "beep", spoken.BEEP.sha256),
    ]
    assert len(told.recordings) == 1
    beeps = [packet for packet in scene.callee.audio if packet[12:] != bytes([17]) * 160]
    assert len(beeps) >= 2 * 14, "and once more, at least"


async def test_nobody_is_told_where_nobody_has_to_be(stage: Stage) -> None:
    scene = await stage(policy=ConsentPolicy(default="one_party"), record="always", recording_notice=None)
    leg, invited, answered = await up(scene)
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    assert len((await scene.interaction()).recordings) == 1
    assert (await scene.event("call.bridged"))["notices"] == []


async def test_a_recording_that_cannot_begin_is_not_announced_and_the_call_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage(record="always")
    monkeypatch.setattr(type(scene.place.config), "spool_dir", scene.place.config.key_path / "no folder")
    leg, invited, answered = await up(scene)
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    assert (await scene.interaction()).recordings == []
    assert scene.place.edge.exchange.counts["recordings_not_begun"] == 1
    assert (await scene.event("recording.failed"))["reason"] == "disk_error"


async def test_a_disk_that_fills_up_in_a_call_is_told_and_the_call_goes_on(stage: Stage) -> None:
    scene = await stage(record="always")
    leg, invited, answered = await up(scene)
    await scene.bridged()
    recording = (await scene.event("recording.started"))["recording"]
    (call,) = scene.place.edge.exchange.calls.values()
    call.circuit.inbox.put(RecordingFailed(call.id, recording, os.strerror(errno.ENOSPC)))
    failed = await scene.event("recording.failed")
    assert (failed["recording"], failed["reason"]) == (recording, "disk_full")
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    assert (await scene.interaction()).recordings == [recording]


async def test_without_a_key_to_seal_to_nothing_is_recorded_and_the_call_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage(record="always")
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    await scene.place.house.redis.command("DEL", "lock:default")
    leg, invited, answered = await up(scene)
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    assert (await scene.interaction()).recordings == []
    assert scene.place.edge.exchange.counts["recordings_not_begun"] == 1
    assert (await scene.event("recording.failed"))["reason"] == "no_key"


async def test_a_key_is_remembered_while_redis_is_away_and_its_successor_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = (await stage()).place.house
    known = await locks.lock_of(house, "default")
    await locks.tell(house, "default", locks.Lock("k2", known.public))
    assert await locks.lock_of(house, "default") == known
    monkeypatch.setattr(locks, "REMEMBERED", 0.0)
    assert (await locks.lock_of(house, "default")).key == "k2"
    object.__setattr__(house, "redis", Away())
    assert (await locks.lock_of(house, "default")).key == "k2"
    with pytest.raises(locks.NoLock):
        await locks.lock_of(house, "another")


class Away:
    """A Redis that does not answer."""

    async def command(self, *words: object) -> None:
        raise Unavailable("no answer within the budget")


async def test_the_callee_calls_back_the_number_it_saw(open_edge: Opener, phones: Make) -> None:
    customer, driver = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("all", customer, driver))  # what leaves by it goes to the customer
    await place.numbers(*X[:2])
    session = await place.session(CUSTOMER, DRIVER)
    driver.call(place.address, session.participants[1].proxies[0].number)
    invited = await customer.expect(Invited)
    assert invited.request.uri.digits == CUSTOMER
    assert invited.request.from_.uri.digits == session.participants[0].proxies[0].number


@pytest.mark.parametrize(
    ("said", "heard", "status", "cause"),
    [
        (486, 486, "busy", 17),
        (600, 486, "busy", 17),
        (603, 603, "declined", 21),
        (404, 404, "failed", None),
        (484, 484, "failed", None),
        (488, 488, "failed", None),
        (410, 480, None, None),
        (302, 480, None, None),
        (401, 480, None, None),
    ],
)
async def test_what_the_callee_says_reaches_the_caller_in_our_words(
    stage: Stage, said: int, heard: int, status: str | None, cause: int | None
) -> None:
    scene = await stage()
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(
        invited, said, reason="Chi Lan, +84907654321", headers=[("Contact", "<sip:elsewhere@9.9.9.9>")]
    )
    failed = await scene.caller.expect(Failed)
    assert failed.status == heard
    assert cause is None or (failed.response is not None and failed.response.cause == cause)
    assert b"Lan" not in scene.caller.heard[-1] and b"9.9.9.9" not in scene.caller.heard[-1]
    told = await scene.interaction()
    assert told.legs[1].sip_code == said
    assert status is None or told.status == status
    missed = await scene.event("call.missed")
    assert (missed["interaction"], missed["participant"], missed["caller"]) == (told.id, told.to, told.from_)
    assert missed["reason"] == {"failed": "unreachable", None: "unreachable"}.get(status, status)
    assert missed["call_back"] == {"number": scene.shown, "extension": None}


async def test_a_callee_that_does_not_answer_is_cancelled(stage: Stage) -> None:
    scene = await stage(ring_timeout=5)
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 180)
    await scene.caller.expect(Progressed)
    failed = await scene.caller.expect(Failed, 7.0)
    assert failed.status == 480 and failed.response is not None and failed.response.cause == 19
    await scene.callee.expect(Cancelled)
    assert (await scene.interaction()).status == "no_answer"


async def test_a_caller_that_gives_up_stops_the_ringing(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 183, body=scene.callee.sdp())
    ringing = await scene.caller.expect(Progressed)
    assert (ringing.status, ringing.response.body) == (180, b"")
    scene.caller.cancel(leg)
    await scene.callee.expect(Cancelled)
    assert (await scene.caller.expect(Failed)).status == 487
    told = await scene.interaction()
    assert (told.status, told.hangup_by) == ("canceled", "caller")
    assert (await scene.event("call.missed"))["reason"] == "canceled"


async def test_an_answer_that_crosses_a_cancel_is_ended(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 180)
    await scene.caller.expect(Progressed)
    scene.caller.cancel(leg)
    scene.callee.answer(invited)
    await scene.callee.expect(Acked)
    await scene.callee.expect(Ended)
    assert (await scene.caller.expect(Failed)).status == 487
    assert (await scene.interaction()).status == "canceled"


async def test_a_caller_without_a_description_gets_our_offer_and_answers_in_the_ack(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call(body=b"")
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    answered = await scene.caller.expect(Answered)
    scene.caller.endpoint.acknowledge(leg, scene.caller.sdp(codecs="0 101"), scene.caller.loop.time())
    scene.caller.drive()
    await scene.callee.expect(Acked)
    await scene.bridged()
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert [one.codec for one in told.legs] == ["PCMU", "PCMA"] and answered.response.body


async def test_a_caller_that_never_acknowledges_is_hung_up_on_and_so_is_the_callee(stage: Stage) -> None:
    scene = await stage()
    scene.caller.no_ack = True
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    scene.place.edge.endpoint.timeout(scene.caller.loop.time() + 32.5)  # 64*T1, and a little
    scene.place.edge.driver.drive()
    await scene.callee.expect(Ended)
    await scene.caller.expect(Ended)
    assert (await scene.interaction()).reason == "no_ack"


async def test_an_offer_outside_the_trunks_media_networks_is_refused(stage: Stage) -> None:
    scene = await stage()
    scene.call(body=scene.caller.sdp(host="198.51.100.7"))
    assert (await scene.caller.expect(Failed)).status == 488
    await scene.callee.silence(0.05)
    assert scene.place.edge.exchange.counts["media_outside"] == 1
    assert (await scene.interaction()).legs[0].sip_code == 488


async def test_an_answer_outside_the_trunks_media_networks_ends_both_legs(stage: Stage) -> None:
    scene = await stage()
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited, scene.callee.sdp(host="198.51.100.7"))
    await scene.callee.expect(Acked)
    await scene.callee.expect(Ended)
    assert (await scene.caller.expect(Failed)).status == 480
    assert scene.place.edge.exchange.counts["media_outside"] == 1


async def test_of_a_multipart_body_the_description_alone_is_read(stage: Stage) -> None:
    scene = await stage()
    parts = (
        b"--x\r\nContent-Type: application/isup;version=x\r\n\r\nCANARY\r\n--x\r\nContent-Type: application/sdp\r\n\r\n"
    )
    body = parts + scene.caller.sdp() + b"\r\n--x--\r\n"
    scene.call(body=body, content_type="multipart/mixed;boundary=x")
    invited = await scene.callee.expect(Invited)
    assert invited.request.content_type == "application/sdp" and b"CANARY" not in scene.callee.heard[0]
    scene.callee.answer(invited)
    assert (await scene.caller.expect(Answered)).response.content_type == "application/sdp"


async def test_a_call_beyond_the_sessions_limit_is_busy(stage: Stage) -> None:
    scene = await stage()
    await up(scene)
    scene.call()
    assert (await scene.caller.expect(Failed)).status == 486


async def test_a_call_ends_when_its_time_is_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage()
    asked = routes.claim

    async def short(*given: Any, **named: Any) -> Claimed:
        route = await asked(*given, **named)
        return msgspec.structs.replace(route, call_time_limit=1)

    monkeypatch.setattr(routes, "claim", short)
    await up(scene)
    await scene.caller.expect(Ended)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert (told.status, told.hangup_by, told.reason) == ("completed", "platform", "limit")
    assert 0.9 < told.billable < 1.5


async def test_a_caller_who_cannot_be_heard_of_a_failure_of_ours_gets_500_and_the_log_no_number(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = await stage()

    def broken(country: str, spelled: str) -> bool:
        raise RuntimeError(f"cannot read {spelled} in sip:{CUSTOMER}")

    monkeypatch.setattr(numbering, "is_emergency", broken)
    scene.call()
    assert (await scene.caller.expect(Failed)).status == 500
    said = capsys.readouterr()
    assert "call_failed" in said.out + said.err and CUSTOMER[1:] not in said.out + said.err
    monkeypatch.undo()
    await up(scene)


async def test_two_countries_each_see_a_number_of_their_own(open_edge: Opener, phones: Make) -> None:
    vietnam, russia = phones(CUSTOMER), phones("+79161234567")
    place = await open_edge(
        trunk("vn", vietnam, number_format="national"), trunk("ru", russia, country="RU", number_format="e164")
    )
    await place.numbers(X[0], trunk="vn")
    await place.numbers("+74951234567", trunk="ru", country="RU")
    session = await place.session(CUSTOMER, "+79161234567")
    dials, shows = (session.participants[index].proxies[0].number for index in (0, 1))
    assert (dials, shows) == (X[0], "+74951234567")
    national = "0" + X[0].removeprefix("+84")
    vietnam.call(place.address, national, from_="<sip:0901234567@carrier.example;user=phone>")
    invited = await russia.expect(Invited)
    assert (invited.request.uri.user, invited.request.from_.uri.user) == ("79161234567", "74951234567")


async def test_leaving_refuses_new_calls_and_ends_those_that_are_up(stage: Stage) -> None:
    scene = await stage()
    leg, _, _ = await up(scene)
    leaving = asyncio.create_task(scene.place.edge._drain(0.3))
    await asyncio.sleep(0)
    scene.call()
    refused = await scene.caller.expect(Failed)
    assert refused.status == 503 and refused.response is not None and 1 <= (refused.response.retry_after or 0) <= 5
    await scene.caller.expect(Ended)
    await scene.callee.expect(Ended)
    await leaving
    told = await scene.interaction()
    assert (told.reason, told.hangup_by) == ("shutdown", "platform") and leg


async def test_a_call_whose_every_phone_is_gone_from_the_air_ends(stage: Stage) -> None:
    scene = await stage(media={"silence_timeout": 1})
    await up(scene)
    await scene.caller.expect(Ended)
    await scene.callee.expect(Ended)
    assert (await scene.interaction()).reason == "media_silent"


async def test_one_silent_phone_ends_no_call_nor_do_two_that_are_silent_in_turns(stage: Stage) -> None:
    scene = await stage(media={"silence_timeout": 1})
    _, invited, answered = await up(scene)
    counts = scene.place.edge.exchange.counts
    turns = itertools.cycle(((scene.caller, answered.response.body), (scene.callee, invited.request.body)))
    count = itertools.count()
    for told, (phone, to) in zip((1, 2), turns, strict=False):
        while counts["legs_silent"] < told:  # the other one, each time
            phone.speak(media_of(to), 5, 1, next(count))
            await asyncio.sleep(0.1)
            assert scene.place.edge.exchange.calls
    await scene.caller.expect(Ended, 4.0)
    assert (await scene.interaction()).reason == "media_silent"


async def test_both_are_warned_before_their_time_is_over(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage()
    asked = routes.claim

    async def short(*given: Any, **named: Any) -> Claimed:
        return msgspec.structs.replace(await asked(*given, **named), call_time_limit=2, warning_at=1)

    monkeypatch.setattr(routes, "claim", short)
    await up(scene)
    began = asyncio.get_running_loop().time()
    while len(scene.caller.audio) < 20 or len(scene.callee.audio) < 20:
        await asyncio.sleep(0.02)
    assert 0.9 < asyncio.get_running_loop().time() - began < 1.9
    await scene.caller.expect(Ended)
    await scene.callee.expect(Ended)
    assert (await scene.interaction()).reason == "limit"


async def test_who_cannot_be_warned_talks_on_until_the_limit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage()
    asked = routes.claim

    async def short(*given: Any, **named: Any) -> Claimed:
        return msgspec.structs.replace(await asked(*given, **named), call_time_limit=2, warning_at=1)

    async def gone(*given: object) -> int:
        raise PlaneGone("not connected")

    monkeypatch.setattr(routes, "claim", short)
    monkeypatch.setattr(scene.place.edge.plane, "warn", gone)
    await up(scene)
    await scene.caller.expect(Ended)
    told = await scene.interaction()
    assert told.reason == "limit" and told.billable > 1.9


async def test_early_media_passes_only_on_trunks_that_say_so(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee, early_media="pass"))
    await place.numbers(X[0], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER, record="always")
    scene = Scene(place, caller, callee, session)
    leg = scene.call()
    invited = await callee.expect(Invited)
    callee.respond(invited, 183, body=callee.sdp())
    assert (await caller.expect(Progressed)).status == 180
    early = await caller.expect(Progressed)
    assert early.status == 183
    callee.speak(media_of(invited.request.body), 29)
    async with asyncio.timeout(2.0):
        while not caller.heard_marker(29):
            await asyncio.sleep(0.005)
    callee.answer(invited)
    answered = await caller.expect(Answered)
    assert media_of(answered.response.body) == media_of(early.response.body)
    before = len(callee.audio)
    async with asyncio.timeout(2.0):
        while len(callee.audio) == before:  # the notice has begun
            await asyncio.sleep(0.005)
    callee.speak(media_of(invited.request.body), 31, start=100)
    await asyncio.sleep(0.1)
    assert not caller.heard_marker(31)
    await scene.bridged()
    caller.hang_up(leg)
    await callee.expect(Acked)
    await callee.expect(Ended)


async def test_nothing_of_an_ended_call_is_kept(stage: Stage) -> None:
    scene = await stage()
    for _ in range(3):
        leg, _, _ = await up(scene)
        scene.caller.hang_up(leg)
        await scene.callee.expect(Ended)
        await scene.caller.expect(Responded)
        await scene.place.idle()
    driver = scene.place.edge.driver
    assert driver._legs == {} and driver._asked == {} and scene.place.edge.plane._hear == {}
    assert await scene.place.edge.plane.calls() == ()


async def test_without_its_notice_a_call_is_not_recorded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(record="always")
    for key, asset in spoken.ASSETS.items():
        missing = msgspec.structs.replace(asset, path=asset.path.with_name("missing.wav"))
        monkeypatch.setitem(spoken.ASSETS, key, missing)
    leg, invited, answered = await up(scene)
    await scene.bridged()
    assert await talk(scene, invited, answered)
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    assert (await scene.event("call.bridged"))["notices"] == []


async def test_who_leaves_during_the_notice_had_no_conversation(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage(record="always")
    leg, _, _ = await up(scene)
    await asyncio.sleep(0.1)
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert (told.status, told.conversation, told.bridged_at) == ("completed", 0.0, None) and told.billable > 0


async def test_an_answer_in_the_ack_that_cannot_be_used_ends_both(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call(body=b"")
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.caller.expect(Answered)
    scene.caller.endpoint.acknowledge(leg, scene.caller.sdp(host="198.51.100.7"), scene.caller.loop.time())
    scene.caller.drive()
    await scene.callee.expect(Acked)
    await scene.callee.expect(Ended)
    assert (await scene.caller.expect(Ended)).request.cause == 88
    assert (await scene.interaction()).reason == "media"


async def test_requests_that_are_no_part_of_the_story_get_sensible_answers(stage: Stage) -> None:
    scene = await stage()
    leg, _, _ = await up(scene)
    for method, status in (("PRACK", 400), ("OPTIONS", 200), ("INFO", 200), ("REFER", 405), ("MESSAGE", 405)):
        scene.caller.request(leg, method)
        assert (await scene.caller.expect(Responded)).status == status, method


async def test_an_ended_call_waits_for_no_collector(stage: Stage) -> None:
    scene = await stage()
    gc.collect()
    gc.disable()
    try:
        leg, _, _ = await up(scene)
        await scene.bridged()
        (call,) = scene.place.edge.exchange.calls.values()
        kept: list[weakref.ref[Any]] = [weakref.ref(call), weakref.ref(call.circuit), weakref.ref(call.circuit.caller)]
        del call
        scene.caller.hang_up(leg)
        await scene.callee.expect(Ended)
        await scene.place.idle()
        await asyncio.sleep(0.01)
        assert [type(one()).__name__ for one in kept if one() is not None] == []
    finally:
        gc.enable()


async def test_our_own_call_that_the_network_sends_back_is_refused_and_the_call_goes_on(
    open_edge: Opener, phones: Make
) -> None:
    """The callee's phone forwards to one of our numbers: the call comes back showing the number it showed."""
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee))
    await place.numbers(*X[:2], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, session.participants[0].proxies[0].number)
    invited = await callee.expect(Invited)
    shows = session.participants[1].proxies[0].number
    for identity in ({"from_": f"<sip:{shows}@a>"}, {"headers": [("P-Asserted-Identity", f"<sip:{shows}@a>")]}):
        callee.call(place.address, X[1], **identity)
        failed = await callee.expect(Failed)
        assert failed.status == 482 and failed.response is not None and failed.response.cause == 25
    callee.answer(invited)
    await caller.expect(Answered)
    assert place.edge.exchange.counts["loops"] == 2
    for call in list(place.edge.exchange.calls.values()):
        call.leave()
    await place.idle()
    assert not place.edge.exchange.shown


NO_KEYS = "8 0"  # no telephone-event


async def test_a_key_told_by_info_reaches_a_phone_that_takes_telephone_events_as_such(stage: Stage) -> None:
    """RFC 4733 at the other end: one event, its marker on the first packet and its end three times."""
    scene = await stage()
    leg, _, _ = await up(scene)
    await scene.bridged()
    scene.caller.request(leg, "INFO", b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay")
    assert (await scene.caller.expect(Responded)).status == 200
    scene.caller.request(leg, "INFO", b"#", "application/dtmf")
    assert (await scene.caller.expect(Responded)).status == 200
    async with asyncio.timeout(3.0):
        while sum(packet[13] >= 0x80 for packet in scene.callee.audio) < 6:
            await asyncio.sleep(0.01)
    keys = [packet for packet in scene.callee.audio if packet[1] & 0x7F == 101]
    assert [(p[12], p[13] >= 0x80) for p in keys] == [(k, last) for k in (5, 11) for last in [False] * 8 + [True] * 3]
    assert [packet[1] >= 0x80 for packet in keys] == ([True] + [False] * 10) * 2
    assert len({packet[4:8] for packet in keys}) == 2, "every packet of a key carries the timestamp of its beginning"


async def test_a_key_reaches_a_phone_that_takes_none_in_its_audio_by_info(stage: Stage) -> None:
    scene = await stage()
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited, scene.callee.sdp(codecs=NO_KEYS))
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    scene.caller.request(leg, "INFO", b"Signal=*\r\nDuration=250\r\n", "application/dtmf-relay")
    assert (await scene.caller.expect(Responded)).status == 200
    told = (await scene.callee.expect(Requested)).request
    assert (told.method, told.content_type, told.body) == (
        "INFO", "application/dtmf-relay", b"Signal=*\r\nDuration=160\r\n"
    )  # fmt: skip


async def test_an_info_that_says_nothing_of_an_unreadable_type_harms_no_call(stage: Stage) -> None:
    scene = await stage()
    leg, _, _ = await up(scene)
    await scene.bridged()
    nothing = [("Content-Type", ";;no type")]
    scene.caller.endpoint.request(leg, "INFO", scene.caller.loop.time(), headers=nothing)
    scene.caller.drive()
    assert (await scene.caller.expect(Responded)).status == 200
    scene.caller.request(leg, "OPTIONS")
    assert (await scene.caller.expect(Responded)).status == 200
    assert [call.state for call in scene.place.edge.exchange.calls.values()] == ["bridged"]
    assert scene.place.edge.exchange.counts["faults"] == 0


def forked(invite: bytes, start: str, tag: str, body: bytes) -> bytes:
    """A response of one of several phones behind the callee's trunk, to an INVITE of ours."""
    lines = invite.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    kept = [line for line in lines if line.startswith(("Via:", "From:", "Call-ID:", "CSeq:"))]
    to = next(line for line in lines if line.startswith("To:")) + f";tag={tag}"
    more = ["Contact: <sip:fork@127.0.0.1:9>", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
    return "\r\n".join([f"SIP/2.0 {start}", *kept, to, *more, "", ""]).encode() + body


async def test_of_several_phones_early_media_one_is_heard_at_a_time_and_then_the_one_that_answers(
    open_edge: Opener, phones: Make
) -> None:
    """Forked 183s (RFC 3261 12.1.2, RFC 3960 3.1): the last one heard of speaks, the others go nowhere."""
    caller, one, two = phones(CUSTOMER), phones(DRIVER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", one, early_media="pass"))
    await place.numbers(X[0], trunk="callees")
    await place.session(CUSTOMER, DRIVER)
    one.deaf = True  # its answers are written by hand
    caller.call(place.address, X[0])
    async with asyncio.timeout(2.0):
        while not one.heard:
            await asyncio.sleep(0.01)
    invite = one.heard[0]
    relay = media_of(invite.partition(b"\r\n\r\n")[2])

    async def heard(phone: Phone, marker: int) -> bool:
        for start in range(10):
            phone.speak(relay, marker, 1, start)
            await asyncio.sleep(0.01)
        return caller.heard_marker(marker)

    one.send(forked(invite, "183 Session Progress", "one", one.sdp()), place.address)
    assert (await caller.expect(Progressed)).status == 180
    assert (await caller.expect(Progressed)).status == 183
    assert await heard(one, 31) and not await heard(two, 32)
    one.send(forked(invite, "183 Session Progress", "two", two.sdp()), place.address)
    await caller.expect(Progressed)
    assert await heard(two, 33) and not await heard(one, 34)
    one.send(forked(invite, "200 OK", "one", one.sdp()), place.address)
    await caller.expect(Answered)
    assert await heard(one, 35) and not await heard(two, 36)
    for call in list(place.edge.exchange.calls.values()):
        call.leave()
    await place.idle()
