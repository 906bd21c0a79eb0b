"""Everything that happened to a tenant, in the order it reached the archive: by the page, or as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import msgspec

from masking import archive
from masking.api.operations import Answer, Asked
from masking.api.paging import Cursor, Page, Paged, cursor_for, position_in
from masking.api.problems import Declined
from masking.events import Event

STREAM_PAUSE = 0.25  # seconds between two looks for a stream that is up to date
STREAM_BREATH = 15.0  # seconds after which a silent stream says that it lives, so that proxies keep it open
STREAM_BATCH = 200
STREAMS = 100  # of one worker; each costs a look four times a second


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to begin."""

    cursor: Cursor | None = None


async def list_events(asked: Asked) -> Answer:
    """Oldest first. `next` is null only on an empty page: whoever keeps the last one can come back for what is new."""
    query: Paged = asked.query
    last = position_in("events", query.cursor, int) or 0
    async with asked.archive.connect() as connection:
        rows = await archive.events_after(connection, asked.tenant, last, query.limit)
    events = [msgspec.json.decode(body, type=Event) for _, body in rows]
    return Answer(200, Page(events, cursor_for("events", rows[-1][0]) if rows else None))


async def stream_events(asked: Asked) -> Answer:
    """Server-sent events (WHATWG HTML, section 9.2). Each message's `id` is a cursor of `GET /v1/events` too."""
    query: StreamQuery = asked.query
    after = position_in("events", asked.headers.get("last-event-id") or query.cursor, int)
    if after is None:
        async with asked.archive.connect() as connection:
            after = await archive.last_position(connection, asked.tenant)
    if asked.desk.streams >= STREAMS:
        raise Declined("rate_limited", f"A worker holds at most {STREAMS} streams.", extra={"retry_after": 5})
    return Answer(200, _told(asked, after), {"Cache-Control": "no-store"}, "text/event-stream")


async def _told(asked: Asked, after: int) -> AsyncIterator[bytes]:
    desk = asked.desk
    desk.streams += 1
    try:
        # The id alone is no message, but a reader who comes back before the first one knows where it was.
        yield f": welcome\nid: {cursor_for('events', after)}\n\n".encode()
        silent_since = desk.clock()
        while not desk.draining:
            async with asked.archive.connect() as connection:
                rows = await archive.events_after(connection, asked.tenant, after, STREAM_BATCH)
            for after, body in rows:
                event = msgspec.json.decode(body, type=Event)
                yield f"id: {cursor_for('events', after)}\nevent: {event.type}\ndata: {body}\n\n".encode()
            if rows:
                silent_since = desk.clock()
            elif desk.clock() - silent_since >= STREAM_BREATH:
                silent_since = desk.clock()
                yield b": still here\n\n"
            if len(rows) < STREAM_BATCH:
                await anyio.sleep(STREAM_PAUSE)
    finally:
        desk.streams -= 1
