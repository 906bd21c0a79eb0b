"""Questions to the service itself."""

from typing import Any

from masking import explaining as core_explaining
from masking.api import (
    tools,
)
from masking.api.operations import Operation, Said

TOOLS = [
    Operation(
        "POST",
        "/v1/route:explain",
        "What a call would meet, step by step; nothing is claimed, and no person's number is told.",
        tools.explain_route,
        {200: Said("What it would come to, and why.", core_explaining.Explanation)},
        body=core_explaining.Question,
        scopes=("sessions",),
    ),
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
