"""The session model's own fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from pools.keyring import Keyring
from pools.redis import Redis
from tests.masking.world import World


@pytest.fixture
async def world(redis: Redis, keyring: Keyring, tmp_path: Path) -> World:
    """A tenant without numbers yet, without an archive, whose clock stands still until the test moves it."""
    return await World.make(redis, keyring, tmp_path)
