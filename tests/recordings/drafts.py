"""Single facts of calls in the catalogue, each as a batch of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from recordings.catalogue import Draft, Notice


async def begun(connection: AsyncConnection, **facts: Any) -> None:
    draft = await _of(connection, facts["interaction"])
    draft.begun(**facts)
    await draft.write()


async def noticed(connection: AsyncConnection, interaction: str, notices: Sequence[Notice]) -> None:
    draft = await _of(connection, interaction)
    draft.noticed(interaction, notices)
    await draft.write()


async def call_ended(connection: AsyncConnection, interaction: str, ended_at: float) -> None:
    draft = await _of(connection, interaction)
    draft.call_ended(interaction, ended_at)
    await draft.write()


async def _of(connection: AsyncConnection, interaction: str) -> Draft:
    draft = Draft(connection)
    await draft.load([interaction])
    return draft
