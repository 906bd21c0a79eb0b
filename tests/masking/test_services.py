"""Services: defaults by name."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from masking import services
from masking.refusals import ContainsPhoneNumber, Invalid, NotFound, UniqueNameConflict
from masking.services import ServiceChange
from tests.masking.world import World


async def test_default_is_there_from_the_start_and_records(world: World) -> None:
    default = await services.get(world.house, "acme", "default")
    assert (default.unique_name, default.record, default.ttl) == ("default", "always", 3600)
    assert await services.get(world.house, "acme", default.id) == default
    other = await services.get(world.house, "other", "default")
    assert other.id != default.id
    with pytest.raises(NotFound):
        await services.get(world.house, "acme", other.id)


async def test_others_start_with_never_and_are_found_by_id_and_name(world: World) -> None:
    made = await services.create(world.house, "acme", ServiceChange(unique_name="food", ttl=600))
    assert made.id.startswith("svc_") and (made.record, made.ttl, made.name) == ("never", 600, "food")
    nameless = await services.create(world.house, "acme", ServiceChange())
    assert nameless.name == nameless.id
    assert await services.get(world.house, "acme", "food") == await services.get(world.house, "acme", made.id) == made
    await world.later(1)
    rows = await services.listing(world.house, "acme")
    assert rows[0].unique_name == "default" and {row.id for row in rows[1:]} == {made.id, nameless.id}
    for name in ("name:food", "nothing", ""):
        with pytest.raises(NotFound):
            await services.get(world.house, "acme", name)


async def test_what_was_read_lately_is_a_second_old_at_most_and_never_older_than_our_own_change(world: World) -> None:
    elsewhere = replace(world.house, seen={})
    first = await services.lately(world.house, "acme", "default")
    changed = await services.change(elsewhere, "acme", "default", ServiceChange(ttl=700))
    assert await services.lately(world.house, "acme", "default") == first
    assert await services.lately(elsewhere, "acme", "default") == changed
    await world.later(services.REMEMBERED)
    assert await services.lately(world.house, "acme", "default") == changed
    again = await services.change(world.house, "acme", changed.id, ServiceChange(ttl=800))
    assert await services.lately(world.house, "acme", "default") == again
    with pytest.raises(NotFound):
        await services.lately(world.house, "acme", "nothing")


async def test_a_name_is_one_services(world: World) -> None:
    made = await services.create(world.house, "acme", ServiceChange(unique_name="food"))
    with pytest.raises(UniqueNameConflict) as caught:
        await services.create(world.house, "acme", ServiceChange(unique_name="food"))
    assert caught.value.extra == {"service": made.id}
    renamed = await services.change(world.house, "acme", "food", ServiceChange(unique_name="meals"))
    assert renamed.id == made.id
    again = await services.create(world.house, "acme", ServiceChange(unique_name="food"))
    with pytest.raises(UniqueNameConflict):
        await services.change(world.house, "acme", again.id, ServiceChange(unique_name="meals"))
    assert (await services.change(world.house, "acme", "meals", ServiceChange(unique_name=None))).name == made.id


async def test_changes_at_once_are_all_kept(world: World) -> None:
    wishes = [ServiceChange(ttl=700), ServiceChange(record="never"), ServiceChange(ring_timeout=20)]
    await asyncio.gather(*(services.change(world.house, "acme", "default", wish) for wish in wishes))
    found = await services.get(world.house, "acme", "default")
    assert (found.ttl, found.record, found.ring_timeout, found.call_time_limit) == (700, "never", 20, 3600)


async def test_default_keeps_its_name_and_nothing_carries_a_number(world: World) -> None:
    with pytest.raises(Invalid):
        await services.change(world.house, "acme", "default", ServiceChange(unique_name="other"))
    with pytest.raises(Invalid):
        await services.create(world.house, "acme", ServiceChange(unique_name="svc_x"))
    with pytest.raises(ContainsPhoneNumber):
        await services.create(world.house, "acme", ServiceChange(friendly_name="of +84901234567"))
