"""Who may call whom changes by itself as an order goes on; with its last stage the session ends."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from masking import amending, records, reopening, sessions
from masking.events import moment
from masking.latecalls import LateCallWish
from masking.refusals import ContainsPhoneNumber, Invalid
from masking.routes import Refusal, Route
from masking.sessions import NewParticipant, Session, SessionChange
from masking.stages import Stage
from tests.masking.test_explaining import compared, explain
from tests.masking.world import CUSTOMER, DRIVER, MUSCOVITE, START, STRANGER, World, proxy


def at(span: float) -> datetime:
    return moment(START + span)


def order(begins: float = 0, *, open_ended: bool = False) -> list[Stage]:
    """Only the driver calls at first, then both, after the ride the customer alone, for ten minutes."""
    return [
        Stage(name="offer", until=at(begins + 60), direction="driver->customer"),
        Stage(name="active", until=at(begins + 600), record="always"),
        Stage(name="grace", until=None if open_ended else at(begins + 1200), direction="customer->driver"),
    ]


async def meets(world: World, session: Session, caller: str) -> str:
    """What the caller meets, as explained before; a call that goes through ends at once."""
    place = 1 if caller in (DRIVER, MUSCOVITE, STRANGER) else 0
    met = await world.call(proxy(session, place, 1 - place), caller)
    if isinstance(met, Route):
        await world.house.leases.append(session.id, [], end_call=met.interaction)
        return "recorded" if met.record else "routed"
    return met.decision


@pytest.mark.parametrize("other", [DRIVER, MUSCOVITE])
async def test_the_stages_say_who_may_call_whom_and_the_session_ends_with_the_last(world: World, other: str) -> None:
    await world.pool(2)
    await world.pool(1, "RU")
    session = await world.open(CUSTOMER, other, stages=order(), record="never")
    assert (session.stage, session.expires_at, len(session.stages)) == ("offer", at(1200), 3)
    told: list[tuple[str | None, str, str]] = []
    for span in (0, 59.999, 60, 599.999, 600, 1199.999, 1200):
        await world.later(START + span - world.now[0])
        view = await sessions.get(world.house, world.access, session.id)
        told.append((view.stage, await meets(world, session, CUSTOMER), await meets(world, session, other)))
        for place, caller in enumerate((CUSTOMER, other)):
            await compared(world, caller, proxy(session, place, 1 - place))
            await world.house.leases.append(session.id, [], end_call=f"int_{world.calls}")
    assert told == [
        *[("offer", "direction", "routed")] * 2,
        *[("active", "recorded", "recorded")] * 2,
        *[("grace", "routed", "direction")] * 2,
        (None, "ended", "ended"),
    ]
    assert (view.status, view.closed_reason, view.closed_at) == ("closed", "stage_end", at(1200))


async def test_a_stage_to_come_is_explained_before_it_begins(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="never", stages=order())
    asked = [(await explain(world, CUSTOMER, proxy(session, 0, 1), at=at(span))).decision for span in (0, 60, 1200)]
    assert asked == ["direction", "routed", "ended"]


async def test_an_end_that_is_said_comes_before_the_last_stages(world: World) -> None:
    await world.pool(1)
    begins = 0.0
    for wishes, lives, reason in (
        ({"ttl": 900}, 900, "expired"),
        ({"ttl": 7200}, 1200, "stage_end"),
        ({"expires_at": at(2100 + 1000)}, 1000, "expired"),
    ):
        session = await world.open(stages=order(begins), pair_quarantine=0, **wishes)
        begins += lives
        assert session.expires_at == at(begins)
        await world.later(lives)
        view = await sessions.get(world.house, world.access, session.id)
        assert (view.status, view.closed_reason) == ("closed", reason)
    session = await world.open(stages=order(begins, open_ended=True), ttl=7200, record="never")
    await world.later(7199)
    assert await meets(world, session, CUSTOMER) == "routed", "the last stage lasts as long as the session"


async def test_stages_are_changed_while_the_session_is_open(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="never", stages=order())
    await world.later(100)
    longer = [order()[0], Stage(name="active", until=at(1800)), Stage(name="grace", until=at(2400), direction="none")]
    view = await change(world, session, stages=longer)
    assert (view.stage, view.expires_at) == ("active", at(2400))
    await world.later(1750)
    assert await meets(world, session, DRIVER) == "direction"
    view = await change(world, session, stages=[])
    assert (view.stage, view.stages) == (None, []) and await meets(world, session, DRIVER) == "routed"
    assert view.expires_at == at(2400), "the end stays where it was"
    for event in await records.events_of(world.house, "acme", session.id):
        assert event.type != "session.updated" or "stages" in event.data or "expires_at" in event.data


async def change(world: World, session: Session, **wishes: Any) -> Session:
    return await sessions.change(world.house, world.access, session.id, SessionChange(**wishes))


async def test_no_end_is_moved_past_the_last_stages(world: World) -> None:
    await world.pool(2)
    session = await world.open(record="never", stages=order(), ttl_mode="sliding", ttl=600)
    assert session.expires_at == at(600)
    await world.later(590)
    assert await meets(world, session, CUSTOMER) == "recorded"
    assert (await sessions.get(world.house, world.access, session.id)).expires_at == at(1190), "each call moves it"
    await world.later(400)
    assert await meets(world, session, CUSTOMER) == "routed"
    assert (await sessions.get(world.house, world.access, session.id)).expires_at == at(1200), "up to the last stage"
    for longer in ({"ttl": 900}, {"expires_at": at(3000)}):
        with pytest.raises(Invalid):
            await change(world, session, **longer)
    with pytest.raises(Invalid):
        await sessions.extend(world.house, world.access, session.id, ttl=900, expires_at=None)
    view = await change(world, session, stages=[*order()[:2], Stage(name="grace", until=at(4000))], ttl=900)
    assert view.expires_at == at(990 + 900)


async def test_a_newcomer_has_the_stages_of_the_one_before(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="never", stages=order())
    old = session.participants[1].id
    new = await amending.swap(world.house, world.access, session.id, old, NewParticipant(identifier=STRANGER))
    assert (await meets(world, new, STRANGER), await meets(world, new, CUSTOMER)) == ("routed", "direction")
    await world.later(600)
    assert (await meets(world, new, STRANGER), await meets(world, new, CUSTOMER)) == ("direction", "routed")


async def test_a_session_reopened_goes_on_in_the_stage_of_the_time_or_in_its_last(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="never", stages=order())
    await world.later(30)
    await sessions.close(world.house, world.access, session.id)
    view = await reopening.reopen(world.house, world.access, session.id, ttl=None, expires_at=None)
    assert (view.stage, view.expires_at) == ("offer", at(1200)), "its stages are still to come"
    await world.later(1300)
    view = await reopening.reopen(world.house, world.access, session.id, ttl=600, expires_at=None)
    assert (view.stage, view.stages, view.expires_at) == (
        "grace", [Stage(name="grace", direction="customer->driver")], at(1930)
    )  # fmt: skip
    assert (await meets(world, session, CUSTOMER), await meets(world, session, DRIVER)) == ("routed", "direction")


async def test_a_late_call_reopens_the_last_stage_and_no_more(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="never", stages=order(), late_call=LateCallWish(policy="reopen"))
    await world.later(1300)
    assert await meets(world, session, DRIVER) == "direction"
    assert await meets(world, session, CUSTOMER) == "routed"


@pytest.mark.parametrize(
    ("stages", "field"),
    [
        ([Stage(name="a"), Stage(name="b", until=at(60))], "stages[0].until"),
        ([Stage(name="a", until=at(60)), Stage(name="b", until=at(60))], "stages[1].until"),
        ([Stage(name="a", until=at(-60))], "stages[0].until"),
        ([Stage(name="a", until=datetime(2099, 1, 1))], "stages[0].until"),
        ([Stage(name="a", until=at(200 * 86_400))], "expires_at"),
        ([Stage(name="a", direction="sideways")], "stages[0].direction"),
        ([Stage(name="0901234567")], "stages[0].name"),
    ],
)
async def test_stages_that_cannot_be_are_named(world: World, stages: list[Stage], field: str) -> None:
    await world.pool(1)
    with pytest.raises(Invalid) as refused:
        await world.open(stages=stages)
    assert refused.value.errors[0].field == field
    assert isinstance(refused.value, ContainsPhoneNumber) == field.endswith("name")
    session = await world.open()
    with pytest.raises(Invalid):
        await change(world, session, stages=stages)


async def test_a_call_after_the_last_stage_is_refused_even_where_the_end_was_moved(world: World) -> None:
    await world.pool(1)
    session = await world.open(record="never", stages=order())
    await world.house.leases.extend(session.id, ttl_ms=3_600_000)
    await world.later(1201)
    met = await world.call(proxy(session, 0, 1), CUSTOMER)
    assert isinstance(met, Refusal) and met.decision == "direction"
