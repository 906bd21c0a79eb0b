"""What an app asks of a recording while the call is up: begin, pause (while a card's number is told), go on, stop.

The API finds the session's live calls and leaves the demand with the edge that owns each; that edge obeys, and the
session's events say what came of it. A recording that begins so is announced first, as any other is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from masking import consent, records
from masking.refusals import Conflict, NotFound
from pools.grants import shard_of
from pools.redis import Redis

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.records import Record

Action = Literal["start", "pause", "resume", "stop"]

WAITS: Final = 1.0  # seconds that an edge waits for a demand before it looks again
KEPT_SECONDS: Final = 10  # a demand that its edge has not taken by then is nobody's


class Demand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done, and to which call; all of the session that are up, if it is not said."""

    action: Action
    interaction: Annotated[str, Meta(max_length=64)] | None = None


class Demanded(msgspec.Struct, frozen=True, kw_only=True):
    """What was passed on to the edge, for these calls."""

    action: Action
    interactions: list[str]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A demand on its way to the edge that owns the call."""

    action: Action
    interaction: str


async def demand(house: House, access: Access, session: str, wish: Demand) -> Demanded:
    """Passes the demand on. `NotFound`; `Conflict` when no such call is up, or nothing may be recorded there."""
    found = await records.held(house, access.tenant, session)
    if found is None:
        raise NotFound("No such session.")
    calls = [
        call
        for call in await house.leases.live_calls(shard_of(session))
        if call.holder == session and wish.interaction in (None, call.call)
    ]
    if not calls:
        raise Conflict("No such call of the session is up.")
    if wish.action == "start":
        _check(found[1])
    for call in calls:
        order = Order(action=wish.action, interaction=call.call)
        await house.redis.command("RPUSH", _list(call.owner), msgspec.json.encode(order))
        await house.redis.command("EXPIRE", _list(call.owner), KEPT_SECONDS)
    return Demanded(action=wish.action, interactions=[call.call for call in calls])


def _check(record: Record) -> None:
    if record.record == "never":
        raise Conflict("The session says record: never; on_demand lets recordings begin in a call.")
    if consent.strictest(map(record.consent.owed_to, record.people)) == "never":
        raise Conflict("The service's consent_policy forbids recordings where one of its people is.")


def _list(owner: str) -> str:
    return f"demands:{owner}"


class Demands:
    """Where an edge waits for what is asked of its calls; one an edge."""

    def __init__(self, house: House, owner: str) -> None:
        self._list = _list(owner)
        self._waiting = Redis(house.config.redis_url, budget=3 * WAITS, blocking=True)

    async def next(self) -> Order | None:
        """The oldest; None when none came for a while. Raises `pools.redis.Unavailable`."""
        found = await self._waiting.command("BLPOP", self._list, WAITS)
        try:
            return msgspec.json.decode(found[1], type=Order) if found is not None else None
        except msgspec.MsgspecError:  # written by another version of this service
            return None

    async def close(self) -> None:
        await self._waiting.close()
