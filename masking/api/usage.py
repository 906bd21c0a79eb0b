"""Usage over HTTP."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec

from masking import usage
from masking.api.operations import Answer, Asked
from masking.api.paging import Paged, page_of
from masking.api.problems import Declined
from masking.refusals import Invalid
from masking.usage import By, Usage


class UsageQuery(Paged, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which days (UTC), and whether they and the services are told one by one."""

    since: Annotated[date | None, msgspec.Meta(description="The first day; by default the first of this month.")] = (
        msgspec.field(name="from", default=None)
    )
    until: Annotated[date | None, msgspec.Meta(description="The day after the last; by default tomorrow.")] = (
        msgspec.field(name="to", default=None)
    )
    by: By = "total"


async def get_usage(asked: Asked) -> Answer:
    query: UsageQuery = asked.query
    try:
        rows = await usage.report(asked.house, asked.tenant, query.since, query.until, query.by)
    except Invalid as wrong:  # what is wrong stands in the query
        raise Declined("invalid_parameter", wrong.detail, errors=wrong.errors) from None
    return Answer(200, page_of(rows, "usage", query, _key))


def _key(row: Usage) -> str:
    return f"{row.from_} {row.service or ''}"
