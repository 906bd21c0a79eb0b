"""Who may ask: keys that Redis cannot give away."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from masking import access
from masking.access import REMEMBERED, SCOPES
from masking.refusals import Forbidden, Invalid, NotFound
from tests.masking.world import World


async def test_a_key_opens_its_tenant_with_its_scopes(world: World) -> None:
    key, token = await access.create_key(world.house, "acme", ["sessions", "numbers"], "backend")
    who = await access.authenticate(world.house, token)
    assert who is not None and (who.tenant, who.key, who.scopes) == ("acme", key.id, frozenset({"sessions", "numbers"}))
    who.demand("sessions")
    with pytest.raises(Forbidden):
        who.demand("admin")
    assert [one.id for one in await access.list_keys(world.house, "acme")] == [key.id]
    assert "acme" in await access.tenants(world.house)


async def test_no_other_text_opens_anything(world: World) -> None:
    key, token = await access.create_key(world.house, "acme", ["sessions"])
    _, other = await access.create_key(world.house, "acme", ["sessions"])
    secret = token.partition(".")[2]
    wrong = "A" if secret[0] != "A" else "B"
    for text in ("", ".", key.id, f"{key.id}.", f"{key.id}.{wrong}{secret[1:]}", f"{key.id}.{other.partition('.')[2]}",
                 f"{token} ", "bootstrap", "ключ", "x" * 10_000):  # fmt: skip
        assert await access.authenticate(world.house, text) is None


async def test_the_bootstrap_key_is_the_default_tenants(world: World) -> None:
    given = msgspec.structs.replace(world.house.config.service, bootstrap_key="a long random text")
    config = msgspec.structs.replace(world.house.config, service=given)
    house = replace(world.house, config=config)
    who = await access.authenticate(house, "a long random text")
    assert who is not None and (who.tenant, who.scopes) == ("default", frozenset(SCOPES))
    assert await access.authenticate(world.house, "") is None, "no bootstrap key, no bootstrap"


async def test_a_revoked_key_is_dead_here_at_once_and_elsewhere_in_seconds(world: World) -> None:
    key, token = await access.create_key(world.house, "acme", ["sessions"])
    elsewhere = replace(world.house, seen={})
    for house in (world.house, elsewhere):
        assert await access.authenticate(house, token) is not None
    await access.revoke_key(world.house, "acme", key.id)
    assert await access.authenticate(world.house, token) is None
    await world.later(REMEMBERED)
    assert await access.authenticate(elsewhere, token) is None
    with pytest.raises(NotFound):
        await access.revoke_key(world.house, "acme", key.id)


async def test_a_secret_is_not_in_redis(world: World) -> None:
    _, token = await access.create_key(world.house, "acme", ["sessions"])
    command = world.house.redis.command
    dump = b"".join([await command("DUMP", name) for name in await command("KEYS", "*")])
    assert token.partition(".")[2].encode() not in dump


@pytest.mark.parametrize(
    ("tenant", "scopes"), [("Acme!", ["sessions"]), ("", ["sessions"]), ("acme", []), ("acme", ["all"])]
)
async def test_a_tenant_and_its_scopes_have_names(world: World, tenant: str, scopes: list[access.Scope]) -> None:
    with pytest.raises(Invalid):
        await access.create_key(world.house, tenant, scopes)


async def test_ids_are_fresh_and_plain(world: World) -> None:
    ids = {world.house.token("int_") for _ in range(1000)}
    assert len(ids) == 1000 and all(len(one) == 26 and one[4:].isalnum() for one in ids)
