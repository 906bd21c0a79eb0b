"""Sees to it that every tenant has a key pair to seal recordings with, and that the edges know its public half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from masking import access, locks
from masking.locks import Lock

if TYPE_CHECKING:
    from masking.house import House
    from recordings.vault import Vault

log = structlog.get_logger("masking.courier")


class Locksmith:
    """One a courier; two at once do no harm: the archive has one newest pair."""

    def __init__(self, house: House, vault: Vault) -> None:
        self._house = house
        self._vault = vault

    async def round(self) -> int:
        """Looks at every tenant once; how many locks were made or told anew."""
        made, changed = await self._vault.locks(), 0
        for tenant in await access.tenants(self._house):
            newest = made.get(tenant)
            if newest is None:
                newest = await self._vault.rotate(tenant, self._house.now())
                log.info("tenant_key_made", tenant=tenant)
            lock = Lock(newest.key, newest.public)
            if await locks.told(self._house, tenant) != lock:
                await locks.tell(self._house, tenant, lock)
                changed += 1
        return changed
