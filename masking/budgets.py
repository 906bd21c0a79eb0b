"""What may be done only so often: a count in Redis for a span of time that begins with the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from masking.house import script

if TYPE_CHECKING:
    from masking.house import House

BUDGET: Final = script("budget")


class Budget(msgspec.Struct, frozen=True):
    """So many in so many seconds, of what `key` names (never a person's number)."""

    key: str
    most: int
    seconds: int

    async def spend(self, house: House) -> bool:
        """Takes one; False when all are spent."""
        return await self._ask(house, 1)

    async def give_back(self, house: House) -> None:
        """What was taken was not used."""
        await self._ask(house, -1)

    async def left(self, house: House) -> bool:
        """Is one left?"""
        return await self._ask(house, 0)

    async def _ask(self, house: House, take: int) -> bool:
        return bool(await house.redis.script(BUDGET, [self.key], [take, self.most, self.seconds * 1000]))
