"""The pools' own fixtures."""

from __future__ import annotations

import pytest

from pools.keyring import Keyring
from pools.redis import Redis
from tests.pools.world import START, World


@pytest.fixture
async def world(redis: Redis, keyring: Keyring) -> World:
    """An empty service whose shards read a clock that stands still until the test moves it."""
    made = World(redis, keyring)
    await made.at(START)
    return made
