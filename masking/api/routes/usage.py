"""What a tenant used."""

from masking import usage as core_usage
from masking.api import usage
from masking.api.operations import Operation, Said
from masking.api.paging import Page

USAGE = [
    Operation(
        "GET",
        "/v1/usage",
        "What was used: sessions, calls by the second and as billed, recordings made and kept, numbers held.",
        usage.get_usage,
        {200: Said("A page of usage, by day and service as asked.", Page[core_usage.Usage])},
        query=usage.UsageQuery,
        scopes=("admin",),
        tag="usage",
    ),
]
