"""Calls that the app asks for: both people are rung, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from masking import barring, interactions, originating, sessions
from masking.barring import NewBlock, Someone
from masking.house import Unavailable
from masking.originating import Wanted
from masking.refusals import CallRefused, Invalid, SessionClosed
from masking.sessions import Session
from sipedge import outgoing
from sipedge.sip.events import Acked, Cancelled, Ended, Invited
from tests.edge.conftest import ACCESS, CUSTOMER, DRIVER, Make, Opener, Place, X, trunk
from tests.edge.phones import Phone, media_of


class Office:
    """An app's session, whose two people are called from outside."""

    def __init__(self, place: Place, customer: Phone, driver: Phone, session: Session) -> None:
        self.place, self.customer, self.driver, self.session = place, customer, driver, session.id
        self.people = [participant.id for participant in session.participants]
        self.dialled = session.participants[0].proxies[0].number
        self.shown = session.participants[1].proxies[0].number

    async def call(self, token: str | None = None, **wanted: Any) -> interactions.Interaction:
        who = Wanted(**({"from_": self.people[0]} | wanted))
        return await originating.originate(self.place.house, ACCESS, self.session, who, token=token)

    async def events(self) -> list[str]:
        return [event.type for event in await sessions.timeline(self.place.house, ACCESS, self.session)]


Set = Callable[..., Awaitable[Office]]


@pytest.fixture
async def office(open_edge: Opener, phones: Make) -> Set:
    async def set_(customers: dict[str, Any] | None = None, **session: Any) -> Office:
        customer, driver = phones(CUSTOMER), phones(DRIVER)
        place = await open_edge(
            trunk("customers", customer, prefixes=["+84901"], **(customers or {})),
            trunk("drivers", driver, prefixes=["+84907"]),
        )
        await place.numbers(*X[:2])
        return Office(place, customer, driver, await place.session(CUSTOMER, DRIVER, **session))

    return set_


async def test_both_are_rung_one_after_the_other_and_talk(office: Set) -> None:
    scene = await office()
    asked = await scene.call()
    assert (asked.direction, asked.status, asked.dialled) == ("outbound", "ringing", scene.dialled)
    first = await scene.customer.expect(Invited)
    assert first.request.uri.digits == CUSTOMER and first.request.from_.uri.digits == scene.dialled
    await scene.driver.silence(0.1)
    scene.customer.respond(first, 180)
    scene.customer.answer(first)
    await scene.customer.expect(Acked)
    second = await scene.driver.expect(Invited)
    assert second.request.uri.digits == DRIVER and second.request.from_.uri.digits == scene.shown
    assert CUSTOMER.encode() not in b"".join(scene.driver.heard)
    scene.driver.respond(second, 180)
    scene.driver.answer(second)
    await scene.driver.expect(Acked)
    async with asyncio.timeout(5.0):
        while not any(call.state == "bridged" for call in scene.place.edge.exchange.calls.values()):
            await asyncio.sleep(0.01)
    for _ in range(20):
        scene.customer.speak(media_of(first.request.body), 0x31)
        scene.driver.speak(media_of(second.request.body), 0x32)
        await asyncio.sleep(0.02)
        if scene.customer.heard_marker(0x32) and scene.driver.heard_marker(0x31):
            break
    assert scene.customer.heard_marker(0x32) and scene.driver.heard_marker(0x31)
    scene.driver.hang_up(second.leg)
    await scene.customer.expect(Ended)
    told = await scene.place.interaction(scene.session)
    assert (told.id, told.direction, told.status) == (asked.id, "outbound", "completed")
    assert (told.from_, told.to, told.hangup_by) == (*scene.people, "callee")
    assert told.billable > told.conversation > 0 and [leg.trunk for leg in told.legs] == ["customers", "drivers"]
    assert {"call.initiated", "call.answered", "call.ringing", "call.bridged", "call.ended"} <= {*await scene.events()}


@pytest.mark.parametrize(
    ("code", "status", "reason"), [(486, "busy", "busy"), (603, "declined", "declined"), (404, "failed", "unreachable")]
)
async def test_nobody_else_is_rung_when_the_first_is_not_reached(
    office: Set, code: int, status: str, reason: str
) -> None:
    scene = await office()
    await scene.call()
    first = await scene.customer.expect(Invited)
    scene.customer.respond(first, code)
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.reason, told.hangup_by, told.billable) == (status, reason, "caller", 0.0)
    assert [leg.sip_code for leg in told.legs] == [code]
    missed = [e for e in await sessions.timeline(scene.place.house, ACCESS, scene.session) if e.type == "call.missed"]
    assert [(one.data["participant"], one.data["caller"]) for one in missed] == [tuple(scene.people)]
    assert missed[0].data["call_back"] == {"number": scene.dialled, "extension": None}
    await scene.driver.silence(0.05)


async def test_the_first_hears_why_the_second_is_not_reached(office: Set) -> None:
    scene = await office()
    await scene.call()
    first = await scene.customer.expect(Invited)
    scene.customer.answer(first)
    await scene.customer.expect(Acked)
    second = await scene.driver.expect(Invited)
    scene.driver.respond(second, 486)
    await scene.customer.expect(Ended)
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.answered_by, told.legs[1].sip_code) == ("busy", "platform", 486)
    assert told.billable > 0.5  # "connecting", and "busy"


async def test_the_first_may_leave_while_the_second_rings(office: Set) -> None:
    scene = await office()
    await scene.call()
    first = await scene.customer.expect(Invited)
    scene.customer.answer(first)
    await scene.customer.expect(Acked)
    second = await scene.driver.expect(Invited)
    scene.driver.respond(second, 180)
    await asyncio.sleep(0.05)
    scene.customer.hang_up(first.leg)
    await scene.driver.expect(Cancelled)
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.hangup_by) == ("canceled", "caller")


async def test_a_first_phone_that_never_answers_stops_ringing(office: Set) -> None:
    scene = await office(ring_timeout=5)
    await scene.call()
    first = await scene.customer.expect(Invited)
    scene.customer.respond(first, 180)
    await scene.customer.expect(Cancelled, 7.0)
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.hangup_by) == ("no_answer", "caller")


async def test_what_refuses_a_dialled_call_refuses_this_one(office: Set) -> None:
    scene = await office(direction="b_to_a")
    with pytest.raises(CallRefused) as refused:
        await scene.call()
    assert refused.value.extra["decision"] == "direction"
    told = await scene.place.interaction(scene.session)
    assert (told.id, told.status, told.decision) == (refused.value.extra["interaction"], "refused", "direction")
    who, to = (Someone(session=scene.session, participant=one) for one in scene.people)
    await barring.create(scene.place.house, ACCESS, NewBlock(scope="pair", who=who, to=to, reason="rude"))
    with pytest.raises(CallRefused) as refused:
        await scene.call(from_=scene.people[1], to=scene.people[0])
    assert refused.value.extra["decision"] == "blocked"
    for wrong in ({"from_": "par_x"}, {"to": "par_x"}, {"to": scene.people[0]}):
        with pytest.raises(Invalid):
            await scene.call(**wrong)
    await sessions.close(scene.place.house, ACCESS, scene.session)
    with pytest.raises(SessionClosed):
        await scene.call()


async def test_one_at_once_and_the_same_request_once(office: Set) -> None:
    scene = await office()
    asked = await scene.call(token="one")
    first = await scene.customer.expect(Invited)
    assert (await scene.call(token="one")).id == asked.id
    with pytest.raises(CallRefused) as refused:
        await scene.call(token="two")
    assert refused.value.extra["decision"] == "limit"
    await scene.customer.silence(0.2)
    scene.customer.respond(first, 486)
    await scene.place.idle()
    again = await scene.call(token="one")
    assert (again.id, again.status) == (asked.id, "busy")
    await scene.customer.silence(0.2)


async def test_an_edge_that_leaves_takes_no_calls_and_without_one_none_is_taken(office: Set) -> None:
    scene = await office()
    edge, house = scene.place.edge, scene.place.house
    edge.draining = True
    asked = await scene.call()  # it was there a second ago
    await scene.customer.silence(1.3)
    assert await house.redis.command("LLEN", originating.COMMANDS) == 1
    await house.redis.command("DEL", originating.TAKERS)
    with pytest.raises(Unavailable):
        await scene.call(from_=scene.people[1])
    edge.draining = False
    first = await scene.customer.expect(Invited)
    scene.customer.respond(first, 486)
    assert (await scene.place.interaction(scene.session)).id == asked.id


async def test_a_crowded_edge_leaves_the_call_to_another(office: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await office()
    admission = scene.place.edge.admission
    with monkeypatch.context() as crowded:
        crowded.setattr(admission, "take", lambda invite, now: False)
        await scene.call()
        await scene.customer.silence(0.3)
    await scene.customer.expect(Invited)
    assert admission.opening == 0, "its first leg has left"


async def test_a_trunk_without_room_rings_nobody(office: Set) -> None:
    scene = await office(customers={"max_calls": 1})
    (full,) = [trunk for trunk in scene.place.edge.trunks.trunks if trunk.name == "customers"]
    full.calls += 1
    await scene.call()
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.reason, told.legs) == ("failed", "trunk_limit", [])
    await scene.customer.silence(0.05)
    full.calls -= 1


async def test_a_call_whose_time_has_passed_rings_nobody(office: Set) -> None:
    scene = await office()
    edge, house = scene.place.edge, scene.place.house
    edge.draining = True
    await asyncio.sleep(outgoing.PAUSE + originating.WAITS)
    asked = await scene.call()
    live = await house.leases.live_calls((await house.inventory.shard_names()).pop())
    assert [call.owner for call in live if call.call == asked.id] == [f"nobody.{asked.id}"]
    ending = interactions.Ending(blame="platform", reason="owner_lost", sip_code=500)
    gone = interactions.Call(interaction=asked.id, session=scene.session, tenant="default")
    await interactions.ended(house, gone, house.now(), ending)  # as the sweeper does
    edge.draining = False
    await scene.customer.silence(0.5)
    assert edge.exchange.counts["orders_too_late"] == 1
    assert (await scene.place.interaction(scene.session)).status == "failed"


async def test_whoever_is_rung_first_confirms_by_a_key_where_the_session_asks_for_it(office: Set) -> None:
    scene = await office(answer_confirm="keypress")
    await scene.call()
    first = await scene.customer.expect(Invited)
    scene.customer.answer(first)
    await scene.customer.expect(Acked)
    await scene.driver.silence(0.3)
    scene.customer.request(first.leg, "INFO", b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay")
    await asyncio.sleep(0.05)
    second = await scene.driver.expect(Invited)
    scene.driver.respond(second, 486)
    told = await scene.place.interaction(scene.session)
    assert told.status == "busy"


async def test_people_who_were_parted_meanwhile_are_not_rung(office: Set, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = await office()

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(originating, "_dialled", nothing)
    await scene.call()
    told = await scene.place.interaction(scene.session)
    assert (told.status, told.reason) == ("failed", "parted")
    await scene.customer.silence(0.05)


async def test_while_the_core_is_away_nobody_is_rung_and_the_edge_goes_on(
    office: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = await office()
    exchange = scene.place.edge.exchange

    async def away(*_: object) -> None:
        raise Unavailable("away")

    with monkeypatch.context() as silent:
        silent.setattr(originating, "take", away)
        asked = await scene.call()
        async with asyncio.timeout(3.0):
            while asked.id not in exchange.unsure:
                await asyncio.sleep(0.01)
    await scene.customer.silence(0.05)
    with monkeypatch.context() as silent:
        silent.setattr(originating.Orders, "next", away)
        await asyncio.sleep(originating.WAITS + outgoing.PAUSE)
    house = scene.place.house
    live = await house.leases.live_calls((await house.inventory.shard_names()).pop())
    assert [call.owner for call in live] == [f"nobody.{asked.id}"], "it ends when that owner's heartbeat has lapsed"
    gone = interactions.Call(interaction=asked.id, session=scene.session, tenant="default")
    await interactions.ended(
        house, gone, house.now(), interactions.Ending(blame="platform", reason="owner_lost", sip_code=500)
    )
    await scene.call()
    await scene.customer.expect(Invited)
