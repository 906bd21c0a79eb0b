"""Numbers near the people: of their area, of their country, or of anywhere; and what is tried when those are taken."""

from __future__ import annotations

from typing import Any

import pytest

from masking import services
from masking.refusals import GeoUnavailable, Invalid, NotBuilt, NumberPoolExhausted
from masking.services import ServiceChange
from pools.inventory import Item
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, STRANGER, World, numbers_of, proxy

HANOI, SAIGON = "+842438251234", "+842838251234"  # landlines, which have an area
NEAR_HANOI, NEAR_SAIGON = "+842471000000", "+842871000000"


async def pool(world: World, *numbers: str, service: str = "default") -> None:
    found = (await services.get(world.house, "acme", service)).id
    await world.house.inventory.add("acme", found, [Item(number, "VN", "carrier-vn") for number in numbers])


@pytest.mark.parametrize("_", range(3))
async def test_a_number_of_the_first_participants_area_is_looked_for_first(world: World, _: int) -> None:
    await pool(world, NEAR_SAIGON, NEAR_HANOI, "+842871000001", "+842471000001")
    near = await world.open(HANOI, SAIGON, geo_match_level="area_code")
    assert numbers_of(near)[0].startswith("+8424")
    assert numbers_of(await world.open(SAIGON, CUSTOMER, geo_match_level="area_code"))[0].startswith("+8428")
    own = await world.open(HANOI, SAIGON, geo_match_level="area_code", number_model="per_party")
    assert (proxy(own, 0, 1)[:5], proxy(own, 1, 0)[:5]) == ("+8424", "+8428")
    assert len(numbers_of(await world.open(CUSTOMER, DRIVER, geo_match_level="area_code"))) == 1, "of no area"


async def test_another_areas_number_is_better_than_none_unless_it_is_strict(world: World) -> None:
    await pool(world, NEAR_SAIGON, "+842871000001")
    strict: dict[str, Any] = {"geo_match_level": "area_code", "geo_match": "strict"}
    with pytest.raises(GeoUnavailable):
        await world.open(HANOI, CUSTOMER, **strict)
    assert numbers_of(await world.open(HANOI, CUSTOMER, geo_match_level="area_code"))[0].startswith("+8428")
    await pool(world, NEAR_HANOI)
    assert numbers_of(await world.open(HANOI, CUSTOMER, **strict)) == [NEAR_HANOI]
    with pytest.raises(NumberPoolExhausted) as short:
        await world.open(HANOI, DRIVER, **strict)
    assert short.value.needed == 1 and short.value.retry_after == 5400


async def test_a_number_of_the_area_in_another_shard_comes_before_one_of_elsewhere_in_the_first(world: World) -> None:
    await pool(world, *(f"+8428710{place:05}" for place in range(256)), NEAR_HANOI)
    for _ in range(3):
        session = await world.open(HANOI, DRIVER, geo_match_level="area_code", pair_quarantine=0)
        assert numbers_of(session) == [NEAR_HANOI]
        await world.later(3600)


async def test_a_pairs_last_number_is_theirs_again_only_where_it_is_near(world: World) -> None:
    await pool(world, NEAR_SAIGON, NEAR_HANOI)
    sticky: dict[str, Any] = {"number_selection": "prefer_sticky", "pair_quarantine": 0}
    last = await world.open(SAIGON, HANOI, geo_match_level="area_code", **sticky)
    assert numbers_of(last) == [NEAR_SAIGON]
    await world.later(3600)
    assert numbers_of(await world.open(HANOI, SAIGON, geo_match_level="area_code", **sticky)) == [NEAR_HANOI]
    await world.later(3600)
    assert numbers_of(await world.open(HANOI, SAIGON, **sticky)) == [NEAR_HANOI]


async def test_with_no_level_any_countrys_number_does(world: World) -> None:
    await world.pool(1)
    await world.pool(3, "RU")
    session = await world.open(CUSTOMER, DRIVER, geo_match_level="none", geo_match="strict")
    assert numbers_of(session)[0].startswith("+7")


async def test_a_shared_number_that_is_not_free_gives_way_to_two_where_that_is_asked_for(world: World) -> None:
    await world.pool(2)
    wishes: dict[str, Any] = {"number_model": "shared"}
    one, other = await world.open(CUSTOMER, MERCHANT, **wishes), await world.open(DRIVER, STRANGER, **wishes)
    assert numbers_of(one) != numbers_of(other)
    with pytest.raises(NumberPoolExhausted):
        await world.open(CUSTOMER, DRIVER, **wishes)
    crossed = await world.open(CUSTOMER, DRIVER, degrade=["per_party"], **wishes)
    assert [proxy(crossed, 0, 1), proxy(crossed, 1, 0)] == [numbers_of(other)[0], numbers_of(one)[0]]


async def test_the_rungs_of_the_ladder_stand_where_they_lead_somewhere(world: World) -> None:
    await services.create(world.house, "acme", ServiceChange(unique_name="axe", number_model="extension"))
    await world.pool(1)
    with pytest.raises(Invalid):
        await world.open(degrade=["per_party"], number_model="per_party")
    with pytest.raises(Invalid):
        await world.open(degrade=["per_party"], service="axe")
    for wish in ({"degrade": ["per_party", "pin"]}, {"geo_match_level": "region"}):
        with pytest.raises(NotBuilt):
            await world.open(**wish)
