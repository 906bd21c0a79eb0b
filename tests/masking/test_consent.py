"""What people are told before they are recorded: the stricter place of the two decides, and nobody can tell less."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from masking import amending, consent, numbering, services
from masking.consent import STRICTNESS, ConsentPolicy, Duty
from masking.refusals import Invalid
from masking.routes import Route
from masking.services import ServiceChange
from masking.sessions import NewParticipant
from pools.numbers import Number
from tests.masking.world import CUSTOMER, DRIVER, World, proxy

TEXAN, CALIFORNIAN, BERLINER = "+12145550123", "+14155550123", "+4915123456789"
POLICY = ConsentPolicy(default="notice", places={"VN": "one_party", "US": "one_party", "US-CA": "beep", "DE": "never"})
OWED: dict[str, Duty] = {DRIVER: "one_party", TEXAN: "one_party", CALIFORNIAN: "beep", BERLINER: "never"}


async def told(world: World, caller: str, callee: str, **wishes: object) -> tuple[bool, str]:
    """Is a call recorded, and what do both hear before?"""
    session = await world.open(caller, callee, **wishes)
    route = await world.call(proxy(session, 0, 1), caller)
    assert isinstance(route, Route)
    return route.record, route.told


async def recording(world: World, policy: ConsentPolicy) -> None:
    await world.pool(30)
    await services.change(world.house, "acme", "default", ServiceChange(record="always", consent_policy=policy))
    world.house.seen.clear()


async def test_the_stricter_place_of_the_two_decides(world: World) -> None:
    await recording(world, POLICY)
    spoken = {"one_party": (True, "notice"), "beep": (True, "beep"), "never": (False, "notice")}
    for one, other in product(OWED, OWED):
        if one != other:
            stricter = consent.strictest((OWED[one], OWED[other]))
            assert await told(world, one, other) == spoken[stricter], (one, other)
    assert await told(world, CUSTOMER, "+74951234567") == (True, "notice"), "a place nobody named has the default"


async def test_without_a_policy_everybody_hears_the_notice(world: World) -> None:
    await recording(world, ConsentPolicy())
    assert await told(world, CUSTOMER, BERLINER) == (True, "notice")
    with pytest.raises(Invalid, match="may not be left out"):
        await world.open(CUSTOMER, DRIVER, recording_notice=None)


async def test_the_notice_is_left_out_only_where_nobody_has_to_be_told(world: World) -> None:
    await recording(world, POLICY)
    assert await told(world, DRIVER, TEXAN, recording_notice=None) == (True, "nothing")
    for other in (CALIFORNIAN, BERLINER):
        with pytest.raises(Invalid, match="may not be left out"):
            await world.open(DRIVER, other, recording_notice=None)


async def test_whoever_takes_the_place_of_another_brings_their_own_place(world: World) -> None:
    await recording(world, POLICY)
    session = await world.open(DRIVER, TEXAN, recording_notice=None, max_concurrent_calls=2)
    assert session.recording_notice is None
    for number, spoken in ((CALIFORNIAN, (True, "beep")), (BERLINER, (False, "notice"))):
        person = session.participants[1].id
        newcomer = NewParticipant(identifier=number)
        session = await amending.swap(world.house, world.access, session.id, person, newcomer)
        route = await world.call(proxy(session, 0, 1), DRIVER)
        assert isinstance(route, Route) and (route.record, route.told) == spoken


def test_a_person_of_no_known_place_is_everywhere_at_once() -> None:
    assert POLICY.strictest == "never" and ConsentPolicy(default="beep").strictest == "beep"
    for milder, stricter in pairwise(STRICTNESS):
        assert consent.strictest((milder, stricter)) == consent.strictest((stricter, milder)) == stricter


@pytest.mark.parametrize(
    ("number", "state"),
    [(CALIFORNIAN, "CA"), ("+13055550123", "FL"), (TEXAN, None), (DRIVER, None), ("+14165550123", None)],
)
def test_a_state_is_told_by_its_area_code(number: str, state: str | None) -> None:
    parsed = Number.parse(number)
    assert consent.state_of(parsed, numbering.country_of(parsed)) == state


@pytest.mark.parametrize("place", ["XX", "US-TX", "vn", "VN-HN", "US-"])
def test_a_place_that_no_number_tells_is_named(place: str) -> None:
    with pytest.raises(Invalid, match="no place that a number tells"):
        consent.checked(ConsentPolicy(places={place: "beep"}))
