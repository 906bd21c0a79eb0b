"""Hold, resume and every other change of a call that stands: each leg by itself, the other hears nothing of it."""

from __future__ import annotations

import asyncio

import pytest

from sipedge.media import sdp
from sipedge.media.plane import PlaneGone
from sipedge.sip.events import Answered, Ended, Invited, Progressed, Responded
from tests.edge.conftest import Scene, Stage
from tests.edge.phones import Phone, media_of, udp_socket
from tests.edge.test_calls import talk, up

SDP = "application/sdp"


async def changed(phone: Phone, leg: str, body: bytes, method: str = "INVITE") -> Responded:
    """A re-INVITE or UPDATE with this offer, and its answer."""
    phone.request(leg, method, body, SDP)
    return await phone.expect(Responded)


def answer_to(responded: Responded) -> sdp.Stream:
    assert responded.response is not None and responded.status == 200
    stream = sdp.parse(responded.response.description).audio
    assert stream is not None
    return stream


async def hears(scene: Scene, phone: Phone, other: Phone, to: tuple[str, int], marker: int) -> bool:
    """Does the phone hear what the other says now?"""
    phone.audio.clear()
    for start in range(10):
        other.speak(to, marker, 1, 100 * marker + start)
        await asyncio.sleep(0.02)
    return phone.heard_marker(marker)


class Talking:
    """A call that both are in, bridged."""

    def __init__(self, scene: Scene, leg: str, invited: Invited, answered: Answered) -> None:
        self.scene, self.leg, self.invited, self.answered = scene, leg, invited, answered
        self.to_callee_side, self.to_caller_side = media_of(invited.request.body), media_of(answered.response.body)

    async def caller_hears(self, marker: int) -> bool:
        return await hears(self.scene, self.scene.caller, self.scene.callee, self.to_callee_side, marker)

    async def callee_hears(self, marker: int) -> bool:
        return await hears(self.scene, self.scene.callee, self.scene.caller, self.to_caller_side, marker)


async def talking(stage: Stage) -> Talking:
    scene = await stage()
    leg, invited, answered = await up(scene)
    await scene.bridged()
    assert await talk(scene, invited, answered)
    return Talking(scene, leg, invited, answered)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize(
    ("hold", "answered", "heard"),
    [("a=sendonly\r\n", "recvonly", True), ("a=inactive\r\n", "inactive", False)],
)
async def test_a_held_leg_is_sent_nothing_until_it_is_resumed_and_the_other_is_not_asked(
    stage: Stage, method: str, hold: str, answered: str, heard: bool
) -> None:
    call = await talking(stage)
    caller, callee = call.scene.caller, call.scene.callee
    asked = len(callee.heard)
    held = await changed(caller, call.leg, caller.sdp(extra=hold), method)
    assert answer_to(held).direction == answered
    assert not await call.caller_hears(31)
    assert await call.callee_hears(33) is heard
    resumed = await changed(caller, call.leg, caller.sdp(), method)
    assert answer_to(resumed).direction == "sendrecv"
    assert await call.caller_hears(35) and await call.callee_hears(37)
    assert len(callee.heard) == asked
    caller.hang_up(call.leg)
    await callee.expect(Ended)
    assert (await call.scene.interaction()).status == "completed"


async def test_the_old_way_to_hold_is_understood(stage: Stage) -> None:
    call = await talking(stage)
    held = await changed(call.scene.callee, call.invited.leg, call.scene.callee.sdp(host="0.0.0.0"))
    assert answer_to(held).direction == "recvonly"
    assert not await call.callee_hears(41) and await call.caller_hears(43)
    resumed = await changed(call.scene.callee, call.invited.leg, call.scene.callee.sdp())
    assert answer_to(resumed).direction == "sendrecv" and await call.callee_hears(45)


async def test_our_description_counts_its_versions(stage: Stage) -> None:
    call = await talking(stage)
    caller = call.scene.caller
    said = [call.answered.response]
    for extra in ("", "a=sendonly\r\n", "a=sendonly\r\n", ""):
        responded = await changed(caller, call.leg, caller.sdp(extra=extra))
        assert responded.response is not None
        said.append(responded.response)
    versions = [sdp.parse(each.description).version for each in said]
    assert versions == [1, 1, 2, 2, 3]
    origins = {each.description.split(b"\r\n")[1].split()[1] for each in said}
    assert len(origins) == 1


async def test_a_phone_that_moves_within_its_trunks_networks_is_followed(stage: Stage) -> None:
    call = await talking(stage)
    caller = call.scene.caller
    caller.loop.remove_reader(caller.rtp)
    caller.rtp.close()
    caller.rtp = udp_socket()
    caller.loop.add_reader(caller.rtp, caller._read_rtp)
    moved = await changed(caller, call.leg, caller.sdp())
    assert answer_to(moved).port == call.to_caller_side[1]
    assert await call.caller_hears(51) and await call.callee_hears(53)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_an_offer_that_cannot_be_used_is_refused_and_the_call_goes_on(stage: Stage, method: str) -> None:
    call = await talking(stage)
    caller = call.scene.caller
    for body in (
        caller.sdp(host="198.51.100.7"),
        caller.sdp(codecs="9"),
        caller.sdp().replace(b"m=audio ", b"m=audio 0 x").replace(b" 0 x", b" 0 RTP/AVP 8\r\na=x:"),
        b"v=0\r\nnonsense\r\n",
        caller.sdp(codecs="96").replace(b"rtpmap:8 ", b"rtpmap:96 "),  # a number the recording was not told of
    ):
        assert (await changed(caller, call.leg, body, method)).status == 488
    host, port = call.to_callee_side
    assert (await changed(caller, call.leg, caller.sdp().replace(b"m=audio ", b"m=audio %d x" % port))).status == 488
    ours = caller.sdp().replace(b"m=audio %d" % caller.rtp.getsockname()[1], b"m=audio %d" % port)
    assert (await changed(caller, call.leg, ours, method)).status == 488, f"the relay's own port at {host}"
    assert await call.caller_hears(61) and await call.callee_hears(63)


async def test_a_relay_that_cannot_be_asked_is_a_500_and_the_call_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await talking(stage)
    caller = call.scene.caller

    async def gone(*asked: object) -> None:
        raise PlaneGone("not connected")

    with monkeypatch.context() as broken:
        broken.setattr(call.scene.place.edge.plane, "connect", gone)
        assert (await changed(caller, call.leg, caller.sdp(extra="a=inactive\r\n"))).status == 500
    assert await call.caller_hears(71)


async def test_a_codec_may_be_changed_and_is_kept_where_there_is_a_choice(stage: Stage) -> None:
    call = await talking(stage)
    caller = call.scene.caller
    kept = await changed(caller, call.leg, caller.sdp(codecs="0 8 101"))
    assert [one.name for one in answer_to(kept).formats] == ["PCMA", "telephone-event"]
    other = await changed(caller, call.leg, caller.sdp(codecs="0"))
    assert [one.name for one in answer_to(other).formats] == ["PCMU"]
    caller.hang_up(call.leg)
    told = await call.scene.interaction()
    assert [leg.codec for leg in told.legs] == ["PCMU", "PCMA"]


@pytest.mark.parametrize("answer", ["usable", "none", "outside"])
async def test_without_an_offer_a_re_invite_gets_ours_and_its_ack_the_answer(stage: Stage, answer: str) -> None:
    call = await talking(stage)
    callee, leg = call.scene.callee, call.invited.leg
    responded = await changed(callee, leg, b"")
    offered = answer_to(responded)
    assert [one.name for one in offered.formats] == ["PCMA", "PCMU", "telephone-event"]
    body = {"usable": callee.sdp(codecs="0"), "none": b"", "outside": callee.sdp(host="198.51.100.7")}[answer]
    callee.endpoint.acknowledge(leg, body, callee.loop.time())
    callee.drive()
    await asyncio.sleep(0.05)
    failed = call.scene.place.edge.exchange.counts["renegotiations_failed"]
    assert failed == (0 if answer == "usable" else 1)
    if answer != "usable":
        assert await call.callee_hears(81)
    callee.hang_up(leg)
    told = await call.scene.interaction()
    assert told.legs[1].codec == ("PCMU" if answer == "usable" else "PCMA") and told.status == "completed"


@pytest.mark.parametrize(("offer", "status"), [(False, 200), (True, 500)])
async def test_an_update_while_it_rings_is_a_sign_of_life_and_may_offer_nothing_yet(
    stage: Stage, offer: bool, status: int
) -> None:
    scene = await stage()
    caller = scene.caller
    leg = scene.call()
    invited = await scene.callee.expect(Invited)
    scene.callee.respond(invited, 180)
    await caller.expect(Progressed)
    dialog = caller.endpoint.dialog(leg)
    assert dialog is not None
    body = caller.sdp() if offer else b""
    caller.send(
        (
            f"UPDATE {dialog.target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKearly;rport\r\n"
            f"From: {dialog.from_}\r\nTo: {dialog.to}\r\nCall-ID: {dialog.call_id}\r\nCSeq: 2 UPDATE\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body,
        scene.place.address,
    )
    async with asyncio.timeout(2.0):
        while not any(data.startswith(b"SIP/2.0 %d" % status) for data in caller.heard):
            await asyncio.sleep(0.01)
    scene.callee.answer(invited)
    await caller.expect(Answered)


async def test_a_hold_during_the_notice_is_answered_as_in_a_call(stage: Stage) -> None:
    scene = await stage(record="always")
    leg, invited, answered = await up(scene)
    held = await changed(scene.caller, leg, scene.caller.sdp(extra="a=sendonly\r\n"))
    assert answer_to(held).direction == "recvonly"
    await scene.bridged()
    assert answer_to(await changed(scene.caller, leg, scene.caller.sdp())).direction == "sendrecv"
    assert await talk(scene, invited, answered)


async def test_changes_of_a_call_that_is_over_are_refused(stage: Stage) -> None:
    call = await talking(stage)
    edge = call.scene.place.edge
    (one,) = edge.exchange.calls.values()
    edge.driver.detach(one.circuit.caller.token)  # as when it has just ended
    assert (await changed(call.scene.caller, call.leg, call.scene.caller.sdp())).status == 481
    edge.driver.attach(one.circuit.caller.token, one.circuit.caller.heard)
