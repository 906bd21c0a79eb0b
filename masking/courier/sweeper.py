"""What nobody is left to do: end the sessions whose time is over, tell that a stage has begun, and end the calls whose
edge is dead.

Neither is needed to be correct (a lapsed lease is a free one, a dead call's slot binds nobody else): the sweeper writes
the events. Both ends are idempotent, so an edge that comes back, or a second sweeper, changes nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from masking import records, sessions
from masking.events import fact

if TYPE_CHECKING:
    from masking.house import House
    from pools.grants import LiveCall

log = structlog.get_logger("masking.courier")

PAUSE: Final = 0.5
# An owner counts as dead when its heartbeat has been gone so long, seen by us: after Redis was away its heartbeats have
# lapsed too, and a restarted edge takes its calls over in this time.
GRACE: Final = 1.5
AT_ONCE: Final = 200


class Sweeper:
    """One a courier."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._missing: dict[str, float] = {}  # owner -> since when its heartbeat has been missed

    async def round(self) -> int:
        """One walk over all shards; how many sessions and calls it ended. Raises `pools.redis.Unavailable`."""
        ended = 0
        calls: list[LiveCall] = []
        for shard in sorted(await self._house.inventory.shard_names()):
            due = await self._house.leases.due(shard, self._house.now_ms, AT_ONCE)
            ended += sum(await asyncio.gather(*map(self._expire, due)))
            woken = await self._house.leases.woken(shard, self._house.now_ms, AT_ONCE)
            await asyncio.gather(*(sessions.tell_stage(self._house, name) for name in woken))
            calls += await self._house.leases.live_calls(shard)
        dead = await self._dead({call.owner for call in calls})
        orphans = [call for call in calls if call.owner in dead]
        return ended + sum(await asyncio.gather(*map(self._end, orphans)))

    async def _expire(self, name: str) -> bool:
        holder = await self._house.leases.read(name)
        if holder is None:
            return False
        raw = holder.fields.get("record")
        reason = sessions.ending(holder, records.unpacked(raw)) if raw is not None else "expired"
        return await sessions.release(self._house, holder, reason)

    async def _dead(self, owners: set[str]) -> set[str]:
        now = self._house.now()
        alive = await self._house.leases.alive(sorted(owners))
        self._missing = {owner: self._missing.get(owner, now) for owner in owners - alive}
        return {owner for owner, since in self._missing.items() if now - since >= GRACE}

    async def _end(self, call: LiveCall) -> bool:
        """Tells the end that the call's own edge cannot tell any more; nobody knows a better time for it than now."""
        data = {
            "interaction": call.call,
            "status": "failed",
            "reason": "owner_lost",
            "hangup_by": "platform",
            "sip_code": 500,
            "legs": [],
            "notices": [],
        }
        ended = await self._house.leases.append(
            call.holder,
            [fact("call.ended", None, data)],
            set_fields={"begun": 1},
            end_call=call.call,
            only_owner=call.owner,
        )
        # `gone`: Redis has forgotten the session by now. No stream is left to tell it in; the slot is free.
        if ended.outcome not in ("appended", "gone"):
            return False
        log.warning("call_ended_for_its_dead_owner", interaction=call.call, owner=call.owner, told=ended.outcome)
        return True
