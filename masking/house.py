"""The house: what every function of the core is given instead of reaching for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masking.config import Config
    from pools.inventory import Inventory
    from pools.keyring import Keyring
    from pools.leases import Leases
    from pools.redis import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True, slots=True)
class House:
    """Redis and what stands on it, the archive (None where SQL is not needed: the edge), the clock and the dice.

    `now()` is seconds since 1970; `token("int_")` a fresh id of 128 random bits behind its prefix.
    """

    config: Config
    redis: Redis
    keyring: Keyring
    inventory: Inventory
    leases: Leases
    archive: AsyncEngine | None
    now: Callable[[], float]
    random: Callable[[int], bytes]

    def token(self, prefix: str) -> str:
        """A fresh id: `ses_ par_ int_ rec_ evt_ …` and 22 letters and digits."""
        raise NotImplementedError


@asynccontextmanager
async def open_house(
    config: Config, *, now: Callable[[], float], random: Callable[[int], bytes], archive: bool = True
) -> AsyncIterator[House]:
    """Opens Redis and, unless `archive=False`, the archive; closes both. `now` is `time.time`, `random` `os.urandom`."""
    raise NotImplementedError
    yield
