"""The webhook lines of all tenants: a line for each endpoint, begun, changed and ended as the endpoints are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

import anyio
import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from masking import access, webhooks
from masking.courier import owed
from masking.courier.finisher import unbroken
from masking.courier.line import Line
from masking.logs import place
from masking.post import Post
from masking.webhooks import Kept, Replay
from pools.redis import Unavailable

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from sqlalchemy.ext.asyncio import AsyncEngine

    from masking.house import House

log = structlog.get_logger("masking.courier")

LOOK_PAUSE: Final = 0.5  # seconds until a change of an endpoint is noticed
TROUBLE_PAUSE: Final = 1.0
TIDY_PAUSE: Final = 3600.0


class PostRoom:
    """Runs until cancelled; `tell` wakes the lines of tenants that have new events."""

    def __init__(self, house: House, engine: AsyncEngine, dice: Callable[[], float]) -> None:
        self._house = house
        self._engine = engine
        self._dice = dice
        self._lines: dict[str, tuple[Line, anyio.CancelScope]] = {}
        self._version: bytes | None = None
        self._tidied = float("-inf")

    def tell(self, tenants: Collection[str]) -> None:
        """New events of these tenants are in the archive."""
        for line, _ in self._lines.values():
            if line.kept.tenant in tenants:
                line.wake()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            try:
                while True:
                    try:
                        await self._look(tasks)
                        await self._replay()
                        await self._tidy()
                    except (Unavailable, SQLAlchemyError, OSError, msgspec.DecodeError) as trouble:
                        log.warning("webhooks_wait", error=place(trouble))
                        await anyio.sleep(TROUBLE_PAUSE)
                    await anyio.sleep(LOOK_PAUSE)
            finally:
                self._lines.clear()
                self._version = None

    async def _look(self, tasks: TaskGroup) -> None:
        """Reads the endpoints when one has changed."""
        version = await self._house.redis.command("GET", webhooks.VERSION)
        if version == self._version:
            return
        found: dict[str, Kept] = {}
        for tenant in await access.tenants(self._house):
            found |= {kept.endpoint.id: kept for kept in await webhooks.listing(self._house, tenant)}
        for gone in self._lines.keys() - found.keys():
            self._lines.pop(gone)[1].cancel()
        for name, kept in found.items():
            if name in self._lines:
                self._lines[name][0].kept = kept
                self._lines[name][0].wake()
            else:
                post = Post(self._house.config.webhooks.allow_private)
                line = Line(self._house, self._engine, kept, post, self._dice)
                self._lines[name] = (line, anyio.CancelScope())
                tasks.start_soon(self._run_line, *self._lines[name], post)
        self._version = version

    async def _run_line(self, line: Line, scope: anyio.CancelScope, post: Post) -> None:
        """A line's trouble is its own: it waits, and goes on."""
        try:
            with scope:
                while True:
                    try:
                        await line.run()
                    except (Unavailable, SQLAlchemyError, OSError) as trouble:
                        log.warning("webhook_waits", endpoint=line.kept.endpoint.id, error=place(trouble))
                        await anyio.sleep(TROUBLE_PAUSE)
        finally:
            with anyio.CancelScope(shield=True):
                await post.close()

    async def _replay(self) -> None:
        """Wishes in the order they came; each stays in its list until it is written down."""
        while raw := await self._house.redis.command("LINDEX", webhooks.REPLAYS, 0):
            wish = msgspec.json.decode(raw, type=Replay)
            async with unbroken(self._engine.begin()) as connection:
                count = await owed.replay(connection, wish, self._house.now())
            await self._house.redis.command("LPOP", webhooks.REPLAYS)
            log.info("webhook_replay", endpoint=wish.endpoint, events=count)
            self.tell((wish.tenant,))

    async def _tidy(self) -> None:
        now = self._house.now()
        if now - self._tidied < TIDY_PAUSE:
            return
        async with unbroken(self._engine.begin()) as connection:
            await owed.forget(connection, self._lines, now)
        self._tidied = now
