"""Everything that happened to a tenant, in the order it reached the archive."""

from __future__ import annotations

import msgspec

from masking import archive
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, position_in
from masking.events import Event


async def list_events(asked: Asked) -> Answer:
    """Oldest first. `next` is null only on an empty page: whoever keeps the last one can come back for what is new."""
    query: Paged = asked.query
    last = position_in("events", query.cursor, int) or 0
    async with asked.archive.connect() as connection:
        rows = await archive.events_after(connection, asked.tenant, last, query.limit)
    events = [msgspec.json.decode(body, type=Event) for _, body in rows]
    return Answer(200, Page(events, cursor_for("events", rows[-1][0]) if rows else None))
