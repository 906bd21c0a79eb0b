"""The heads of the chains of evidence, signed and sent out, so that no later chain can take their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from masking import archive, evidence
from masking.courier.finisher import unbroken
from masking.events import append_loose

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.house import House

PAUSE: Final = 60.0  # seconds between two looks: what is younger is not yet out of this house


class Notary:
    """One a courier. A courier that starts anew signs the heads it finds once more, which does no harm."""

    def __init__(self, house: House, engine: AsyncEngine) -> None:
        self._house = house
        self._engine = engine
        self._signed: dict[str, int] = {}
        self._next = 0.0

    async def round(self) -> int:
        """Signs every head that has moved, once a minute; how many. Raises what Redis and the archive raise."""
        if self._house.now() < self._next:
            return 0
        async with unbroken(self._engine.connect()) as connection:
            heads = await archive.evidence_heads(connection)
        moved = {tenant: head for tenant, head in heads.items() if self._signed.get(tenant) != head.seq}
        for tenant, head in moved.items():
            checkpoint = evidence.sign(self._house.keyring, tenant, head.seq, head.hash)
            at = self._house.now()
            await append_loose(self._house, tenant, "evidence.checkpoint", at, msgspec.structs.asdict(checkpoint))
            self._signed[tenant] = head.seq
        self._next = self._house.now() + PAUSE
        return len(moved)
