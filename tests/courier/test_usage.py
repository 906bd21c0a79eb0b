"""What a tenant used, held against the calls and recordings that it is added up from."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st

from masking import archive, interactions, sessions, usage
from masking.config import BadConfig
from masking.courier.metering import Meter, NumberDays, _of_call
from masking.courier.outbox import Displaced, Outbox
from masking.events import Event, fact
from masking.interactions import Interaction
from masking.refusals import Invalid
from masking.tenants import Rounding, TenantSection
from masking.usage import GIGABYTE, Usage
from pools.leases import Leases
from pools.redis import Redis
from tests.courier.conftest import Round
from tests.courier.test_outbox import talk
from tests.masking.world import World

MINUTES = TenantSection(name="acme", rounding="60/60", rounding_by_service={"food": "6/6"})


# ---- rounding ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 120), st.integers(1, 120), st.integers(0, 10_000_000))
def test_a_call_is_billed_its_first_span_and_then_whole_steps_and_never_a_step_too_many(
    first: int, step: int, length: int
) -> None:
    billed = Rounding(first, step).billed(length)
    if length == 0:
        assert billed == 0
    else:
        assert billed >= first and (billed - first) % step == 0, "whole steps"
        assert billed * 1000 >= length, "all of it"
        assert billed == first or (billed - step) * 1000 < length, "not a step more"
    assert Rounding(first, step).billed(length + 1) >= billed


@pytest.mark.parametrize(
    ("rule", "length", "billed"),
    [("1/1", 12_001, 13), ("6/6", 12_001, 18), ("60/60", 60_000, 60), ("60/60", 60_001, 120), ("30/6", 31_000, 36)],
)
def test_the_usual_rules(rule: str, length: int, billed: int) -> None:
    assert Rounding.parse(rule, "x").billed(length) == billed


@pytest.mark.parametrize("rule", ["", "60", "0/6", "6/0", "6/6/6", "1.5/6", "99999/1"])
def test_a_rule_that_is_none_is_refused_at_start(rule: str) -> None:
    with pytest.raises(BadConfig, match="FIRST/STEP"):
        Rounding.parse(rule, "tenant acme: rounding")


# ---- adding up -----------------------------------------------------------------------------------------------------


def story(call: int, dice: random.Random) -> list[Event]:
    """The facts of one call, some of them missing."""
    name, at = f"int_{call}", 1_790_000_000.0 + dice.randrange(3 * usage.DAY)
    answered, ended = at + dice.random() * 30, at + 30 + dice.random() * 600
    facts: list[tuple[Any, float, dict[str, Any]]] = [("call.initiated", at, {"direction": "inbound"})]
    if dice.random() < 0.8:
        facts += [("call.answered", answered, {"by": "callee"}), ("call.bridged", answered + 3, {"notices": []})]
    facts.append(
        ("call.ended", ended, {"status": "completed", "reason": "hangup", "hangup_by": "caller", "legs": []})
        if dice.random() < 0.9
        else ("call.refused", ended, {"decision": "limit", "legs": []})
    )
    return [
        Event(
            id=f"evt_{call}_{seq}",
            type=kind,
            occurred_at=datetime.fromtimestamp(when, UTC),
            session="ses_1",
            seq=seq,
            data={"interaction": name, **data},
        )
        for seq, (kind, when, data) in enumerate(facts, 1)
    ]


@given(st.integers(0, 1 << 32))
def test_facts_in_any_order_told_once_or_again_add_up_to_what_the_interactions_say(seed: int) -> None:
    dice = random.Random(seed)
    events = [event for call in range(dice.randrange(1, 6)) for event in story(call, dice)]
    events += dice.sample(events, dice.randrange(len(events)))  # told twice
    dice.shuffle(events)
    meter, known = Meter(_Config()), dict[str, Interaction]()  # type: ignore[arg-type]
    for event in events:
        name = event.data["interaction"]
        after = interactions.apply(known.get(name), event)
        assert after is not None
        meter.call("acme", "default", known.get(name), after)
        known[name] = after
    rows = meter._rows()
    wanted = [_of_call(one, Rounding(60, 60)) for one in known.values() if one.ended_at is not None]
    for name in ("calls", "call_ms", "billed_seconds"):
        assert sum(row[name] for row in rows) == sum(one.get(name, 0) for one in wanted), name
    days = {usage.day_of(one.ended_at.timestamp()) for one in known.values() if one.ended_at and one.billable}
    assert {row["day"] for row in rows} == days


class _Config:
    """A house that knows a tenant by the minute."""

    config: Any = None

    def __init__(self) -> None:
        self.config = self

    def tenant_named(self, name: str) -> TenantSection:
        return msgspec.structs.replace(MINUTES, name=name)


# ---- in the archive ------------------------------------------------------------------------------------------------


def by_the_minute(world: World, courier: Round) -> Round:
    """The same courier, for a tenant whose calls are rounded up to minutes."""
    config = msgspec.structs.replace(world.house.config, tenant=[MINUTES])
    world.house = replace(world.house, config=config)
    courier.outbox = Outbox(world.house, courier.engine, courier.outbox._waiting)
    return courier


async def report(world: World, by: usage.By = "total") -> list[Usage]:
    day = datetime.fromtimestamp(world.house.now(), UTC).date()
    return await usage.report(world.house, "acme", day.replace(day=1), None, by)


async def test_usage_is_what_the_interactions_and_the_recordings_say(world: World, courier: Round) -> None:
    by_the_minute(world, courier)
    await world.pool(2)
    session = await world.open(unique_name="order-1")
    calls = [await talk(world, session, length) for length in (9.0, 70.0)]
    await courier.carry()
    [found] = await report(world)
    told = [await interactions.get(world.house, "acme", call.interaction) for call in calls]
    assert (found.sessions, found.calls) == (1, 2) and found.service is None
    assert found.call_seconds == sum(one.billable for one in told) == 86.0
    assert found.billed_seconds == 60 + 120
    assert (found.recordings, found.recording_seconds, found.recording_gb_days) == (0, 0.0, 0.0)

    # Two gigabytes become available; half a day later one of them is erased, and a day after that it is looked at.
    began = world.house.now()
    for call in calls:
        whole = {"recording": call.recording, "interaction": call.interaction, "duration": 12.5, "bytes": GIGABYTE}
        for _ in range(2):  # told twice
            await append(world, session.id, "recording.available", whole)
    await courier.carry()
    await world.later(usage.DAY / 2)
    for _ in range(2):
        await append(world, session.id, "recording.erased", {"recording": calls[0].recording, "interaction": "int_1"})
    await courier.carry()
    await world.later(usage.DAY)
    [found] = await report(world)
    assert (found.recordings, found.recording_seconds) == (2, 25.0)
    # What is kept counts to the end of today: nobody knows of tomorrow's.
    midnight = (usage.day_of(world.house.now()) + 1) * usage.DAY
    kept = (midnight - int(began)) / usage.DAY
    assert found.recording_gb_days == pytest.approx(0.5 + kept, abs=1e-4)
    days = await report(world, "day")
    assert sum(one.recording_gb_days for one in days) == pytest.approx(found.recording_gb_days, abs=1e-6)
    assert [one.to.toordinal() - one.from_.toordinal() for one in days] == [1] * len(days) and len(days) >= 2
    [service] = await report(world, "service")
    assert (service.service, service.billed_seconds) == ("default", 180)
    assert await usage.report(world.house, "other", None, None, "day_service") == []


async def append(world: World, session: str, kind: Any, data: dict[str, Any]) -> None:
    await world.house.leases.append(session, [fact(kind, world.house.now(), data)])


async def test_of_two_couriers_one_counts_a_call(world: World, courier: Round, waiting: Redis) -> None:
    await world.pool(1)
    session = await world.open()
    await courier.carry()
    slow = Outbox(world.house, courier.engine, Leases(waiting))
    await slow.round(wait_ms=1)
    await talk(world, session)
    await courier.carry()
    await sessions.close(world.house, world.access, session.id)
    with pytest.raises(Displaced):  # it still believes what it read before the other's batch
        await slow.round(wait_ms=1)
    while await slow.round(wait_ms=1):
        continue
    [row] = await courier.rows(archive.usage)
    assert (row.sessions, row.calls, row.call_ms) == (1, 1, 12_500)


async def test_numbers_held_count_by_the_day_and_the_most_of_a_day_counts(world: World, courier: Round) -> None:
    days = NumberDays(world.house, courier.engine)
    assert await days.round() == 0
    numbers = await world.pool(3)
    await days.round()
    service = (await world.house.inventory.find(numbers[0])).service  # type: ignore[union-attr]
    for number in numbers[:2]:
        await world.house.inventory.set_state("acme", service, number, "retired")
    await days.round()
    [found] = await report(world)
    assert found.number_days == 3, "the most of the day"
    await world.later(usage.DAY)
    assert await days.round() == 1
    assert [one.number_days for one in await report(world, "day")][-1] == 1
    async with courier.engine.connect() as connection:
        held = (await connection.execute(sql.select(archive.usage.c.numbers))).scalars().all()
    assert sorted(held) == [1, 3]


async def test_spans_that_are_none_are_refused(world: World) -> None:
    for since, until in ((date(2026, 2, 2), date(2026, 2, 2)), (date(2024, 1, 1), date(2026, 1, 1))):
        with pytest.raises(Invalid):
            await usage.report(world.house, "acme", since, until, "total")
