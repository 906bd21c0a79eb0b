"""Calls that nobody tells the story of any more: their edge died, or Redis took a claim and could not say so.

An edge's heartbeat says that it lives. A call whose owner is dead has two phones that still talk to nobody: both get
BYE from the snapshot kept at the answer, the relay closes its media, and the core gets its one end (the courier's
sweeper may have told it first: ends are idempotent). A ringing call has no dialog yet and cannot be taken over; it is
ended in the core alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from masking import interactions
from masking.house import Unavailable
from masking.interactions import Ending, Leg
from masking.number_health import say_silent
from sipedge import snapshots
from sipedge.causes import TEMPORARY, reason
from sipedge.circuits import Exchange
from sipedge.media.plane import PlaneError

log = structlog.get_logger("sipedge.orphans")

BEAT_SECONDS: Final = 2.0
BEAT_LASTS: Final = 8.0
SWEEP_SECONDS: Final = 1.0
WATCHFUL: Final = 20.0  # seconds after the start in which the calls of a dead predecessor come to light
CLAIMING: Final = 3.0  # seconds after which a claim of ours that no call knows is a lost one
PREFIX: Final = "edge-"


async def beat(exchange: Exchange) -> None:
    """Says once that this edge lives, and which trunks are dead: their numbers are passed over meanwhile."""
    await exchange.house.leases.beat(exchange.owner, round(BEAT_LASTS * 1000))
    await say_silent(exchange.house, exchange.trunks.dead(asyncio.get_running_loop().time()))


async def heartbeat(exchange: Exchange) -> None:
    """Says again and again that this edge lives. Redis being away is told once."""
    away = False
    while True:
        try:
            await beat(exchange)
            away = False
        except Unavailable:
            if not away:
                log.warning("redis_away")
            away = True
        await asyncio.sleep(0.5 if away else BEAT_SECONDS)


class Orphans:
    """Looks for such calls after the start, and whenever a claim was left in doubt.

    `is_gone(owner)`: does this machine know better than the heartbeat that an owner is dead?
    """

    def __init__(self, exchange: Exchange, is_gone: Callable[[str], bool]) -> None:
        self._exchange = exchange
        self._is_gone = is_gone
        self._missed: dict[str, float] = {}  # owners without a heartbeat, and since when

    async def run(self) -> None:
        """Until cancelled."""
        loop = self._exchange.driver.loop
        watch_until = loop.time() + WATCHFUL
        while True:
            if loop.time() < watch_until or self._exchange.unsure:
                try:
                    await self.sweep()
                except Unavailable:
                    watch_until = max(watch_until, loop.time() + SWEEP_SECONDS * 2)
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Ends every orphan there is now; how many."""
        house, exchange = self._exchange.house, self._exchange
        untold = exchange.facts.untold
        live = [call for shard in await house.inventory.shard_names() for call in await house.leases.live_calls(shard)]
        beating = await house.leases.alive(sorted({call.owner for call in live}))
        ended = 0
        for one in live:
            if one.owner == exchange.owner:
                fresh = house.now() - one.since / 1000 < CLAIMING
                orphaned = one.call not in exchange.calls and one.call not in untold and not fresh
            else:
                orphaned = one.owner.startswith(PREFIX) and self._is_dead(one.owner, one.owner in beating)
            if orphaned:
                await self._end(one.call, one.holder, one.owner, one.facts)
                ended += 1
        settled = exchange.driver.loop.time() - 2 * CLAIMING
        for call, since in list(exchange.unsure.items()):
            if since < settled:
                del exchange.unsure[call]
        return ended

    def _is_dead(self, owner: str, beats: bool) -> bool:
        """Redis may have been away and every heartbeat lapsed: an owner gets the time of a beat to show itself."""
        if self._is_gone(owner):
            return True
        if beats:
            self._missed.pop(owner, None)
            return False
        now = self._exchange.driver.loop.time()
        return now - self._missed.setdefault(owner, now) > BEAT_SECONDS

    async def _end(self, interaction: str, session: str, owner: str, state: bytes) -> None:
        house = self._exchange.house
        found = snapshots.read(house, interaction, state)
        if found is None:
            log.error("orphan_unreadable", interaction=interaction)
            return
        snapshot, dialogs = found
        endpoint, now = self._exchange.driver.endpoint, self._exchange.driver.loop.time()
        for dialog in dialogs:
            trunks = self._exchange.trunks.candidates(*dialog.flow.remote)
            endpoint.restore(dialog, trunks[0].credentials if trunks else None)
            endpoint.bye(dialog.leg, now, headers=reason(TEMPORARY))
        self._exchange.driver.say()
        try:
            await self._exchange.plane.close(interaction)
        except PlaneError as problem:
            log.info("orphan_without_media", interaction=interaction, problem=problem.code)
        call = interactions.Call(
            interaction=interaction,
            session=session,
            tenant=snapshot.tenant,
            owner=owner,
            recording=snapshot.recording,
            answered_at=snapshot.answered_at,
        )
        legs = (Leg(trunk=snapshot.trunk or None, sip_code=200 if dialogs else None, q850=41),)
        ending = Ending(blame="platform", reason="owner_lost", sip_code=200 if dialogs else 500, legs=legs)
        ours = await interactions.ended(house, call, house.now(), ending)
        self._exchange.counts["orphans_ended"] += 1
        log.warning("orphan_ended", interaction=interaction, legs=len(dialogs), first=ours)
