"""What a tenant may have: never one session too many, whoever opens them; given back whenever one ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from masking import opening, quotas, reopening, sessions
from masking.config import BadConfig, load
from masking.refusals import QuotaExceeded
from masking.sessions import NewSession
from masking.tenants import TenantSection
from tests.masking.world import CUSTOMER, DRIVER, World, participants


def limited(world: World, **limits: Any) -> World:
    config = msgspec.structs.replace(world.house.config, tenant=[TenantSection(name="acme", **limits)])
    world.house = replace(world.house, config=config)
    return world


async def test_of_sessions_opened_at_once_none_is_too_many(world: World) -> None:
    limited(world, max_open_sessions=5)
    await world.pool(40)
    people = [(f"+8490123{n:04}", f"+8490765{n:04}") for n in range(1000, 1020)]
    opened = await asyncio.gather(*(world.open(*pair) for pair in people), return_exceptions=True)
    refused = [one for one in opened if isinstance(one, BaseException)]
    assert len(refused) == 15 and all(isinstance(one, QuotaExceeded) for one in refused)
    [first] = {msgspec.json.encode(one.errors) for one in refused}  # type: ignore[attr-defined]
    assert b"max_open_sessions" in first and 0 < refused[0].extra["retry_after"] <= 3600  # type: ignore[attr-defined]


async def test_a_session_counts_until_it_ends_and_again_when_it_is_reopened(world: World) -> None:
    limited(world, max_open_sessions=1)
    await world.pool(4)
    first = await world.open(unique_name="order-1", ttl=600)
    new = NewSession(participants=participants(CUSTOMER, DRIVER), unique_name="order-1")
    again, fresh = await opening.open_session(world.house, world.access, new)
    assert (again.id, fresh) == (first.id, False), "what is open already is no new one"
    with pytest.raises(QuotaExceeded):
        await world.open()
    await sessions.close(world.house, world.access, first.id)
    second = await world.open(ttl=600)
    with pytest.raises(QuotaExceeded):
        await reopening.reopen(world.house, world.access, first.id, ttl=600, expires_at=None)
    assert (await sessions.get(world.house, world.access, first.id)).status == "closed"
    await sessions.extend(world.house, world.access, second.id, ttl=1200, expires_at=None)
    await world.later(700)
    with pytest.raises(QuotaExceeded):
        await world.open()
    await world.later(501)
    assert (await reopening.reopen(world.house, world.access, first.id, ttl=600, expires_at=None)).status == "open"
    with pytest.raises(QuotaExceeded):
        await world.open()


async def test_what_cannot_be_opened_is_not_counted_and_who_has_no_limit_costs_nothing(world: World) -> None:
    limited(world, max_open_sessions=1)
    with pytest.raises(Exception, match="number"):
        await world.open()  # there are none
    await world.pool(2)
    await world.open()
    keys = await world.house.redis.command("KEYS", "{quota:*")
    assert keys == [b"{quota:acme}"]
    limited(world)
    await world.open()
    assert await world.house.redis.command("ZCARD", "{quota:acme}") == 1


async def test_requests_of_a_second_are_counted(world: World) -> None:
    limited(world, max_requests_per_second=3)
    assert [await quotas.one_request_more(world.house, "acme") for _ in range(5)] == [True] * 3 + [False] * 2
    assert await quotas.one_request_more(world.house, "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[tenant]]\nname = "a"\nmax_numbers = -1', "max_numbers: expected a number"),
        ('[[tenant]]\nname = "a"\n[[tenant]]\nname = "a"', "stands twice"),
        ('[[tenant]]\nname = "a"\nmax_nombers = 1', 'did you mean "max_numbers"'),
        ('[[tenant]]\nname = "a"\nmax_numbers = "many"', "tenant a: max_numbers: Expected"),
        ('[tenant]\nname = "a"', "tenant: Expected"),
    ],
)
def test_a_tenant_that_cannot_be_meant_is_refused_at_start(tmp_path: Any, text: str, said: str) -> None:
    path = tmp_path / "masking.toml"
    path.write_text(text + "\n")
    with pytest.raises(BadConfig, match=said):
        load(path, {})
