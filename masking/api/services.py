"""Services over HTTP."""

from __future__ import annotations

from masking import capacity, services
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, page_of


async def create_service(asked: Asked) -> Answer:
    return Answer(201, await services.create(asked.house, asked.tenant, asked.body))


async def get_service(asked: Asked) -> Answer:
    return Answer(200, await services.get(asked.house, asked.tenant, asked.path["service"]))


async def list_services(asked: Asked) -> Answer:
    query: Paged = asked.query
    rows = await services.listing(asked.house, asked.tenant)
    return Answer(200, page_of(rows, "services", query, lambda service: service.id))


async def change_service(asked: Asked) -> Answer:
    return Answer(200, await services.change(asked.house, asked.tenant, asked.path["service"], asked.body))


async def rotate_service_secret(asked: Asked) -> Answer:
    return Answer(200, await services.rotate_secret(asked.house, asked.tenant, asked.path["service"]))


async def list_pools(asked: Asked) -> Answer:
    return Answer(200, Page(await capacity.pools(asked.house, asked.tenant, asked.path["service"]), None))


async def get_capacity(asked: Asked) -> Answer:
    return Answer(200, await capacity.capacity(asked.house, asked.tenant, asked.path["service"]))


async def plan_numbers(asked: Asked) -> Answer:
    return Answer(200, await capacity.plan(asked.house, asked.tenant, asked.path["service"], asked.body))
