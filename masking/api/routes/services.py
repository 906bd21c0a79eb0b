"""Services, their pools and what they can carry."""

from masking import capacity as core_capacity
from masking import services as core_services
from masking.api import (
    services,
    sessions,
)
from masking.api.operations import Operation, Said
from masking.api.paging import Page, Paged
from masking.api.routes.later import SERVICE_LATER

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
        problems=(
            "unique_name_conflict",
            "invalid_phone_number",
            "contains_phone_number",
            "conflict",
            "not_implemented_field",
        ),
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
        problems=(
            "unique_name_conflict",
            "invalid_phone_number",
            "contains_phone_number",
            "conflict",
            "not_implemented_field",
        ),
        tag="services",
    ),
    Operation(
        "POST",
        "/v1/services/{service}:rotate_secret",
        "A new secret for what the service asks its app; the one before it signs beside it for a day.",
        services.rotate_service_secret,
        {200: Said("The secret, this once.", core_services.WebhookSecret)},
        body=sessions.Nothing,
        body_required=False,
        scopes=("admin",),
        problems=("conflict",),
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
