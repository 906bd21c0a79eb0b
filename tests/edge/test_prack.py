"""Reliable provisional responses on each leg by itself (RFC 3262), by way of the edge."""

from __future__ import annotations

import asyncio
import os

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Acked, Answered, Failed, Invited, Progressed
from tests.edge.conftest import Stage
from tests.edge.phones import Phone
from tests.edge.test_calls import talk

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE", "OPTIONS", "INFO")


def speaks_100rel(phone: Phone) -> None:
    phone.endpoint = Endpoint(entropy=os.urandom, methods=METHODS, extensions=("100rel",))


def heard(phone: Phone, start: bytes) -> list[bytes]:
    return [data for data in phone.heard if data.startswith(start)]


async def test_a_caller_that_requires_it_gets_reliable_ringing_and_the_callee_hears_nothing_of_it(stage: Stage) -> None:
    scene = await stage()
    speaks_100rel(scene.caller)
    scene.call(headers=[("Require", "100rel")])
    invited = await scene.callee.expect(Invited)
    assert "100rel" in invited.request.supported and "require" not in invited.request.headers
    scene.callee.respond(invited, 180)
    ringing = await scene.caller.expect(Progressed)
    assert ringing.status == 180 and ringing.response.reliable is not None
    scene.callee.answer(invited)
    answered = await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    assert await talk(scene, invited, answered)
    assert not heard(scene.callee, b"PRACK")


async def test_a_callee_that_requires_it_is_acknowledged_and_may_leave_its_answer_out_of_the_200(stage: Stage) -> None:
    scene = await stage()
    speaks_100rel(scene.callee)
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 183, body=scene.callee.sdp(), headers=[("Require", "100rel"), ("RSeq", "41")])
    ringing = await scene.caller.expect(Progressed)
    assert (ringing.status, ringing.response.reliable) == (180, None)
    (prack,) = heard(scene.callee, b"PRACK")
    assert b"RAck: 41 1 INVITE\r\n" in prack
    scene.callee.answer(invited, b"")
    answered = await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    assert await talk(scene, invited, answered)


async def test_a_200_without_a_description_that_none_came_before_ends_both_legs(stage: Stage) -> None:
    scene = await stage()
    scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 183, body=scene.callee.sdp())
    await scene.caller.expect(Progressed)
    scene.callee.answer(invited, b"")
    assert (await scene.caller.expect(Failed)).status == 480


async def test_a_caller_that_never_acknowledges_its_ringing_is_refused(stage: Stage) -> None:
    scene = await stage()
    scene.call(headers=[("Require", "100rel")])  # and does not know what it asked for
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 180)
    await scene.caller.expect(Progressed)
    scene.place.edge.endpoint.timeout(scene.caller.loop.time() + 32.5)  # 64*T1, and a little
    scene.place.edge.driver.drive()
    told = await scene.interaction()
    while not heard(scene.caller, b"SIP/2.0 504"):
        await asyncio.sleep(0.01)
    assert (told.reason, told.hangup_by, told.legs[0].sip_code) == ("no_ack", "caller", 504)
