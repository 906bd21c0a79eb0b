"""Every call of the API, one row each; a path in braces names what stands there.

The service is built from this table (`app`) and so is its OpenAPI document (`openapi`). A row without a handler is a
call the contract names and this version does not serve: 501 `not_implemented`.
"""

from __future__ import annotations

from typing import Any

from masking import capacity as core_capacity
from masking import disputes as core_disputes
from masking import events as core_events
from masking import intents as core_intents
from masking import interactions as core_interactions
from masking import services as core_services
from masking import sessions as core_sessions
from masking import webhooks as core_webhooks
from masking.api import (
    case,
    custody,
    disputes,
    events,
    phone_numbers,
    recordings,
    services,
    sessions,
    tools,
    webhook_endpoints,
)
from masking.api.operations import Header, Method, Operation, Said
from masking.api.paging import Page, Paged

ACCEPT_RANGES = (
    Header("Accept-Ranges", "`bytes`."),
    Header("ETag", "Names these bytes: give it back in If-Range."),
)

# Fields the contract names which this version refuses by name, with 422 `not_implemented`.
SESSION_LATER = frozenset({"recording_notice"})
CHANGE_LATER = SESSION_LATER | {*core_sessions.NewSession.__struct_fields__} - {
    *core_sessions.SessionChange.__struct_fields__
}
SERVICE_LATER = (CHANGE_LATER | {"out_of_session", "consent_policy"}) - {"participants", "service", "unique_name"}

SERVICES = [
    Operation(
        "POST",
        "/v1/services",
        "Create a service: the defaults its sessions start from, and its own pools of numbers.",
        services.create_service,
        {201: Said("The service.", core_services.Service)},
        body=core_services.ServiceChange,
        not_built=SERVICE_LATER - {*core_services.ServiceChange.__struct_fields__},
        scopes=("admin",),
        problems=("unique_name_conflict", "contains_phone_number", "conflict", "not_implemented_field"),
        body_required=False,
        tag="services",
    ),
    Operation(
        "GET",
        "/v1/services",
        "List the services, `default` first.",
        services.list_services,
        {200: Said("A page of services.", Page[core_services.Service])},
        query=Paged,
        tag="services",
    ),
    Operation(
        "GET",
        "/v1/services/{service}",
        "Get a service by its id or unique_name.",
        services.get_service,
        {200: Said("The service.", core_services.Service)},
        tag="services",
    ),
    Operation(
        "PATCH",
        "/v1/services/{service}",
        "Change what is said; open sessions keep what they started with.",
        services.change_service,
        {200: Said("The service as it is now.", core_services.Service)},
        body=core_services.ServiceChange,
        not_built=SERVICE_LATER - {*core_services.ServiceChange.__struct_fields__},
        scopes=("admin",),
        problems=("unique_name_conflict", "contains_phone_number", "conflict", "not_implemented_field"),
        tag="services",
    ),
    Operation(
        "GET",
        "/v1/services/{service}/pools",
        "Per country and shard: size, numbers by state, live and quarantined sessions. Never more than one page.",
        services.list_pools,
        {200: Said("The pools, by country.", Page[core_capacity.PoolLoad])},
        scopes=("numbers",),
        tag="services",
    ),
    Operation(
        "GET",
        "/v1/services/{service}/capacity",
        "How much the pools are sure to carry.",
        services.get_capacity,
        {200: Said("What each country's pool can carry.", core_capacity.Capacities)},
        scopes=("numbers",),
        tag="services",
    ),
    Operation(
        "POST",
        "/v1/services/{service}:plan",
        "How many numbers an expected load needs, so that no session is ever refused for want of one.",
        services.plan_numbers,
        {200: Said("What it needs, and whether the pools have it.", core_capacity.Plan)},
        body=core_capacity.Expected,
        scopes=("numbers",),
        problems=("contains_phone_number",),
        tag="services",
    ),
]

PHONE_NUMBERS = [
    Operation(
        "POST",
        "/v1/services/{service}/phone_numbers",
        "Add virtual numbers, all or nothing; one that is already in this service is no error.",
        phone_numbers.add_phone_numbers,
        {201: Said("The numbers, as asked for.", phone_numbers.PhoneNumbers)},
        body=phone_numbers.NewPhoneNumbers,
        scopes=("numbers",),
        problems=("phone_number_taken", "invalid_phone_number", "unknown_trunk"),
        tag="phone_numbers",
    ),
    Operation(
        "GET",
        "/v1/services/{service}/phone_numbers",
        "List the virtual numbers of a service.",
        phone_numbers.list_phone_numbers,
        {200: Said("A page of numbers.", Page[phone_numbers.PhoneNumber])},
        query=Paged,
        scopes=("numbers",),
        tag="phone_numbers",
    ),
    Operation(
        "GET",
        "/v1/services/{service}/phone_numbers/{number}",
        "Get a virtual number by its id, or as itself in E.164.",
        phone_numbers.get_phone_number,
        {200: Said("The number.", phone_numbers.PhoneNumber)},
        scopes=("numbers",),
        tag="phone_numbers",
    ),
    Operation(
        "PATCH",
        "/v1/services/{service}/phone_numbers/{number}",
        "Change the state of a virtual number.",
        phone_numbers.change_phone_number,
        {200: Said("The number as it is now.", phone_numbers.PhoneNumber)},
        body=phone_numbers.PhoneNumberChange,
        scopes=("numbers",),
        problems=("conflict",),
        tag="phone_numbers",
    ),
]

SESSIONS = [
    Operation(
        "POST",
        "/v1/sessions",
        "Open a session: its people reach each other through virtual numbers until it ends.",
        sessions.open_session,
        {
            201: Said("The session.", core_sessions.Session),
            200: Said("The same unique_name and participants were open already: that session.", core_sessions.Session),
        },
        body=core_sessions.NewSession,
        not_built=SESSION_LATER,
        scopes=("sessions",),
        problems=(
            "not_found",
            "number_pool_exhausted",
            "participant_conflict",
            "unique_name_conflict",
            "geo_unavailable",
            "invalid_phone_number",
            "contains_phone_number",
            "not_implemented_field",
        ),
        tag="sessions",
    ),
    Operation(
        "GET",
        "/v1/sessions",
        "List sessions, newest first.",
        sessions.list_sessions,
        {200: Said("A page of sessions.", Page[core_sessions.Session])},
        query=sessions.SessionQuery,
        scopes=("sessions",),
        tag="sessions",
    ),
    Operation(
        "GET",
        "/v1/sessions/{session}",
        "Get a session, live or long closed.",
        sessions.get_session,
        {200: Said("The session.", core_sessions.Session)},
        scopes=("sessions",),
        tag="sessions",
    ),
    Operation(
        "PATCH",
        "/v1/sessions/{session}",
        "Change what is said.",
        sessions.change_session,
        {200: Said("The session as it is now.", core_sessions.Session)},
        body=core_sessions.SessionChange,
        not_built=CHANGE_LATER,
        scopes=("sessions",),
        problems=("session_closed", "contains_phone_number", "conflict", "not_implemented_field"),
        tag="sessions",
    ),
    Operation(
        "POST",
        "/v1/sessions/{session}:close",
        "Close a session; closing a closed one changes nothing. Live calls go on.",
        sessions.close_session,
        {200: Said("The closed session.", core_sessions.Session)},
        body=sessions.Nothing,
        body_required=False,
        scopes=("sessions",),
        tag="sessions",
    ),
    Operation(
        "POST",
        "/v1/sessions/{session}:extend",
        "Move a session's end.",
        sessions.extend_session,
        {200: Said("The session with its new end.", core_sessions.Session)},
        body=sessions.Extension,
        scopes=("sessions",),
        problems=("session_closed", "conflict"),
        tag="sessions",
    ),
    Operation(
        "POST",
        "/v1/sessions/{session}:intend",
        "Say that a participant is about to call: for 60 seconds that stands in for the PIN of its next call.",
        sessions.intend,
        {200: Said("What was noted, and until when.", core_intents.Intent)},
        body=sessions.AboutToCall,
        scopes=("sessions",),
        problems=("session_closed",),
        tag="sessions",
    ),
    *(
        Operation("POST", f"/v1/sessions/{{session}}:{verb}", about, scopes=("sessions",), tag="sessions")
        for verb, about in {
            "reopen": "Open a closed session again.",
            "swap_participant": "Put another person in a participant's place.",
            "replace_number": "Give a session another virtual number.",
            "call": "Call both people and connect them.",
            "message": "Send a message to a participant.",
        }.items()
    ),
    Operation("POST", "/v1/sessions:batch", "Open many sessions at once.", scopes=("sessions",), tag="sessions"),
    Operation(
        "POST", "/v1/sessions:search", "Find sessions by a person, with a reason.", scopes=("disputes",), tag="sessions"
    ),
]

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

RECORDINGS = [
    Operation(
        "GET",
        "/v1/recordings",
        "List recordings, newest first.",
        recordings.list_recordings,
        {200: Said("A page of recordings.", Page[recordings.Recording])},
        query=recordings.RecordingQuery,
        scopes=("recordings",),
        tag="recordings",
    ),
    Operation(
        "GET",
        "/v1/recordings/{recording}",
        "Get a recording's facts.",
        recordings.get_recording,
        {200: Said("The recording.", recordings.Recording)},
        scopes=("recordings",),
        tag="recordings",
    ),
    Operation(
        "GET",
        "/v1/recordings/{recording}/media",
        "Get the sound: RIFF PCM, 16 bit, channel 1 the caller, channel 2 the callee. Each access is audited.",
        recordings.get_media,
        {
            200: Said("The whole file.", bytes, "audio/wav", ACCEPT_RANGES),
            206: Said(
                "The part asked for by Range.",
                bytes,
                "audio/wav",
                (*ACCEPT_RANGES, Header("Content-Range", "Which part, of how many bytes.")),
            ),
        },
        query=recordings.MediaQuery,
        shareable=True,
        scopes=("recordings",),
        problems=(
            "reason_required",
            "grant_refused",
            "range_not_satisfiable",
            "recording_not_available",
            "not_implemented_field",
            "contains_phone_number",
        ),
        headers=(
            Header("X-Reason", "Why it is listened to; kept with who did it.", required=True),
            Header("Range", "`bytes=0-1023`: one range."),
            Header("If-Range", "An ETag: the range only if it still names these bytes, else the whole file."),
        ),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:hold",
        "Keep a recording: stronger than retention and erasure, until it is released.",
        custody.hold_recording,
        {200: Said("The recording as it is now.", recordings.Recording)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("recording_not_available", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:release",
        "Let a held recording go.",
        custody.release_recording,
        {200: Said("The recording as it is now.", recordings.Recording)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:erase",
        "Erase a recording's sound; that it was, and its hash, stay.",
        custody.erase_recording,
        {200: Said("The recording as it is now.", recordings.Recording)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("recording_held", "recording_not_available", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
    Operation(
        "POST",
        "/v1/recordings/{recording}:share",
        "A link to this one recording that needs no API key, for five minutes.",
        custody.share_recording,
        {201: Said("The link.", custody.Share)},
        body=custody.Why,
        scopes=("recordings",),
        problems=("recording_not_available", "contains_phone_number", "invalid_parameter"),
        tag="recordings",
    ),
]

WEBHOOKS = [
    Operation(
        "POST",
        "/v1/webhook_endpoints",
        "Receive events at a URL, signed as Standard Webhooks has it; the secret is told this once.",
        webhook_endpoints.create_webhook_endpoint,
        {201: Said("The endpoint and its secret.", core_webhooks.WebhookEndpointSecret)},
        body=core_webhooks.NewWebhookEndpoint,
        scopes=("admin",),
        problems=("contains_phone_number", "conflict"),
        tag="webhook_endpoints",
    ),
    Operation(
        "GET",
        "/v1/webhook_endpoints",
        "List webhook endpoints, oldest first.",
        webhook_endpoints.list_webhook_endpoints,
        {200: Said("A page of endpoints.", Page[core_webhooks.WebhookEndpoint])},
        query=Paged,
        scopes=("admin",),
        tag="webhook_endpoints",
    ),
    Operation(
        "GET",
        "/v1/webhook_endpoints/{endpoint}",
        "Get a webhook endpoint.",
        webhook_endpoints.get_webhook_endpoint,
        {200: Said("The endpoint.", core_webhooks.WebhookEndpoint)},
        scopes=("admin",),
        tag="webhook_endpoints",
    ),
    Operation(
        "PATCH",
        "/v1/webhook_endpoints/{endpoint}",
        "Change what is said: the URL, the events, or whether it is enabled.",
        webhook_endpoints.change_webhook_endpoint,
        {200: Said("The endpoint as it is now.", core_webhooks.WebhookEndpoint)},
        body=core_webhooks.WebhookEndpointChange,
        scopes=("admin",),
        problems=("contains_phone_number",),
        tag="webhook_endpoints",
    ),
    Operation(
        "DELETE",
        "/v1/webhook_endpoints/{endpoint}",
        "Remove a webhook endpoint; what it is still owed is not sent any more.",
        webhook_endpoints.remove_webhook_endpoint,
        {204: Said("It is gone.")},
        body=sessions.Nothing,
        body_required=False,
        scopes=("admin",),
        tag="webhook_endpoints",
    ),
    Operation(
        "POST",
        "/v1/webhook_endpoints/{endpoint}:test",
        "Send it an event of type `webhook.test`.",
        webhook_endpoints.test_webhook_endpoint,
        {202: Said("It is on its way.", core_webhooks.WebhookEndpoint)},
        body=sessions.Nothing,
        body_required=False,
        scopes=("admin",),
        problems=("conflict",),
        tag="webhook_endpoints",
    ),
    Operation(
        "POST",
        "/v1/webhook_endpoints/{endpoint}:rotate_secret",
        "Start a new secret; for a day deliveries carry the old one's signature beside it.",
        webhook_endpoints.rotate_webhook_secret,
        {200: Said("The endpoint and its new secret.", core_webhooks.WebhookEndpointSecret)},
        body=sessions.Nothing,
        body_required=False,
        scopes=("admin",),
        tag="webhook_endpoints",
    ),
    Operation(
        "GET",
        "/v1/webhook_endpoints/{endpoint}/deliveries",
        "What was sent, is still owed, or was given up, newest event first.",
        webhook_endpoints.list_deliveries,
        {200: Said("A page of deliveries.", Page[webhook_endpoints.Delivery])},
        query=webhook_endpoints.DeliveryQuery,
        scopes=("admin",),
        tag="webhook_endpoints",
    ),
    Operation(
        "POST",
        "/v1/events:replay",
        "Send events to a webhook endpoint again: all that match what is said, or the dead letters among them.",
        webhook_endpoints.replay_events,
        {202: Said("They are on their way.", webhook_endpoints.Replayed)},
        body=webhook_endpoints.ReplayRequest,
        scopes=("admin",),
        problems=("not_found", "conflict"),
        tag="events",
    ),
]
DISPUTES = [
    Operation(
        "POST",
        "/v1/disputes",
        "Open a dispute over an order: a time-boxed grant to hear the recordings of every session of that name.",
        disputes.open_dispute,
        {201: Said("The dispute and its grant.", core_disputes.Granted)},
        body=core_disputes.NewDispute,
        scopes=("disputes",),
        problems=("not_found", "contains_phone_number"),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/disputes",
        "List disputes, oldest first.",
        disputes.list_disputes,
        {200: Said("A page of disputes.", Page[core_disputes.Dispute])},
        query=Paged,
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/disputes/{dispute}",
        "Get a dispute.",
        disputes.get_dispute,
        {200: Said("The dispute.", core_disputes.Dispute)},
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "POST",
        "/v1/disputes/{dispute}:approve",
        "The second person's word, by another API key: the grant begins.",
        disputes.approve_dispute,
        {200: Said("The dispute and its grant.", core_disputes.Granted)},
        body=core_disputes.Approval,
        scopes=("disputes",),
        problems=("conflict", "contains_phone_number"),
        tag="disputes",
    ),
    Operation(
        "POST",
        "/v1/disputes/{dispute}:close",
        "End a dispute and its grant.",
        disputes.close_dispute,
        {200: Said("The dispute as it is now.", core_disputes.Dispute)},
        body=sessions.Nothing,
        body_required=False,
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/disputes/{dispute}/export",
        "The case as one ZIP: sound, timeline, interactions, and a proof that `verify_case.py` in it checks offline.",
        case.export_case,
        {200: Said("The archive.", bytes, "application/zip")},
        scopes=("disputes",),
        problems=("grant_refused",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/audit",
        "List who heard and decided what about recordings, in the order of the chain of evidence.",
        disputes.list_audit,
        {200: Said("A page of entries; `next` is null only on an empty one.", Page[disputes.AuditEntry])},
        query=Paged,
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/audit:key",
        "The public key of the signed checkpoints.",
        disputes.evidence_key,
        {200: Said("The key.", disputes.EvidenceKey)},
        scopes=("disputes",),
        tag="disputes",
    ),
]
TWILIO: tuple[Method, ...] = ("GET", "POST", "DELETE")

LATER = [
    Operation("POST", "/v1/route:explain", "Who would be reached, and why.", scopes=("sessions",)),
    # Its clients bring Basic credentials, so the answer comes before any key is asked for.
    *(
        Operation(method, path, "Twilio's Proxy face.", public=True, tag="twilio")
        for path in ("/v1/Services", "/v1/Services/{path}")
        for method in TWILIO
    ),
]

TOOLS = [
    Operation(
        "GET", "/healthz", "Is the process alive?", tools.healthz, {200: Said("It is.", tools.Alive)}, public=True
    ),
    Operation(
        "GET",
        "/readyz",
        "Can it serve: do Redis and the archive answer?",
        tools.readyz,
        {200: Said("It can.", tools.Ready), 503: Said("It cannot.", tools.Ready)},
        public=True,
    ),
    Operation(
        "GET",
        "/metrics",
        "Counters for Prometheus; from beyond loopback with a key of scope admin.",
        tools.metrics_page,
        {200: Said("The exposition text.", str, "text/plain")},
        public=True,
        problems=("unauthenticated", "insufficient_scope"),
    ),
    Operation(
        "GET",
        "/openapi.json",
        "This document.",
        tools.openapi_document,
        {200: Said("OpenAPI 3.1.", dict[str, Any])},
        public=True,
    ),
    Operation(
        "GET",
        "/docs",
        "This document, to be read by people.",
        tools.docs_page,
        {200: Said("A page that needs nothing else.", str, "text/html")},
        public=True,
    ),
]

TABLE: tuple[Operation, ...] = tuple(
    SESSIONS + SERVICES + PHONE_NUMBERS + HISTORY + RECORDINGS + DISPUTES + WEBHOOKS + LATER + TOOLS
)
