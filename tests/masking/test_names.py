"""One open session per name, whoever dies between claiming it and confirming it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from masking import bindings, names, opening, sessions
from masking.names import CLAIM_MS, Holding
from masking.refusals import NumberPoolExhausted, UniqueNameConflict
from masking.services import default_id
from masking.sessions import NewSession
from tests.masking.world import CUSTOMER, DRIVER, MERCHANT, World, participants

NAME = "order-1"


def key() -> str:
    return names.key("acme", default_id("acme"), NAME)


class Died(BaseException):
    """The process was killed here."""


async def die(*_: object, **__: object) -> Any:
    raise Died


async def test_a_session_bound_but_not_confirmed_is_adopted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pool(3)
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(names, "confirm", die)
        await world.open(unique_name=NAME)
    heir = await world.open(unique_name=NAME)
    with pytest.raises(UniqueNameConflict) as caught:
        await world.open(CUSTOMER, MERCHANT, unique_name=NAME)
    assert caught.value.extra["session"] == heir.id
    [shard] = await world.house.inventory.shard_names()
    opened = [entry for entry in await world.house.leases.outbox(shard) if entry.type == "session.opened"]
    assert [entry.holder for entry in opened] == [heir.id]


async def test_a_claim_without_a_session_is_anybodys_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(3)
    with monkeypatch.context() as patched, pytest.raises(Died):
        patched.setattr(bindings, "bind", die)
        await world.open(unique_name=NAME)
    waiting = asyncio.create_task(world.open(unique_name=NAME))
    for _ in range(3):
        await asyncio.sleep(opening.POLL)
    assert not waiting.done(), "the claimer may be binding right now"
    await world.later(CLAIM_MS / 1000)
    assert (await waiting).status == "open"


async def test_who_loses_the_name_while_binding_gives_the_numbers_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.pool(3)
    winner: list[str] = []
    confirm = names.confirm

    async def stopped_for_long(*about: Any) -> bool:
        monkeypatch.setattr(names, "confirm", confirm)
        await world.house.redis.command("DEL", key())
        winner.append((await world.open(unique_name=NAME)).id)
        return await confirm(*about)

    monkeypatch.setattr(names, "confirm", stopped_for_long)
    late, created = await opening.open_session(
        world.house, world.access, NewSession(participants=participants(CUSTOMER, DRIVER), unique_name=NAME)
    )
    assert (late.id, created) == (winner[0], False)
    [shard] = await world.house.inventory.shard_names()
    ends = [entry for entry in await world.house.leases.outbox(shard) if entry.type == "session.closed"]
    assert len(ends) == 1 and ends[0].holder != late.id
    loser = await sessions.get(world.house, world.access, ends[0].holder)
    assert loser.closed_reason == "replaced"


async def test_a_name_is_free_at_once_when_no_number_was(world: World) -> None:
    await world.pool(1)
    other = await world.open(CUSTOMER, MERCHANT, pair_quarantine=0)
    with pytest.raises(NumberPoolExhausted):
        await world.open(unique_name=NAME)
    assert await world.house.redis.command("EXISTS", key()) == 0
    await sessions.close(world.house, world.access, other.id)
    await world.later(1)
    assert (await world.open(unique_name=NAME)).unique_name == NAME


async def test_the_names_key_outlives_its_session_and_moves_with_it(world: World) -> None:
    await world.pool(1)
    session = await world.open(unique_name=NAME, ttl=60)
    first = await world.house.redis.command("PTTL", key())
    assert first > names.OUTLIVES_MS
    await sessions.extend(world.house, world.access, session.id, ttl=86_400, expires_at=None)
    assert await world.house.redis.command("PTTL", key()) > first


async def test_only_who_saw_it_last_changes_a_name(world: World) -> None:
    mine = Holding(claim="a", people="p", at=1)
    theirs = Holding(claim="b", people="p", at=1)
    assert await names.claim(world.house, key(), names.NOBODY, mine) is None
    held = await names.claim(world.house, key(), names.NOBODY, theirs)
    assert held is not None and held.holding == mine
    await names.give_up(world.house, key(), theirs)
    assert await names.claim(world.house, key(), names.NOBODY, theirs) == held
    assert not await names.confirm(world.house, key(), theirs, "ses_b", 1)
    assert await names.confirm(world.house, key(), mine, "ses_a", 1)
