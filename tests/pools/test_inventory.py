"""Phone numbers, their shards and their states."""

from __future__ import annotations

import asyncio

import pytest

from pools.grants import Exhausted
from pools.inventory import Figures, Inventory, Item, Shard, State, Taken, TooMany, UnknownNumber
from pools.keyring import Keyring
from pools.numbers import Number
from pools.redis import Redis
from tests.pools.world import QUARANTINE, START, TTL, World, one, pair


@pytest.fixture
def inventory(redis: Redis, keyring: Keyring) -> Inventory:
    return Inventory(redis, keyring)


def items(count: int, country: str = "VN", prefix: str = "+84240000", trunk: str = "") -> list[Item]:
    return [Item(f"{prefix}{place:04}", country, trunk) for place in range(count)]


async def test_a_number_is_found_by_its_digits_alone(inventory: Inventory) -> None:
    added = await inventory.add("t", "default", items(2, trunk="carrier-vn"))
    found = await inventory.find(Number.parse("+842400000001"))
    assert found == added[1] == await inventory.find("+842400000001")
    assert (found.tenant, found.service, found.country, found.trunk, found.state, found.position) == (
        "t", "default", "VN", "carrier-vn", "active", 1
    )  # fmt: skip
    assert await inventory.find("+842400000009") is None
    assert await inventory.is_pool_number("+842400000000")
    assert not await inventory.is_pool_number("+84901234567")


async def test_pool_numbers_are_told_from_peoples_by_their_indexes(inventory: Inventory, keyring: Keyring) -> None:
    await inventory.add("t", "default", items(2))
    texts = ["+84901234567", "+842400000001", "+84907654321", "+842400000000"]
    indexes = [keyring.index(Number.parse(text)) for text in texts]
    assert await inventory.in_pools(indexes) == 2
    assert await inventory.pool_numbers(indexes) == [1, 3]
    assert await inventory.in_pools([indexes[0], indexes[2]]) == 0
    assert await inventory.in_pools([]) == 0
    assert await inventory.pool_numbers([]) == []


async def test_recent_pools_show_at_once_what_this_process_added(redis: Redis, keyring: Keyring) -> None:
    here, elsewhere = Inventory(redis, keyring), Inventory(redis, keyring)
    await elsewhere.add("t", "default", items(1))
    seen = await here.recent_pools("t", "default", 60.0)
    assert {country: pool.size for country, pool in seen.items()} == {"VN": 1}
    await elsewhere.add("t", "default", items(2))
    assert await here.recent_pools("t", "default", 60.0) == seen, "trusted for a while"
    assert (await here.recent_pools("t", "default", 0.0))["VN"].size == 2
    await here.add("t", "default", items(3))
    pools = await here.recent_pools("t", "default", 60.0)
    assert pools["VN"].size == 3
    assert [(shard.name,) for shard in await here.shards("t", "default")] == [pools["VN"].shards]


async def test_what_was_found_is_not_asked_again(inventory: Inventory, redis: Redis) -> None:
    await inventory.add("t", "default", items(1))
    first = await inventory.find("+842400000000")
    await redis.command("FLUSHALL")
    assert await inventory.find("+842400000000") is first


async def test_what_was_found_is_asked_again_after_a_while(redis: Redis, keyring: Keyring) -> None:
    inventory = Inventory(redis, keyring, keep=0.0)
    await inventory.add("t", "default", items(1))
    assert await inventory.find("+842400000000") is not None
    await Inventory(redis, keyring).set_state("t", "default", "+842400000000", "draining")
    again = await inventory.find("+842400000000")
    assert again is not None and again.state == "draining"
    await redis.command("FLUSHALL")
    assert await inventory.find("+842400000000") is None


async def test_adding_again_changes_nothing_and_is_no_error(inventory: Inventory) -> None:
    first = await inventory.add("t", "default", items(3))
    again = await inventory.add("t", "default", [*items(2, trunk="other"), items(3)[2], items(4)[3]])
    assert again[:3] == first
    assert again[3].position == 3
    assert await inventory.shards("t", "default") == [Shard(first[0].shard, "t", "default", "VN", 4)]


async def test_the_same_number_twice_in_one_list_is_one_number(inventory: Inventory) -> None:
    first, second = await inventory.add("t", "default", [*items(1), *items(1)])
    assert first == second
    assert [shard.size for shard in await inventory.shards("t", "default")] == [1]


@pytest.mark.parametrize("other", [("t", "other"), ("u", "default")])
async def test_a_number_held_elsewhere_stops_the_whole_list(world: World, other: tuple[str, str]) -> None:
    inventory = world.inventory
    await inventory.add(*other, items(1, prefix="+84249999"))
    before = await world.snapshot()
    with pytest.raises(Taken) as refusal:
        await inventory.add("t", "default", [*items(2), *items(1, prefix="+84249999")])
    assert refusal.value.numbers == ("+842499990000",)
    assert await world.snapshot() == before


async def test_two_tenants_that_add_the_same_numbers_at_once_do_not_share_them(redis: Redis, keyring: Keyring) -> None:
    results = await asyncio.gather(
        *(Inventory(redis, keyring).add(f"t{n}", "s", items(20)) for n in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(result, Taken) for result in results) == 1


async def test_a_pool_is_cut_into_shards_of_one_country(inventory: Inventory) -> None:
    added = await inventory.add("t", "default", [*items(300), *items(5, "SG", "+6531000")])
    shards = {shard.name: shard for shard in await inventory.shards("t", "default")}
    assert sorted((shard.country, shard.size) for shard in shards.values()) == [("SG", 5), ("VN", 44), ("VN", 256)]
    assert [shard.size for shard in await inventory.shards("t", "default", "SG")] == [5]
    assert await inventory.shards("t", "other") == []
    assert await inventory.shard_names() == set(shards)
    assert all(shards[number.shard].country == number.country for number in added)
    assert len({(number.shard, number.position) for number in added}) == 305
    await inventory.add("t", "default", items(300, prefix="+84241000"))
    assert sorted(shard.size for shard in await inventory.shards("t", "default", "VN")) == [88, 256, 256]


async def test_adding_nothing_adds_nothing(inventory: Inventory, redis: Redis) -> None:
    assert await inventory.add("t", "default", []) == []
    assert await redis.command("DBSIZE") == 0


@pytest.mark.parametrize("item", [Item("+8495", "VN"), Item("0955598761", "VN"), Item("+84955598761", "vn")])
async def test_an_item_that_makes_no_sense_is_named_by_its_place(
    inventory: Inventory, redis: Redis, item: Item
) -> None:
    with pytest.raises(ValueError, match="item 1") as refusal:
        await inventory.add("t", "default", [*items(1), item])
    assert "9555" not in str(refusal.value)
    assert await redis.command("DBSIZE") == 0


@pytest.mark.parametrize(("tenant", "service"), [("", "s"), ("t/u", "s"), ("t", "s s"), ("t", "x" * 65)])
async def test_a_tenant_or_service_is_a_plain_name(inventory: Inventory, tenant: str, service: str) -> None:
    with pytest.raises(ValueError):
        await inventory.add(tenant, service, items(1))
    with pytest.raises(ValueError):
        await inventory.shards(tenant, service)


async def test_numbers_are_listed_in_pages(inventory: Inventory) -> None:
    await inventory.add("t", "default", list(reversed(items(5))))
    await inventory.add("t", "other", items(3, prefix="+84249999"))
    first = await inventory.list("t", "default", limit=2)
    assert [number.number for number in first] == ["+842400000000", "+842400000001"]
    rest = await inventory.list("t", "default", after=first[-1].number)
    assert [number.number for number in rest] == ["+842400000002", "+842400000003", "+842400000004"]
    assert await inventory.list("t", "default", after=rest[-1].number) == []


async def test_a_number_that_is_not_active_takes_no_new_lease_and_keeps_the_old_ones(world: World) -> None:
    shard = await world.pool(2)
    bound = [await world.bind(shard, one("an", name)) for name in ("binh", "chi")]
    for state in ("draining", "suspended", "retired"):
        number = await world.inventory.set_state("t", "default", bound[0].numbers[0], state)
        assert number.state == state
        with pytest.raises(Exhausted):
            await world.bind(shard, pair("dung", "em"), pair("dung", "phuc"))
        assert (await world.call(bound[0].numbers[0], "an", call=state)).decision == "routed"
        found = await world.inventory.find(bound[0].numbers[0])
        assert found == number, "the process that changed a state sees it at once"
    await world.inventory.set_state("t", "default", bound[0].numbers[0], "active")
    assert len((await world.bind(shard, pair("dung", "em"), pair("dung", "phuc"))).numbers) == 2


async def test_a_retired_number_that_is_added_again_is_active(world: World) -> None:
    shard = await world.pool(1)
    await world.inventory.set_state("t", "default", "+842400000000", "retired")
    added = await world.inventory.add("t", "default", items(1))
    assert (added[0].state, added[0].shard, added[0].position) == ("active", shard, 0)
    await world.bind(shard, pair("an", "binh"))


async def test_a_state_is_changed_by_its_owner_alone(world: World) -> None:
    await world.pool(1)
    before = await world.snapshot()
    for tenant, service, x in (("u", "default", "+842400000000"), ("t", "other", "+842400000000")):
        with pytest.raises(UnknownNumber):
            await world.inventory.set_state(tenant, service, x, "retired")
    with pytest.raises(UnknownNumber):
        await world.inventory.set_state("t", "default", "+842400000009", "retired")
    with pytest.raises(ValueError):
        await world.inventory.set_state("t", "default", "+842400000000", "lost")  # type: ignore[arg-type]
    assert await world.snapshot() == before


async def test_an_older_word_about_a_number_never_undoes_a_newer_one(world: World) -> None:
    """The process that added a number tells its shard late, when another one has already set it aside."""
    from pools.scripts import PLACE

    shard = await world.pool(1)
    await world.inventory.set_state("t", "default", "+842400000000", "draining")
    await world.inventory.set_state("t", "default", "+842400000000", "draining")
    await world.redis.script(PLACE, ["{" + shard + "}h"], [0, "+842400000000", "active", 1])
    with pytest.raises(Exhausted):
        await world.bind(shard, pair("an", "binh"))


async def test_adding_again_mends_a_shard_that_was_never_told(world: World) -> None:
    shard = await world.pool(2)
    await world.redis.command("DEL", "{" + shard + "}h", "{" + shard + "}m", "{" + shard + "}v")
    with pytest.raises(Exhausted):
        await world.bind(shard, pair("an", "binh"))
    await world.inventory.add("t", "default", items(2))
    await world.bind(shard, pair("an", "binh"))


async def test_figures_count_live_holders_and_standing_tombstones(world: World) -> None:
    shard = await world.pool(5)
    bound = [await world.bind(shard, pair("an", f"p{n}")) for n in range(4)]
    await world.inventory.set_state("t", "default", "+842400000004", "draining")
    await world.leases.release(bound[0].holder, reason="api")
    await world.later(1000)
    await world.leases.release(bound[1].holder, reason="api")
    free = await world.bind(shard, pair("chi", "dung"), quarantine=0)
    await world.leases.release(free.holder, reason="api")
    whole = Shard(shard, "t", "default", "VN", 5)

    async def figures(now: int) -> Figures:
        (only,) = await world.inventory.figures("t", "default", now)
        return only

    assert await world.inventory.members(shard) == {place: f"+84240000{place:04}" for place in range(5)}
    assert await world.inventory.every_shard() == [Shard(shard, "t", "default", "VN", 0)]
    assert await figures(world.now) == Figures(whole, 4, {"draining": 1}, 2, 2)
    assert (await figures(START + QUARANTINE)).quarantined == 1
    assert (await figures(START + QUARANTINE + 1000)).quarantined == 0
    assert (await figures(START + TTL)).live == 0
    await world.at(START + QUARANTINE + 5000)
    await world.leases.release(bound[2].holder, reason="api")
    assert await world.redis.command("ZCARD", "{" + shard + "}q") == 1, "what no longer stands is forgotten"


async def test_figures_count_numbers_by_state(world: World) -> None:
    await world.pool(6)
    states: list[State] = ["suspended", "suspended", "retired", "draining", "active"]
    for place, state in enumerate(states):
        await world.inventory.set_state("t", "default", f"+84240000000{place}", state)
    (figures,) = await world.inventory.figures("t", "default", world.now)
    assert (figures.open, figures.closed) == (2, {"suspended": 2, "retired": 1, "draining": 1})
    await world.inventory.set_state("t", "default", "+842400000000", "active")
    (figures,) = await world.inventory.figures("t", "default", world.now)
    assert (figures.open, figures.closed["suspended"]) == (3, 1)


async def test_nothing_in_redis_spells_a_persons_number(world: World, keyring: Keyring) -> None:
    shard = await world.pool(2)
    person = Number.parse("+84999123456")
    index = keyring.index(person)
    bound = await world.bind(shard, pair(index, "binh"), fields={"record": keyring.seal(person, "here")})
    await world.call(bound.numbers[0], index)
    await world.inventory.find(person)
    everything = [key for key in await world.redis.command("KEYS", "*")]
    dumps = [await world.redis.command("DUMP", key) for key in everything]
    assert len(dumps) > 8
    assert all(b"999123456" not in text for text in [*everything, *(dump for dump in dumps if dump)])


async def test_a_tenant_holds_no_more_numbers_than_it_may_and_retired_ones_are_not_held(inventory: Inventory) -> None:
    await inventory.add("t", "default", items(3), most=4)
    with pytest.raises(TooMany) as full:
        await inventory.add("t", "food", items(2, prefix="+84241111"), most=4)
    assert full.value.held == 3 and await inventory.find("+842411110000") is None, "all or none"
    await inventory.add("t", "default", items(3), most=3)
    await inventory.add("t", "default", [*items(4), *items(4)], most=4)
    await inventory.set_state("t", "default", "+842400000000", "retired", 4)
    await inventory.set_state("t", "default", "+842400000000", "retired", 4)
    await inventory.add("t", "food", items(1, prefix="+84241111"), most=4)
    with pytest.raises(TooMany):
        await inventory.set_state("t", "default", "+842400000000", "active", 4)
    with pytest.raises(TooMany):
        await inventory.add("t", "default", items(1), most=4)
    assert (await inventory.set_state("t", "default", "+842400000000", "active")).state == "active"
    assert len(await inventory.add("u", "default", items(5, prefix="+84242222"), most=5)) == 5, "each its own"


async def test_of_imports_at_once_no_more_are_taken_than_may_be(inventory: Inventory) -> None:
    adding = [inventory.add("t", "default", items(1, prefix=f"+8424{n:04}"), most=7) for n in range(20)]
    done = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(not isinstance(one, TooMany) for one in done) == 7


async def test_a_retired_number_that_is_put_back_rests_until_it_has_been_away_for_long_enough(
    world: World, redis: Redis
) -> None:
    shard, inventory = await world.pool(3), world.inventory
    first, second, third = (f"+84240000{place:04}" for place in range(3))
    for number in (first, second):
        await inventory.set_state("t", "default", number, "retired")
    hour = 3_600_000
    (back,) = await inventory.add("t", "default", [Item(first, "VN")], ageing_ms=hour)
    assert back.state == "resting" and back.rests_until > 0
    found = await inventory.set_state("t", "default", second, "draining", ageing_ms=hour)
    assert found.state == "resting"
    assert (await inventory.set_state("t", "default", third, "draining", ageing_ms=hour)).state == "draining"
    (figures,) = await inventory.figures("t", "default", world.now)
    assert (figures.open, figures.closed) == (0, {"resting": 2, "draining": 1})
    assert (await inventory.add("t", "default", [Item(first, "VN")], ageing_ms=hour))[0].rests_until == back.rests_until
    with pytest.raises(Exhausted):
        await world.bind(shard, pair("an", "binh"))
    assert await inventory.rested(back.rests_until - 1) == []
    later = max(back.rests_until, found.rests_until)
    assert sorted((one.number, one.state, one.rests_until) for one in await inventory.rested(later)) == [
        (first, "active", 0),
        (second, "active", 0),
    ]
    assert await inventory.rested(later) == []
    await world.bind(shard, pair("an", "binh"))

    await inventory.set_state("t", "default", first, "retired")
    await inventory.add("t", "default", [Item(first, "VN")], ageing_ms=hour)
    assert (await inventory.set_state("t", "default", first, "retired")).state == "retired"
    assert await redis.command("ZCARD", "{n}resting") == 0, "it waits for nothing any more"
    assert (await inventory.add("t", "default", [Item(first, "VN")]))[0].state == "active", "nobody wants it to rest"
    with pytest.raises(ValueError):
        await inventory.set_state("t", "default", first, "resting")
