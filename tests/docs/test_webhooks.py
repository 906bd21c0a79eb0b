"""What docs/webhooks.md says of signatures is true of the signatures that are sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from masking import webhooks
from masking.webhooks import NewWebhookEndpoint
from pools.keyring import Keyring
from pools.redis import Redis
from tests.masking.world import World

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture
async def world(redis: Redis, keyring: Keyring, tmp_path: Path) -> World:
    return await World.make(redis, keyring, tmp_path)


def snippet() -> Callable[[str, dict[str, str], bytes], bool]:
    """The page's Python, as a reader would paste it."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    return cast(Callable[[str, dict[str, str], bytes], bool], names["is_ours"])


async def test_the_pages_own_verifier_knows_our_signature_from_another(world: World) -> None:
    is_ours = snippet()
    made = await webhooks.create(world.house, "acme", NewWebhookEndpoint(url="https://example.com/"), since=0)
    kept = await webhooks.get(world.house, "acme", made.id)
    headers = webhooks.headers(world.house, kept, "evt_1", b"{}", 1_800_000_000)
    assert is_ours(made.secret, headers, b"{}")
    assert not is_ours(made.secret, headers, b"{ }")
    await webhooks.rotate_secret(world.house, "acme", made.id)
    both = webhooks.headers(world.house, await webhooks.get(world.house, "acme", made.id), "evt_1", b"{}", 1)
    assert is_ours(made.secret, both, b"{}") and both["webhook-signature"].count("v1,") == 2
