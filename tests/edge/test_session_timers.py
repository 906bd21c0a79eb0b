"""Session timers on each leg by itself, both roles (RFC 4028)."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from sipedge import session_timers
from sipedge.media import sdp
from sipedge.sip import called
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Requested, Responded
from sipedge.sip.messages import Response, parse
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Scene, Stage, X, trunk
from tests.edge.phones import Phone

TIMER = [("Supported", "timer")]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of seconds may be agreed on."""
    monkeypatch.setattr(called, "MIN_SE", 1)
    monkeypatch.setattr(session_timers, "AGAIN", 0.1)
    monkeypatch.setattr(session_timers, "back_off", lambda dice, owner: 0.1)


def response(*lines: str) -> Response:
    head = ["SIP/2.0 200 OK", "Via: SIP/2.0/UDP h;branch=z9hG4bK1", "From: <sip:a@b>;tag=1", "To: <sip:b@b>;tag=2"]
    read = parse("\r\n".join([*head, "Call-ID: c", "CSeq: 1 INVITE", *lines, "\r\n"]).encode())
    assert isinstance(read, Response)
    return read


async def answered(scene: Scene, *headers: tuple[str, str], caller: list[tuple[str, str]] | None = None) -> str:
    """A call whose callee's 200 carries these headers; the caller's leg."""
    leg = scene.call(headers=caller or [])
    invited = await scene.callee.expect(Invited)
    assert "timer" in invited.request.supported and invited.request.session_expires == 1800
    scene.callee.respond(invited, 200, body=scene.callee.sdp(), headers=list(headers))
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    return leg


async def refreshed(phone: Phone, status: int = 200, body: bytes = b"", **more: str) -> Requested:
    """The next refresh that comes here, answered so."""
    asked = await phone.expect(Requested, 3.0)
    headers = [(name.replace("_", "-"), value) for name, value in more.items()]
    phone.respond(asked, status, body=body, headers=headers)
    return asked


@pytest.mark.parametrize(
    ("headers", "granted", "required"),
    [
        ([("Session-Expires", "1800"), *TIMER], "1800;refresher=uac", frozenset({"timer"})),
        ([("Session-Expires", "90;refresher=UAC"), *TIMER], "90;refresher=uac", frozenset({"timer"})),
        ([("Session-Expires", "1800;refresher=uas"), *TIMER], "1800;refresher=uas", frozenset()),
        ([("x", "3600")], "3600;refresher=uas", frozenset()),  # compact, and put there by a proxy
        (TIMER, None, frozenset()),
    ],
)
async def test_a_proposed_interval_is_granted_and_refreshed_by_the_caller_where_it_can(
    stage: Stage, headers: list[tuple[str, str]], granted: str | None, required: frozenset[str]
) -> None:
    scene = await stage()
    scene.call(headers=headers)
    invited = await scene.callee.expect(Invited)
    scene.callee.answer(invited)
    ok = (await scene.caller.expect(Answered)).response
    assert (ok.header("session-expires"), ok.require) == (granted, required)
    assert "timer" in ok.supported
    assert invited.request.header("session-expires") == "1800"  # ours: an interval is each leg's own


async def test_what_the_caller_refreshes_goes_on_and_what_it_does_not_ends(stage: Stage, short: None) -> None:
    scene = await stage()
    interval = [("Session-Expires", "3"), *TIMER]
    leg = await answered(scene, caller=interval)
    await asyncio.sleep(1.2)
    scene.caller.endpoint.request(leg, "UPDATE", scene.caller.loop.time(), headers=interval)
    scene.caller.drive()
    ok = (await scene.caller.expect(Responded)).response
    assert ok is not None and ok.header("session-expires") == "3;refresher=uac" and ok.require == {"timer"}
    await asyncio.sleep(1.2)
    assert scene.place.edge.exchange.calls, "2.4 s: past the first interval's end"
    await scene.caller.expect(Ended, 2.0)
    await scene.callee.expect(Ended)
    told = await scene.interaction()
    assert (told.status, told.reason, told.hangup_by) == ("completed", "session_expired", "platform")


async def test_a_refresh_without_an_interval_ends_the_timer(stage: Stage, short: None) -> None:
    scene = await stage()
    leg = await answered(scene, caller=[("Session-Expires", "2"), *TIMER])
    scene.caller.request(leg, "UPDATE")
    ok = (await scene.caller.expect(Responded)).response
    assert ok is not None and ok.session_expires is None
    await scene.callee.silence(1.6)
    assert scene.place.edge.exchange.calls


async def test_we_refresh_by_update_where_the_callee_leaves_it_to_us(stage: Stage, short: None) -> None:
    scene = await stage()
    await answered(scene, ("Session-Expires", "2;refresher=uac"), ("Require", "timer"))
    for interval in ("2;refresher=uac", "", ""):
        asked = await (refreshed(scene.callee, Session_Expires=interval) if interval else refreshed(scene.callee))
        assert (asked.request.method, asked.request.body) == ("UPDATE", b"")
        assert asked.request.header("session-expires") == "2;refresher=uac" and "timer" in asked.request.supported
    await refreshed(scene.callee, Session_Expires="2;refresher=uas")
    await scene.callee.expect(Ended, 3.0)  # it took the refreshing over, and does none


async def test_a_callee_that_takes_no_update_is_refreshed_by_a_re_invite_and_may_move_in_it(
    stage: Stage, short: None
) -> None:
    scene = await stage()
    scene.callee.endpoint = Endpoint(entropy=os.urandom, methods=("INVITE", "ACK", "BYE", "CANCEL"))
    await answered(scene, ("Session-Expires", "2;refresher=uac"))
    first = next(data for data in scene.callee.heard if data.startswith(b"INVITE"))
    asked = await refreshed(scene.callee, body=scene.callee.sdp(codecs="0"))
    assert asked.request.method == "INVITE" and first.endswith(asked.request.body)
    await scene.callee.expect(Acked)
    await refreshed(scene.callee, body=scene.callee.sdp(host="198.51.100.7"))
    await scene.callee.expect(Acked)
    await refreshed(scene.callee, status=481)
    await scene.caller.expect(Ended, 2.0)
    told = await scene.interaction()
    assert (told.reason, told.legs[1].codec) == ("session_expired", "PCMU")
    assert scene.place.edge.exchange.counts["renegotiations_failed"] == 1


async def test_a_refresh_that_is_refused_is_tried_again_until_the_interval_is_over(stage: Stage, short: None) -> None:
    scene = await stage()
    await answered(scene, ("Session-Expires", "6;refresher=uac"))
    assert (await refreshed_after(scene.callee, 491)) < 0.5
    assert (await refreshed_after(scene.callee, 500)) < 0.5
    assert (await refreshed_after(scene.callee, 422, Min_SE="7")) < 0.5
    asked = await refreshed(scene.callee, 422)
    assert asked.request.session_expires == 7
    for _ in range(3):
        await refreshed(scene.callee, 500)
    while not any(data.startswith(b"BYE") for data in scene.callee.heard):
        await asyncio.sleep(0.01)
    assert (await scene.interaction()).reason == "session_expired"


async def refreshed_after(phone: Phone, status: int, **more: str) -> float:
    """Refuses the next refresh; how long after that the one after it comes."""
    asked = await phone.expect(Requested, 4.0)
    phone.respond(asked, status, headers=[(name.replace("_", "-"), value) for name, value in more.items()])
    at = phone.loop.time()
    again = await phone.expect(Requested, 4.0)
    phone._events.put_nowait(again)
    return phone.loop.time() - at


async def test_a_refresh_waits_for_a_re_invite_of_the_peers(stage: Stage, short: None) -> None:
    scene = await stage()
    scene.callee.endpoint = Endpoint(entropy=os.urandom, methods=("INVITE", "ACK", "BYE", "CANCEL"))
    await answered(scene, ("Session-Expires", "3;refresher=uac"))
    (call,) = scene.place.edge.exchange.calls.values()
    circuit = call.circuit
    assert circuit.callee is not None
    assert sdp.parse(circuit.callee.description).audio is not None
    asked = await scene.callee.expect(Requested, 3.0)  # ours is under way: another has to wait
    assert circuit.request(circuit.callee, "INVITE", [], b"") is None
    scene.callee.respond(asked, 200, body=scene.callee.sdp())
    await scene.callee.expect(Acked)


def test_an_interval_that_cannot_be_read_is_none() -> None:
    assert session_timers.accepted(response("Session-Expires: soon"), 0.0) is None
    assert session_timers.accepted(response("Session-Expires: 90;;=x"), 0.0) is None
    assert session_timers.accepted(response(), 0.0) is None
    assert not session_timers.takes_update(response("Allow: ,"))
    assert session_timers.takes_update(response("Allow: INVITE, UPDATE"))
    assert session_timers.min_se(response("Min-SE: x")) == session_timers.min_se(response()) == 0


def test_an_interval_ends_its_margin_earlier() -> None:
    timer = session_timers.SessionTimer(1800, True, 100.0)
    assert (timer.due, timer.ends) == (1000.0, 1868.0)
    assert session_timers.SessionTimer(90, False, 0.0).due == 60.0


def test_who_owns_the_call_id_waits_longer_after_glare() -> None:
    dice = random.Random(1)
    owner = [session_timers.back_off(dice, True) for _ in range(500)]
    other = [session_timers.back_off(dice, False) for _ in range(500)]
    assert 2.1 <= min(owner) and max(owner) <= 4.0 and 0.0 <= min(other) and max(other) <= 2.0


async def test_whoever_wants_a_longer_interval_is_asked_again_with_it(stage: Stage) -> None:
    """RFC 4028 7.4: 422 names the least interval that is taken."""
    scene = await stage()
    scene.call()
    scene.callee.respond(await scene.callee.expect(Invited), 422, headers=[("Min-SE", "2400")])
    invited = await scene.callee.expect(Invited)
    assert invited.request.session_expires == 2400
    scene.callee.respond(invited, 422, headers=[("Min-SE", "3600")])
    assert (await scene.caller.expect(Failed)).status == 480  # who changes his mind is not asked a third time


async def test_no_interval_is_proposed_where_the_operator_wants_none(open_edge: Opener, phones: Make) -> None:
    caller, callee = phones(CUSTOMER), phones(DRIVER)
    place = await open_edge(trunk("callers", caller), trunk("callees", callee), session_expires=0)
    await place.numbers(X[0], trunk="callees")
    await place.session(CUSTOMER, DRIVER)
    caller.call(place.address, X[0])
    assert (await callee.expect(Invited)).request.session_expires is None
