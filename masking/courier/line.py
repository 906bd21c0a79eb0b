"""One webhook endpoint's line: its events in order, lane by lane, until it has them or has had its 75 hours.

A lane is a session; the events of one are sent one after another in `seq` order, and one that fails holds back those
behind it. Lanes are independent of each other, lines even more so. At least once: an event is written down as delivered
after its receiver said so, so a courier that dies in between sends it again, under the same `webhook-id`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
import structlog

from masking import callbacks, webhooks
from masking.breakers import Breaker
from masking.courier import owed
from masking.courier.finisher import unbroken
from masking.courier.owed import Owed
from masking.courier.patience import GIVE_UP, pause
from masking.post import AT_ONCE, Outcome, Post

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.house import House
    from masking.webhooks import Kept

log = structlog.get_logger("masking.courier")

BATCH: Final = 400  # events looked at in one round
IDLE: Final = 5.0  # seconds after which a line looks without being told
GONE: Final = 410
Row = dict[str, Any]


class Line:
    """Runs until cancelled. `wake` says that its tenant has new events; `kept` may be replaced at any time."""

    def __init__(self, house: House, engine: AsyncEngine, kept: Kept, post: Post, dice: Callable[[], float]) -> None:
        self.kept = kept
        self._house = house
        self._engine = engine
        self._post = post
        self._dice = dice
        self._breaker = Breaker()
        self._woken = anyio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Round after round; between two that found nothing it waits for news or for the next retry."""
        while True:
            self._woken = anyio.Event()
            if not await self.round():
                with anyio.move_on_after(await self._rest()):
                    await self._woken.wait()

    async def round(self) -> int:
        """Sends what may be sent now; how many events it looked at. SQLAlchemy's errors: nothing was written down."""
        now = self._house.now()
        if self.kept.endpoint.status == "disabled" or not self._breaker.may_send(now):
            return 0
        lanes, parked, after, seen = await self._gather(now)
        rows: list[Row] = [self._blank(one, now) for one in parked]
        await self._send_all(lanes, rows)
        if not seen and not rows:
            return 0
        async with unbroken(self._engine.begin()) as connection:
            await owed.write(connection, rows)
            if seen:
                await owed.move(connection, self.kept, after)
        return seen + sum(map(len, lanes))

    async def _gather(self, now: float) -> tuple[list[list[Owed]], list[Owed], int, int]:
        """Lanes to send, events that must wait behind others, the cursor after this, and how many fresh events."""
        endpoint = self.kept.endpoint.id
        async with unbroken(self._engine.connect()) as connection:
            lanes = await owed.due(connection, endpoint, now, 1 if self._breaker.probing else AT_ONCE)
            cursor = await owed.cursor(connection, self.kept)
            if lanes and self._breaker.probing:
                return [lanes[0][:1]], [], cursor, 0
            waiting = await owed.waiting_lanes(connection, endpoint)
            events, after = await owed.fresh(connection, self.kept, cursor, 1 if self._breaker.probing else BATCH)
        parked = [one for one in events if one.lane in waiting]
        fresh: dict[str, list[Owed]] = {}
        for one in events:
            if one.lane not in waiting:
                fresh.setdefault(one.lane, []).append(one)
        return lanes + list(fresh.values()), parked, after, after - cursor

    async def _send_all(self, lanes: list[list[Owed]], rows: list[Row]) -> None:
        limit = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for lane in lanes:
                tasks.start_soon(self._send_lane, lane, limit, rows)

    async def _send_lane(self, lane: list[Owed], limit: anyio.CapacityLimiter, rows: list[Row]) -> None:
        """In order; what stands behind one that failed waits for it."""
        async with limit:
            blocked = False
            for one in lane:
                now = self._house.now()
                if blocked or not self._breaker.may_send(now):
                    blocked = True
                    rows.append(self._blank(one, max(now, self._breaker.opens_at())))
                    continue
                row = await self._send(one)
                rows.append(row)
                blocked = row["state"] == "pending"

    async def _send(self, one: Owed) -> Row:
        at = self._house.now()
        outcome = await self._sent(one, int(at))
        now = self._house.now()
        if outcome.delivered:
            self._breaker.succeeded()
        else:
            self._breaker.failed(now)
            log.info(
                "webhook_failed",
                endpoint=self.kept.endpoint.id,
                webhook=one.event,
                status=outcome.status,
                error=outcome.error,
            )
        if outcome.status == GONE:
            await webhooks.disable(self._house, self.kept)
        return self._row(one, outcome, at, now)

    async def _sent(self, one: Owed, at: int) -> Outcome:
        if self.kept.service is None:
            body = one.body.encode()
            headers = webhooks.headers(self._house, self.kept, one.event, body, at)
        else:
            try:
                async with unbroken(self._engine.connect()) as connection:
                    headers, body = await callbacks.delivery(self._house, connection, self.kept, one.type, one.body)
            except LookupError:
                return Outcome(None, "unsigned", 0.0)
        return await self._post.send(self.kept.endpoint.url, headers, body)

    def _row(self, one: Owed, outcome: Outcome, at: float, now: float) -> Row:
        first_at = one.first_at if one.first_at is not None else at
        attempts = one.attempts + 1
        given_up = not outcome.delivered and now - first_at >= GIVE_UP
        state = "delivered" if outcome.delivered else "dead" if given_up else "pending"
        if given_up:
            log.warning("webhook_given_up", endpoint=self.kept.endpoint.id, webhook=one.event)
        return self._blank(one, now) | {
            "state": state,
            "attempts": attempts,
            "first_at": first_at,
            "last_at": now,
            "next_at": now + pause(attempts, self._dice()) if state == "pending" else None,
            "status": outcome.status,
            "error": outcome.error,
            "took": outcome.took,
        }

    def _blank(self, one: Owed, now: float) -> Row:
        """The row of an event that waits: behind another of its lane, or for the receiver."""
        return {
            "endpoint": self.kept.endpoint.id,
            "event": one.event,
            "position": one.position,
            "lane": one.lane,
            "type": one.type,
            "state": "pending",
            "attempts": one.attempts,
            "first_at": one.first_at,
            "last_at": None,
            "next_at": now,
            "status": None,
            "error": None,
            "took": None,
        }

    async def _rest(self) -> float:
        """Seconds until there may be something to do without news."""
        now = self._house.now()
        if not self._breaker.may_send(now):
            return min(IDLE, self._breaker.opens_at() - now)
        async with unbroken(self._engine.connect()) as connection:
            at = await owed.next_due(connection, self.kept.endpoint.id)
        return IDLE if at is None else min(IDLE, max(0.05, at - now))
