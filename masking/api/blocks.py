"""Blocks over HTTP: who may not reach whom any more."""

from __future__ import annotations

from masking import barring
from masking.api.operations import Answer, Asked
from masking.api.paging import Paged, page_of


async def create_block(asked: Asked) -> Answer:
    return Answer(201, await barring.create(asked.house, asked.access, asked.body))


async def list_blocks(asked: Asked) -> Answer:
    query: Paged = asked.query
    return Answer(200, page_of(await barring.listing(asked.house, asked.tenant), "blocks", query, lambda one: one.id))


async def remove_block(asked: Asked) -> Answer:
    await barring.remove(asked.house, asked.access, asked.path["block"])
    return Answer(204, None)
