"""The end of recordings: erased when their time is over, unless somebody holds them; and never kept where they may not
lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from masking import access, keeping, services
from masking.courier.finisher import unbroken
from masking.events import append_loose, fact
from recordings import catalogue

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.house import House
    from recordings.catalogue import Recording

log = structlog.get_logger("masking.courier")

PAGE: Final = 100
KEY: Final = "retention"
"""Who erased it, where an API key stands otherwise."""


class Misplaced(Exception):
    """A service's recordings may not lie where this installation keeps them."""


class Retention:
    """One a courier. What it asks to be erased the outbox shreds, as if somebody had asked for it."""

    def __init__(self, house: House, engine: AsyncEngine) -> None:
        self._house = house
        self._engine = engine
        self._asked: set[str] = set()

    async def round(self) -> int:
        """Has every recording erased whose time is over; how many."""
        async with unbroken(self._engine.connect()) as connection:
            rows = await catalogue.expired(connection, self._house.now(), PAGE)
        fresh = [row for row in rows if row.recording.id not in self._asked]
        self._asked = {row.recording.id for row in rows}  # until the archive has taken it in
        for row in fresh:
            await self._erase(row.tenant, row.recording)
            log.info("retention_over", recording=row.recording.id)
        return len(fresh)

    async def _erase(self, tenant: str, recording: Recording) -> None:
        at = self._house.now()
        data = {"recording": recording.id, "interaction": recording.interaction, "key": KEY, "reason": "retention"}
        appended = await self._house.leases.append(recording.session, [fact("recording.erased", at, data)])
        if appended.outcome == "gone":
            of = {"of_session": recording.session}
            await append_loose(self._house, tenant, "recording.erased", at, data | of)


async def check_regions(house: House) -> None:
    """`Misplaced` when a service's recordings are pinned to another region than theirs."""
    for tenant in await access.tenants(house):
        for service in await services.listing(house, tenant):
            if keeping.misplaced(house.config.recordings, service.recording_storage):
                wanted, region = service.recording_storage.region, house.config.recordings.region or "no region"
                raise Misplaced(
                    f"recordings.region: {region}, but the service {service.name} of tenant {tenant} keeps its"
                    f" recordings in {wanted}: give it back its region, or unpin the service"
                )
