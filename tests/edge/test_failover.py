"""Another trunk is tried when one did not reach the person, and never when a person has spoken."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from sipedge import pings
from sipedge.metrics import EdgeCollector
from sipedge.sip.events import Acked, Answered, Ended, Failed, Invited, Progressed, Requested, Responded
from sipedge.sip.flows import Flow
from tests.edge.conftest import CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.phones import Phone


async def three(open_edge: Opener, phones: Make, **second: Any) -> tuple[Place, Phone, Phone, Phone, str]:
    """A caller, and two trunks of one carrier to the callee; the number belongs to the first."""
    caller, first, other = phones(CUSTOMER), phones(DRIVER), phones(DRIVER)
    more: dict[str, Any] = {"carrier": "one", **second}
    place = await open_edge(
        trunk("callers", caller, carrier="callers"),
        trunk("first", first, carrier="one"),
        trunk("second", other, **more),
    )
    await place.numbers(X[0], trunk="first")
    session = await place.session(CUSTOMER, DRIVER)
    return place, caller, first, other, session.id


async def test_a_silent_trunk_is_passed_over_within_two_seconds(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, session = await three(open_edge, phones)
    first.deaf = True
    began = time.monotonic()
    caller.call(place.address, X[0])
    invited = await second.expect(Invited)
    assert 1.9 < time.monotonic() - began < 2.5
    second.answer(invited)
    await caller.expect(Answered)
    await second.expect(Acked)
    # The silent trunk wakes up and answers an INVITE of ours that we gave up: that leg is ended, the call goes on.
    first.deaf = False
    first.endpoint.receive(first.heard[0], _flow(place, first), first.loop.time())
    first.drive()
    late = await first.expect(Invited)
    first.answer(late)
    await first.expect(Acked)
    await first.expect(Ended)
    await second.silence(0.05)
    caller.hang_up(_only_leg(caller))
    await second.expect(Ended)
    told = await place.interaction(session)
    assert (told.status, told.legs[1].trunk) == ("completed", "second")


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
async def test_a_failing_trunk_is_passed_over(open_edge: Opener, phones: Make, code: int) -> None:
    place, caller, first, second, _ = await three(open_edge, phones)
    caller.call(place.address, X[0])
    first.respond(await first.expect(Invited), code)
    second.respond(await second.expect(Invited), 486)
    assert (await caller.expect(Failed)).status == 486


@pytest.mark.parametrize(("code", "heard"), [(486, 486), (603, 603), (480, 480), (404, 404), (403, 480), (301, 480)])
async def test_a_trunk_that_spoke_for_the_person_is_believed(
    open_edge: Opener, phones: Make, code: int, heard: int
) -> None:
    place, caller, first, second, _ = await three(open_edge, phones)
    caller.call(place.address, X[0])
    first.respond(await first.expect(Invited), code)
    assert (await caller.expect(Failed)).status == heard
    await second.silence(0.05)


async def test_a_trunk_whose_port_is_closed_is_passed_over_at_once(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, session = await three(open_edge, phones)
    first.close()
    for _ in range(2):  # the second time the socket still watches, though it has met an error
        began = time.monotonic()
        caller.call(place.address, X[0])
        second.respond(await second.expect(Invited), 486)
        assert (await caller.expect(Failed)).status == 486
        assert time.monotonic() - began < 0.5
        told = await place.interaction(session)
        assert (told.status, told.legs[1].trunk) == ("busy", "second")
    assert place.edge.driver.wire.counts["udp_unreachable"] >= 1


async def test_a_trunk_that_says_when_to_come_back_is_left_alone_until_then(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, session = await three(open_edge, phones)
    caller.call(place.address, X[0])
    invited = await first.expect(Invited)
    first.endpoint.respond(invited.transaction, 503, first.loop.time(), headers=[("Retry-After", "1 (busy)")])
    first.drive()
    second.respond(await second.expect(Invited), 486)
    await caller.expect(Failed)
    await place.idle()
    caller.call(place.address, X[0])
    second.respond(await second.expect(Invited), 486)
    await caller.expect(Failed)
    await place.idle()
    async with asyncio.timeout(3.0):
        while place.edge.trunks.named["first"].health.state(place.edge.loop.time()) == "resting":
            await asyncio.sleep(0.02)
    await first.silence(0.0)
    caller.call(place.address, X[0])
    first.respond(await first.expect(Invited), 486)
    await caller.expect(Failed)


async def test_calls_show_how_their_trunk_fares(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, session = await three(open_edge, phones)
    leg = caller.call(place.address, X[0])
    invited = await first.expect(Invited)
    first.respond(invited, 180)
    await caller.expect(Progressed)
    first.answer(invited)
    await caller.expect(Answered)
    await first.expect(Acked)
    caller.hang_up(leg)
    await caller.expect(Responded)
    await first.expect(Ended)
    await place.idle()
    caller.call(place.address, X[0])
    first.respond(await first.expect(Invited), 500)
    second.respond(await second.expect(Invited), 404)
    await caller.expect(Failed)
    await place.idle()
    named = place.edge.trunks.named
    assert dict(named["first"].health.counts) == {"tried": 2, "answered": 1, "failed": 1}
    assert dict(named["second"].health.counts) == {"tried": 1, "reached": 1}
    delay = named["first"].health.post_dial_delay
    assert delay is not None and 0 < delay < 1
    page = generate_latest(_only(EdgeCollector(place.edge))).decode()
    assert 'masking_sip_trunk_attempts_total{outcome="failed",trunk="first"} 1.0' in page
    assert 'masking_sip_trunk_state{state="up",trunk="first"} 1.0' in page
    assert 'masking_sip_trunk_post_dial_delay_seconds{trunk="first"} 0.' in page


async def test_after_ringing_no_other_trunk_is_tried(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, _ = await three(open_edge, phones)
    caller.call(place.address, X[0])
    invited = await first.expect(Invited)
    first.respond(invited, 180)
    assert (await caller.expect(Progressed)).status == 180
    first.respond(invited, 503)
    assert (await caller.expect(Failed)).status == 480
    await second.silence(0.05)


@pytest.mark.parametrize("second", [{"carrier": "two"}, {"country": "RU"}])
async def test_a_trunk_that_may_not_show_the_number_is_never_tried(
    open_edge: Opener, phones: Make, second: dict[str, Any]
) -> None:
    place, caller, first, other, session = await three(open_edge, phones, **second)
    caller.call(place.address, X[0])
    first.respond(await first.expect(Invited), 503)
    assert (await caller.expect(Failed)).status == 480
    await other.silence(0.05)
    assert (await place.interaction(session)).legs[1].sip_code == 503


async def test_a_trunk_that_may_show_every_number_is(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, _ = await three(open_edge, phones, carrier="two", cli="any")
    caller.call(place.address, X[0])
    first.respond(await first.expect(Invited), 503)
    await second.expect(Invited)


async def test_a_caller_who_leaves_while_a_trunk_is_silent_rings_nobody(open_edge: Opener, phones: Make) -> None:
    place, caller, first, second, _ = await three(open_edge, phones)
    first.deaf = True
    leg = caller.call(place.address, X[0])
    await asyncio.sleep(0.1)
    caller.cancel(leg)
    assert (await caller.expect(Failed)).status == 487
    await second.silence(0.05)
    await place.idle()


async def test_pings_tell_which_trunks_are_there(
    open_edge: Opener, phones: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pings, "TICK", 0.02)
    monkeypatch.setattr(pings, "SILENT", 0.2)
    monkeypatch.setattr(pings, "DOWN_INTERVAL", 0.1)
    good, bad, deaf = phones(CUSTOMER), phones(DRIVER), phones(DRIVER)
    deaf.deaf = True
    place = await open_edge(
        trunk("good", good, options_ping=1), trunk("bad", bad, options_ping=1), trunk("deaf", deaf, options_ping=1)
    )
    asked = await good.expect(Requested)
    assert asked.request.method == "OPTIONS"
    good.respond(asked, 200)
    bad.respond(await bad.expect(Requested), 503)
    named = place.edge.trunks.named
    async with asyncio.timeout(2.0):
        while named["bad"].health.answers_pings or named["deaf"].health.answers_pings:
            await asyncio.sleep(0.01)
    assert named["good"].health.answers_pings
    bad.respond(await bad.expect(Requested), 404)  # it is there, it only does not like the question
    async with asyncio.timeout(2.0):
        while not named["bad"].health.answers_pings:
            await asyncio.sleep(0.01)


async def test_an_options_request_is_told_whether_calls_are_taken(open_edge: Opener, phones: Make) -> None:
    phone = phones(CUSTOMER)
    place = await open_edge(trunk("all", phone))

    async def ask() -> tuple[int, int | None]:
        phone.endpoint.send_request(
            _flow(place, phone), "OPTIONS", "sip:edge", phone.loop.time(), from_="<sip:me@here>", to="<sip:edge>"
        )
        phone.drive()
        answer = await phone.expect(object)
        return answer.status, answer.response.retry_after  # type: ignore[attr-defined]

    assert await ask() == (200, None)
    place.edge.endpoint.refusing = True
    status, retry = await ask()
    assert status == 503 and retry is not None and 1 <= retry <= 5


def _only(collector: EdgeCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _flow(place: Place, phone: Phone) -> Flow:
    return Flow("udp", place.address, phone.address)


def _only_leg(phone: Phone) -> str:
    return next(iter(phone.endpoint._legs))
