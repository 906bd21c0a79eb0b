"""What a caller hears and gets when there is no call to be made."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from masking import interactions, routes, sessions
from masking.latecalls import LateCallWish
from masking.routes import Claimed, Refusal, RefusedBy
from pools.redis import Unavailable
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Progressed
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, STRANGER, Make, Opener, Scene, Stage, X, trunk
from tests.edge.phones import Phone


async def refusal(phone: Phone) -> tuple[int, int | None, int]:
    """Early media, then the code: (status, Q.850 cause, packets heard)."""
    early = await phone.expect(Progressed)
    assert early.status == 183 and b"m=audio" in early.response.body
    failed = await phone.expect(Failed)
    assert failed.response is not None
    return failed.status, failed.response.cause, len(phone.audio)


async def test_whoever_is_not_bound_hears_the_same_and_gets_404(open_edge: Opener, phones: Make) -> None:
    stranger, callee = phones(STRANGER), phones(DRIVER)
    place = await open_edge(trunk("all", stranger, callee, uri=callee))
    await place.numbers(*X[:2])
    session = await place.session(CUSTOMER, DRIVER)
    dialled = session.participants[0].proxies[0].number
    unbound = next(x for x in X[:2] if x != dialled)
    withheld = "Anonymous <sip:anonymous@anonymous.invalid>"
    for number, from_ in (
        (dialled, None),  # a wrong caller
        (unbound, None),  # a number nobody uses now
        ("+84247199999", None),  # no number of ours
        (dialled, withheld),
        ("not-a-number", None),
    ):
        stranger.audio.clear()
        stranger.call(place.address, number, from_=from_)
        status, cause, packets = await refusal(stranger)
        assert (status, cause) == (404, 1) and 13 <= packets <= 17
    await callee.silence(0.01)


async def test_callers_who_hear_an_announcement_hold_no_place_at_the_door(open_edge: Opener, phones: Make) -> None:
    stranger, callee = phones(STRANGER), phones(DRIVER)
    place = await open_edge(trunk("all", stranger, callee, uri=callee))
    for _ in range(3):
        stranger.call(place.address, "+84247199999")
    for _ in range(3):
        await stranger.expect(Progressed)
    assert len(place.edge.exchange.calls) == 3
    assert place.edge.admission.opening == 0
    for _ in range(3):
        await stranger.expect(Failed)


async def test_an_ended_session_says_so_and_never_reaches_a_stranger(stage: Stage) -> None:
    scene = await stage()
    await sessions.close(scene.place.house, ACCESS, scene.session)
    scene.call()
    assert (await refusal(scene.caller))[:2] == (404, 1)
    told = await scene.interaction()
    assert (told.status, told.decision) == ("refused", "ended")
    assert scene.place.edge.exchange.counts["refused_ended"] == 1


async def test_a_late_call_reaches_the_support_number_which_sees_the_virtual_one(stage: Stage) -> None:
    late = LateCallWish(policy="forward", forward_to="+842473009999")
    scene = await stage(late_call=late, record="always")
    await sessions.close(scene.place.house, ACCESS, scene.session)
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    assert invited.request.uri.digits == "+842473009999"
    assert invited.request.from_.uri.digits == scene.dialled and CUSTOMER[1:].encode() not in scene.callee.heard[-1]
    scene.callee.answer(invited)
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert (told.status, told.decision, told.forwarded, told.recordings) == ("completed", "ended", True, [])


async def test_a_late_call_that_opens_the_session_again_is_a_call_as_any(stage: Stage) -> None:
    scene = await stage(late_call=LateCallWish(policy="reopen"))
    await sessions.close(scene.place.house, ACCESS, scene.session)
    leg = scene.call()
    assert (await scene.callee.expect(Invited)).request.uri.digits == DRIVER
    scene.caller.cancel(leg)
    await scene.caller.expect(Failed)
    told = await scene.interaction()
    assert (told.status, told.decision) == ("canceled", "routed")


@pytest.mark.parametrize("decision", ["mode", "direction", "blocked", "unavailable"])
async def test_what_a_session_does_not_allow_is_said_and_403(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, decision: RefusedBy
) -> None:
    scene = await stage()

    async def refused(*_: object, interaction: str, **__: object) -> Refusal:
        return Refusal(interaction=interaction, decision=decision, session=scene.session, tenant="default")

    monkeypatch.setattr(routes, "claim", refused)
    scene.call()
    assert (await refusal(scene.caller))[:2] == (403, 21)


async def test_an_emergency_number_is_never_masked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await stage()
    told: list[tuple[str, object]] = []

    async def refused(*_house: object, decision: str, data: dict[str, object], **_more: object) -> None:
        told.append((decision, data["trunk"]))

    monkeypatch.setattr(interactions, "refused", refused)
    for number in ("113", "115"):
        scene.caller.call(scene.place.address, number)
        assert (await refusal(scene.caller))[:2] == (403, 21)
    assert told == [("emergency", "callers")] * 2


async def test_without_a_description_or_with_a_silent_trunk_the_code_comes_at_once(
    open_edge: Opener, phones: Make
) -> None:
    stranger, mute = phones(STRANGER), phones(STRANGER)
    place = await open_edge(trunk("all", stranger), trunk("mute", mute, announce="none"))
    await place.numbers(X[0])
    stranger.call(place.address, X[0], body=b"")
    assert (await stranger.expect(Failed)).status == 404
    stranger.call(place.address, X[0], body=stranger.sdp(host="198.51.100.7"))
    assert (await stranger.expect(Failed)).status == 404
    mute.call(place.address, X[0])
    assert (await mute.expect(Failed)).status == 404


async def test_a_carrier_that_mutes_early_media_gets_an_answer_the_words_and_bye(
    open_edge: Opener, phones: Make
) -> None:
    caller = phones(CUSTOMER)
    place = await open_edge(trunk("all", caller, announce="answer"))
    await place.numbers(*X[:2])
    session = await place.session(CUSTOMER, DRIVER)
    await sessions.close(place.house, ACCESS, session.id)
    caller.call(place.address, session.participants[0].proxies[0].number)
    await caller.expect(Answered)
    ended = await caller.expect(Ended)
    assert ended.request.cause == 1 and 13 <= len(caller.audio) <= 17
    await place.idle()
    told = await place.interaction(session.id)
    assert (told.status, told.answered_by, told.billable) == ("refused", "platform", 0.0)


async def test_a_caller_may_hang_up_during_the_words(open_edge: Opener, phones: Make) -> None:
    stranger = phones(STRANGER)
    place = await open_edge(trunk("all", stranger))
    leg = stranger.call(place.address, "+84247199999")
    assert (await stranger.expect(Progressed)).status == 183
    stranger.cancel(leg)
    began = time.monotonic()
    assert (await stranger.expect(Failed)).status == 487
    assert time.monotonic() - began < 0.2
    await place.idle()


async def test_without_redis_a_caller_gets_503_at_once_and_calls_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage()
    leg, callee_leg = await _up(scene)

    async def away(*_: object, **__: object) -> object:
        raise Unavailable("gone")

    with monkeypatch.context() as gone:
        for question in ("route", "append", "beat"):
            gone.setattr(type(scene.place.house.leases), question, away)
        began = time.monotonic()
        scene.call()
        failed = await scene.caller.expect(Failed)
        assert failed.status == 503 and failed.response is not None and 1 <= (failed.response.retry_after or 0) <= 5
        assert time.monotonic() - began < 1.0
        scene.caller.hang_up(leg)
        await scene.callee.expect(Ended)
        await asyncio.sleep(0.15)
        assert scene.place.edge.exchange.facts.untold
    assert (await scene.interaction()).status == "completed"  # told once Redis was back
    assert callee_leg


async def test_a_trunks_own_limits_are_480_with_their_cause(open_edge: Opener, phones: Make) -> None:
    one, slow = phones(STRANGER), phones(STRANGER)
    place = await open_edge(trunk("one", one, max_calls=1), trunk("slow", slow, max_cps=1))
    for phone, cause in ((one, 34), (slow, 42)):
        phone.call(place.address, "+84247199999")
        assert (await phone.expect(Progressed)).status == 183
        phone.call(place.address, "+84247199999")
        failed = await phone.expect(Failed)
        assert failed.status == 480 and failed.response is not None and failed.response.cause == cause
        assert failed.response.retry_after is None
        assert (await phone.expect(Failed)).status == 404
    await place.idle()
    one.call(place.address, "+84247199999")
    assert (await one.expect(Progressed)).status == 183  # its place is free again


async def test_a_callee_whose_trunk_is_full_cannot_be_reached(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee, carrier="other", max_calls=1))
    await place.numbers(X[0], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER)
    place.edge.trunks.named["callees"].take()
    caller.call(place.address, session.participants[0].proxies[0].number)
    failed = await caller.expect(Failed)
    assert failed.status == 480 and failed.response is not None and failed.response.cause == 34
    await callee.silence(0.01)


async def _up(scene: Scene) -> tuple[str, str]:
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    return leg, invited.leg


async def test_behind_a_proxy_of_ours_a_call_without_its_trunk_is_refused(open_edge: Opener, phones: Make) -> None:
    front, callee = phones(CUSTOMER), phones(DRIVER)
    proxy = f"{front.address[0]}:{front.address[1]}"
    place = await open_edge(
        trunk("callees", callee), trunk("other", callee, sources=["192.0.2.9"], media=["127.0.0.1"]), proxies=[proxy]
    )
    await place.numbers(X[0], trunk="callees")
    session = await place.session(CUSTOMER, DRIVER)
    front.call(place.address, X[0])
    assert (await front.expect(Failed)).status == 403
    front.call(place.address, X[0], headers=[("X-Masking-Trunk", "nobody")])
    assert (await front.expect(Failed)).status == 403
    front.call(place.address, X[0], headers=[("X-Masking-Trunk", "other")])
    callee.respond(await callee.expect(Invited), 486)
    assert (await front.expect(Failed)).status == 486
    assert [leg.trunk for leg in (await place.interaction(session.id)).legs] == ["other", "callees"]


async def test_a_failure_before_the_story_begins_still_gets_a_final_answer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage()

    async def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(scene.place.edge.trunks), "of", broken)
    scene.call()
    assert (await scene.caller.expect(Failed)).status == 500
    assert scene.place.edge.exchange.counts["faults"] == 1


async def test_a_caller_who_leaves_while_the_core_is_asked_rings_nobody(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await stage()
    asked, hold = routes.claim, asyncio.Event()

    async def slow(*given: Any, **named: Any) -> Claimed:
        await hold.wait()
        return await asked(*given, **named)

    monkeypatch.setattr(routes, "claim", slow)
    leg = scene.call()
    await asyncio.sleep(0.05)
    scene.caller.cancel(leg)
    assert (await scene.caller.expect(Failed)).status == 487
    hold.set()
    assert (await scene.interaction()).status == "canceled"
    await scene.callee.silence(0.05)
