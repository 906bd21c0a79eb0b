"""One courier works at a time: a lease in Redis, kept by whoever has it.

Two couriers at work for a moment would do no harm (the archive's positions are compare-and-set in the rows' own
transaction, ends and releases are idempotent); the lease keeps them from doing everything twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from masking.names import KEEP
from pools.redis import Unavailable

if TYPE_CHECKING:
    from masking.house import House

KEY: Final = "courier"
LASTS_MS: Final = 3_000


class Lease:
    """`held` until `hold` says otherwise."""

    def __init__(self, house: House, token: str) -> None:
        self._house = house
        self._token = token
        self.held = False

    async def hold(self) -> bool:
        """Takes or prolongs the lease; call it every second. Without Redis nobody holds it."""
        try:
            redis = self._house.redis
            taken = await redis.command("SET", KEY, self._token, "NX", "PX", LASTS_MS)
            self.held = bool(taken or (await redis.script(KEEP, [KEY], [self._token, self._token, LASTS_MS]))[0])
        except Unavailable:
            self.held = False
        return self.held

    async def leave(self) -> None:
        """Gives it back, so that the next courier need not wait."""
        try:
            await self._house.redis.script(KEEP, [KEY], [self._token, "", 0])
        except Unavailable:
            pass
        self.held = False
