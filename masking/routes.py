"""Who is reached when a participant dials a virtual number: one question, one Redis round trip.

`claim` asks the shard of the dialled number which session binds the caller there, takes the session's call slot and
writes `call.initiated` (or `call.refused`) in the same script. "No binding", "another tenant's", "wrong caller", "unknown
number" and "withheld caller" are one answer, at one price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from masking.house import House
    from pools.numbers import Number

RefusedBy = Literal["no_binding", "ended", "limit", "mode", "direction", "blocked", "unavailable"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the edge needs for the second leg. `callee` cannot print itself; all else may be logged."""

    interaction: str
    session: str
    tenant: str
    service: str
    dialled: str  # the X the caller dialled, E.164
    from_participant: str
    to_participant: str
    from_role: str | None
    to_role: str | None
    callee: Number
    shows: str  # the X the callee sees, and dials to call back
    trunk: str | None  # the trunk `shows` leaves by; None: any trunk of its country
    country: str  # of `shows`
    record: bool
    recording: str | None  # the id its recording will have, when recorded
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    caller_language: str | None
    callee_language: str | None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no call. `session` is None when nobody is bound to (number, caller)."""

    interaction: str
    decision: RefusedBy
    session: str | None = None
    tenant: str | None = None


async def claim(
    house: House,
    *,
    called: Number,
    caller: Number | None,
    interaction: str,
    owner: str,
    trunk: str,
    at: float,
) -> Route | Refusal:
    """The route from `caller` over `called`, with the call slot taken for `owner` (an edge's heartbeat name).

    `interaction` is the caller's own fresh `int_…` id, so a repeated claim is the same claim. Raises
    `pools.redis.Unavailable` when Redis cannot answer: the caller gets 503, nobody is routed unmasked.
    """
    raise NotImplementedError
