"""Sessions over HTTP, and what happened on each: its interactions and its events."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from masking import (
    amending,
    callers,
    demands,
    intents,
    interactions,
    opening,
    originating,
    reopening,
    searches,
    sessions,
    shelves,
)
from masking.api.identifiers import number_filter
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, page_of, position_in
from masking.services import Ttl
from masking.sessions import NewParticipant, SessionStatus

ParticipantId = Annotated[str, msgspec.Meta(max_length=64, description="The id of a participant, par_….")]


class SessionQuery(Paged, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sessions: all of the tenant's, newest first, or those that match."""

    unique_name: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    status: SessionStatus | None = None
    number: Annotated[str, msgspec.Meta(max_length=32, description="A virtual number of yours, E.164.")] | None = None


class Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new end: `ttl` seconds from now, or `expires_at`, which wins. With neither, the service's own ttl."""

    ttl: Ttl | None = None
    expires_at: datetime | None = None


class AboutToCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is about to call: `participant`, and `to` whom; without it anybody."""

    participant: ParticipantId
    to: ParticipantId | None = None


class Swap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who leaves, and who comes in their place: `role` as before, unless one is said."""

    participant: ParticipantId
    replacement: NewParticipant


class Renumbering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which virtual number goes; for `overlap` seconds both work."""

    number: Annotated[str, msgspec.Meta(max_length=32, description="A virtual number of the session, E.164.")]
    overlap: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 300


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object, or no body at all."""


async def open_session(asked: Asked) -> Answer:
    session, opened = await opening.open_session(asked.house, asked.access, asked.body, token=asked.token)
    return Answer(201 if opened else 200, session)


async def get_session(asked: Asked) -> Answer:
    return Answer(200, await sessions.get(asked.house, asked.access, asked.path["session"]))


async def list_sessions(asked: Asked) -> Answer:
    query: SessionQuery = asked.query
    page = await shelves.listing(
        asked.house,
        asked.access,
        unique_name=query.unique_name,
        status=query.status,
        number=number_filter(query.number),
        limit=query.limit,
        before=position_in("sessions", query.cursor, tuple[float, str]),
    )
    following = cursor_for("sessions", page.next) if page.next is not None else None
    return Answer(200, Page(page.data, following))


async def change_session(asked: Asked) -> Answer:
    return Answer(200, await sessions.change(asked.house, asked.access, asked.path["session"], asked.body))


async def close_session(asked: Asked) -> Answer:
    return Answer(200, await sessions.close(asked.house, asked.access, asked.path["session"]))


async def extend_session(asked: Asked) -> Answer:
    wish: Extension = asked.body
    session = asked.path["session"]
    return Answer(
        200,
        await sessions.extend(asked.house, asked.access, session, ttl=wish.ttl, expires_at=wish.expires_at),
    )


async def swap_participant(asked: Asked) -> Answer:
    wish: Swap = asked.body
    session = asked.path["session"]
    return Answer(200, await amending.swap(asked.house, asked.access, session, wish.participant, wish.replacement))


async def replace_number(asked: Asked) -> Answer:
    wish: Renumbering = asked.body
    session = asked.path["session"]
    return Answer(200, await amending.replace_number(asked.house, asked.access, session, wish.number, wish.overlap))


async def reopen_session(asked: Asked) -> Answer:
    wish: Extension = asked.body
    session = asked.path["session"]
    return Answer(
        200, await reopening.reopen(asked.house, asked.access, session, ttl=wish.ttl, expires_at=wish.expires_at)
    )


async def search_sessions(asked: Asked) -> Answer:
    query: Paged = asked.query
    before = position_in("person", query.cursor, tuple[float, str])
    page = await searches.search(asked.house, asked.access, asked.body, limit=query.limit, before=before)
    return Answer(200, Page(page.data, cursor_for("person", page.next) if page.next is not None else None))


async def intend(asked: Asked) -> Answer:
    who: AboutToCall = asked.body
    session = asked.path["session"]
    return Answer(200, await intents.announce(asked.house, asked.access, session, who.participant, who.to))


async def call(asked: Asked) -> Answer:
    session = asked.path["session"]
    return Answer(202, await originating.originate(asked.house, asked.access, session, asked.body, token=asked.token))


async def record(asked: Asked) -> Answer:
    return Answer(202, await demands.demand(asked.house, asked.access, asked.path["session"], asked.body))


async def list_interactions(asked: Asked) -> Answer:
    query: Paged = asked.query
    rows = await interactions.of_session(asked.house, asked.tenant, asked.path["session"])
    return Answer(200, page_of(rows, "interactions", query, lambda interaction: interaction.id))


async def get_interaction(asked: Asked) -> Answer:
    return Answer(200, await interactions.get(asked.house, asked.tenant, asked.path["interaction"]))


async def list_session_events(asked: Asked) -> Answer:
    query: Paged = asked.query
    rows = await sessions.timeline(asked.house, asked.access, asked.path["session"])
    return Answer(200, page_of(rows, "session_events", query, lambda event: event.id))


async def look_up_caller(asked: Asked) -> Answer:
    return Answer(200, callers.look_up(asked.house, asked.tenant, asked.body))
