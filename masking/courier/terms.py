"""Until when a recording is kept: settled once, when it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from masking import archive, keeping, services
from masking.events import moment
from masking.refusals import NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.house import House
    from recordings.catalogue import Catalogued


async def kept_until(house: House, engine: AsyncEngine, row: Catalogued) -> datetime | None:
    """Until when the recording of an ended call is kept; None: for good."""
    with anyio.CancelScope(shield=True):
        async with engine.connect() as connection:
            session = await archive.session_body(connection, row.tenant, row.recording.session)
            call = await archive.interaction_body(connection, row.tenant, row.recording.interaction)
    service, dialled = _said(session, "service"), _said(call, "dialled")
    number = await house.inventory.find(dialled) if dialled is not None else None
    try:
        found = await services.lately(house, row.tenant, service or "default")
    except NotFound:
        found = await services.lately(house, row.tenant, "default")
    seconds = keeping.retention_of(house.config, found, number.country if number is not None else None)
    return None if seconds is None or row.ended_at is None else moment(row.ended_at + seconds)


def _said(body: str | None, field: str) -> str | None:
    value = msgspec.json.decode(body).get(field) if body is not None else None
    return value if isinstance(value, str) else None
