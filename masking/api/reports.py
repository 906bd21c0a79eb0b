"""Reports over HTTP: one participant says what another did."""

from __future__ import annotations

from masking import reports
from masking.api.operations import Answer, Asked


async def report(asked: Asked) -> Answer:
    return Answer(201, await reports.create(asked.house, asked.access, asked.body))
