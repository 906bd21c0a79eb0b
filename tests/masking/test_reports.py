"""A report blocks the pair, holds the recordings of their calls, and tells so."""

from __future__ import annotations

import pytest

from masking import barring, interactions, records, reports
from masking.events import fact
from masking.interactions import Call, Channel, Ending
from masking.refusals import ContainsPhoneNumber, Invalid, NotFound
from masking.reports import NewReport, Report
from masking.routes import Refusal, Route
from masking.sessions import Session
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, World, proxy

HANGUP = Ending(blame="caller", reason="hangup", sip_code=200)


async def talk(world: World, session: Session, target: int = 1) -> Route:
    """A recorded call of the customer's."""
    route = await world.call(proxy(session, 0, target), CUSTOMER)
    assert isinstance(route, Route)
    call, now = Call.of(route), world.house.now()
    await interactions.recording_started(
        world.house, call, now, (Channel(index=1, participant=route.from_participant),)
    )
    await interactions.ended(world.house, call, now, HANGUP)
    return route


async def report(world: World, on: Session, **wishes: object) -> Report:
    said = {"session": on.id, "reported_by": on.participants[0].id, "about": on.participants[1].id}
    new = NewReport(**({"reason": "threats"} | said | wishes))  # type: ignore[arg-type]
    return await reports.create(world.house, world.access, new)


async def test_a_report_blocks_the_pair_and_holds_what_was_recorded_between_them(world: World) -> None:
    await world.pool(4)
    session = await world.open(CUSTOMER, DRIVER, MERCHANT)
    first, _ = await talk(world, session), await talk(world, session, 2)
    second = await talk(world, session)
    made = await report(world, session)
    assert made.recordings == [first.recording, second.recording]
    assert [one.id for one in await barring.listing(world.house, "acme")] == [made.block]
    for source, person in ((0, CUSTOMER), (1, DRIVER)):
        refused = await world.call(proxy(session, source, 1 - source), person)
        assert isinstance(refused, Refusal) and refused.decision == "blocked"
    told = [event for event in await records.events_of(world.house, "acme", session.id)]
    held = [event.data["recording"] for event in told if event.type == "recording.held"]
    assert held == made.recordings
    (said,) = [event.data for event in told if event.type == "abuse.reported"]
    assert (said["report"], said["block"], said["reason"]) == (made.id, made.block, "threats")


async def test_a_report_of_one_call_holds_that_call_and_may_leave_the_pair(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    route = await talk(world, session)
    await talk(world, session)
    made = await report(world, session, interaction=route.interaction, block=False)
    assert (made.recordings, made.block) == ([route.recording], None)
    assert isinstance(await world.call(proxy(session, 0, 1), CUSTOMER), Route)


async def test_what_is_erased_is_not_held(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    route = await talk(world, session)
    await world.house.leases.append(session.id, [fact("recording.erased", None, {"recording": route.recording})])
    assert (await report(world, session)).recordings == []


async def test_a_report_about_nobody_is_refused(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    for wishes, refusal in (
        ({"about": "par_x"}, Invalid),
        ({"reported_by": "par_x"}, Invalid),
        ({"about": session.participants[0].id}, Invalid),
        ({"interaction": "int_x"}, Invalid),
        ({"session": "ses_abcdef" + "x" * 22}, NotFound),
        ({"reason": f"called from {DRIVER}"}, ContainsPhoneNumber),
    ):
        with pytest.raises(refusal):
            await report(world, session, **wishes)
    assert await barring.listing(world.house, "acme") == []


async def test_a_report_by_key_that_is_told_again_is_the_same_report(world: World) -> None:
    await world.pool(1)
    session = await world.open(CUSTOMER, DRIVER)
    route = await talk(world, session)
    by, about = route.to_participant, route.from_participant
    for _ in range(2):
        await reports.by_keypad(world.house, "acme", session.id, route.interaction, by, about)
    told = await records.events_of(world.house, "acme", session.id)
    (said,) = [event.data for event in told if event.type == "abuse.reported"]
    assert (said["via"], said["key"], said["reported_by"]) == ("keypad", "keypad", by)
    assert [one.id for one in await barring.listing(world.house, "acme")] == [said["block"]]
    assert [event.data["recording"] for event in told if event.type == "recording.held"] == [route.recording]
