"""What happened: interactions and events."""

from masking import events as core_events
from masking import interactions as core_interactions
from masking.api import (
    events,
    sessions,
)
from masking.api.operations import Header, Operation, Said
from masking.api.paging import Page, Paged

HISTORY = [
    Operation(
        "GET",
        "/v1/sessions/{session}/interactions",
        "List the attempts on a session, refused ones too, oldest first.",
        sessions.list_interactions,
        {200: Said("A page of interactions.", Page[core_interactions.Interaction])},
        query=Paged,
        scopes=("sessions",),
        tag="interactions",
    ),
    Operation(
        "GET",
        "/v1/interactions/{interaction}",
        "Get one interaction.",
        sessions.get_interaction,
        {200: Said("The interaction.", core_interactions.Interaction)},
        scopes=("sessions",),
        tag="interactions",
    ),
    Operation(
        "GET",
        "/v1/sessions/{session}/events",
        "List what happened on a session, in the order of `seq`.",
        sessions.list_session_events,
        {200: Said("A page of events.", Page[core_events.Event])},
        query=Paged,
        scopes=("sessions",),
        tag="events",
    ),
    Operation(
        "GET",
        "/v1/events",
        "List what happened to you, oldest first; come back with the last cursor for what is new.",
        events.list_events,
        {200: Said("A page of events; `next` is null only on an empty one.", Page[core_events.Event])},
        query=Paged,
        scopes=("sessions",),
        tag="events",
    ),
    Operation(
        "GET",
        "/v1/events:stream",
        "Events as they happen, as server-sent events; goes on after `Last-Event-ID` or `cursor`, else from now.",
        events.stream_events,
        {200: Said("One event a message; `id` is the cursor after it.", str, "text/event-stream")},
        query=events.StreamQuery,
        endless=True,
        headers=(Header("Last-Event-ID", "The `id` of the last message seen: go on after it."),),
        scopes=("sessions",),
        problems=("invalid_cursor", "rate_limited"),
        tag="events",
    ),
]
