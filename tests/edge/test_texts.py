"""SIP MESSAGE on a trunk: 405, relayed to nobody, and the session it was meant for knows."""

from __future__ import annotations

import asyncio

import pytest

from masking import interactions, sessions
from masking.interactions import Interaction
from sipedge.sip.digest import Credentials
from sipedge.sip.events import Responded
from sipedge.sip.flows import Flow
from tests.edge.conftest import ACCESS, STRANGER, Scene, Stage
from tests.edge.phones import Phone


async def text(scene: Scene, phone: Phone, who: str, times: int = 1) -> None:
    """A text to the number the caller dials, sent as often as a sender that hears nothing would."""
    flow = Flow("udp", scene.place.address, phone.address)
    phone.endpoint.send_request(
        flow,
        "MESSAGE",
        f"sip:{scene.dialled}@edge",
        phone.loop.time(),
        from_=f"<sip:{who}@h>",
        to=f"<sip:{scene.dialled}@edge>",
        body=b"I am at the gate, call +84907654321",
        content_type="text/plain",
    )
    phone.drive()
    assert (await phone.expect(Responded)).status == 405
    said = next(one for one in reversed(phone.said) if one.startswith(b"MESSAGE"))
    for _ in range(times - 1):
        phone.send(said, scene.place.address)


async def refused(scene: Scene) -> list[Interaction]:
    events = await sessions.timeline(scene.place.house, ACCESS, scene.session)
    return [one for one in interactions.fold(events) if one.type == "message"]


@pytest.mark.parametrize(("mode", "decision"), [("voice_only", "mode"), ("voice_and_message", "unavailable")])
async def test_a_text_of_a_participant_is_one_refused_interaction(stage: Stage, mode: str, decision: str) -> None:
    scene = await stage(mode=mode)
    await text(scene, scene.caller, scene.caller.number, times=3)
    async with asyncio.timeout(3.0):
        while not (found := await refused(scene)):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    found = await refused(scene)
    assert [(one.decision, one.status, one.dialled) for one in found] == [(decision, "refused", scene.dialled)]
    assert found[0].from_ != found[0].to and [leg.sip_code for leg in found[0].legs] == [405]
    assert not any(b"gate" in heard for heard in scene.callee.heard)


async def test_a_text_of_nobody_is_refused_and_told_to_nobody(stage: Stage) -> None:
    scene = await stage()
    for who in (STRANGER, "anonymous"):
        await text(scene, scene.caller, who)
    await asyncio.sleep(0.05)
    assert await refused(scene) == []


async def test_a_text_of_a_trunk_that_has_to_authenticate_is_told_to_nobody(stage: Stage) -> None:
    scene = await stage()
    scene.place.edge.trunks.named["callers"].guest = Credentials("name", "password", "realm")
    await text(scene, scene.caller, scene.caller.number)
    await asyncio.sleep(0.05)
    assert await refused(scene) == []
