"""One open session per name, whoever dies or stands still between claiming it and binding."""

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


async def grow_old(world: World) -> None:
    """The claim on the name was made long ago."""
    left = await world.house.redis.command("PTTL", key())
    await world.house.redis.command("PEXPIRE", key(), left - CLAIM_MS)


async def test_a_session_bound_but_not_answered_is_adopted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pool(3)
    with monkeypatch.context() as patched, pytest.raises(Died):
        bind = bindings.bind

        async def bind_and_die(*about: Any) -> Any:
            await bind(*about)
            raise Died

        patched.setattr(bindings, "bind", bind_and_die)
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
    await grow_old(world)
    assert (await waiting).status == "open"


async def test_a_name_is_free_at_once_when_its_session_has_ended(world: World) -> None:
    await world.pool(3)
    first = await world.open(unique_name=NAME)
    await sessions.close(world.house, world.access, first.id)
    async with asyncio.timeout(CLAIM_MS / 2000):
        assert (await world.open(unique_name=NAME)).id != first.id


@pytest.mark.parametrize("bound_first", [True, False])
async def test_who_loses_the_name_while_binding_gives_the_numbers_back(
    world: World, monkeypatch: pytest.MonkeyPatch, bound_first: bool
) -> None:
    await world.pool(3)
    winner: list[str] = []
    bind = bindings.bind

    async def stopped_for_long(*about: Any) -> Any:
        monkeypatch.setattr(bindings, "bind", bind)
        bound = await bind(*about) if bound_first else None
        await world.house.redis.command("DEL", key())
        winner.append((await world.open(unique_name=NAME)).id)
        await world.later(CLAIM_MS / 1000)
        return bound or await bind(*about)

    monkeypatch.setattr(bindings, "bind", stopped_for_long)
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


async def test_who_was_slow_and_lost_nothing_keeps_the_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.pool(1)
    bind = bindings.bind

    async def slow(*about: Any) -> Any:
        await world.later(CLAIM_MS / 1000)
        return await bind(*about)

    monkeypatch.setattr(bindings, "bind", slow)
    assert (await world.open(unique_name=NAME)).status == "open"


async def test_only_who_saw_it_last_changes_a_name(world: World) -> None:
    mine = Holding(claim="a", people="p", lives=60_000, candidates=["ses_a"])
    theirs = Holding(claim="b", people="p", lives=60_000, candidates=["ses_b"])
    assert await names.claim(world.house, "acme", key(), names.NOBODY, mine) is None
    held = await names.claim(world.house, "acme", key(), names.NOBODY, theirs)
    assert held is not None and held.holding == mine and held.young
    await names.give_up(world.house, key(), theirs)
    assert await names.still(world.house, key(), mine) and not await names.still(world.house, key(), theirs)
    await grow_old(world)
    held = await names.claim(world.house, "acme", key(), names.NOBODY, theirs)
    assert held is not None and not held.young
    assert await names.claim(world.house, "acme", key(), held, theirs) is None
    await names.give_up(world.house, key(), theirs)
    assert await names.claim(world.house, "acme", key(), held, theirs) == names.NOBODY
