"""Many sessions in one request, each for itself: one that is refused does not touch the others."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec

from masking import opening, refusals
from masking.api import problems
from masking.api.operations import Answer, Asked
from masking.api.problems import Declined, Problem
from masking.api.validation import body_of
from masking.sessions import NewSession, Session

AT_ONCE = 8  # opened at the same time, so that a batch leaves room for others


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each of `sessions` as the body of `POST /v1/sessions`."""

    sessions: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=100)]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one: `status` as that call alone would have answered, with the session or the problem."""

    status: int
    session: Session | None = None
    problem: Problem | None = None


class Results(msgspec.Struct, frozen=True):
    """One for each session asked for, in their order."""

    data: list[Item]


async def open_sessions(asked: Asked) -> Answer:
    batch: Batch = asked.body
    room = asyncio.Semaphore(AT_ONCE)

    async def one(place: int, body: dict[str, Any]) -> Item:
        async with room:
            return await _open(asked, place, body)

    items = await asyncio.gather(*(one(place, body) for place, body in enumerate(batch.sessions)))
    return Answer(200, Results(items))


async def _open(asked: Asked, place: int, body: dict[str, Any]) -> Item:
    token = f"{asked.token}/{place}" if asked.token else None
    try:
        new = body_of(msgspec.json.encode(body), NewSession)
        session, opened = await opening.open_session(asked.house, asked.access, new, token=token)
    except refusals.Refused as refused:
        return _refused(problems.from_core(refused))
    except Declined as declined:
        return _refused(declined)
    return Item(status=201 if opened else 200, session=session)


def _refused(declined: Declined) -> Item:
    return Item(status=declined.status, problem=declined.problem())
