"""Where events are sent."""

from masking import webhooks as core_webhooks
from masking.api import (
    sessions,
    webhook_endpoints,
)
from masking.api.operations import Operation, Push, Said
from masking.api.paging import Page, Paged
from masking.consultations import AppAnswer, AppQuestion
from masking.events import Event

PUSHED = (
    Push("event", "Something has happened; any 2xx takes it.", Event),
    Push("question", "A call waits for the app: 2xx, or 403 to deny it.", AppQuestion, AppAnswer),
)

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
