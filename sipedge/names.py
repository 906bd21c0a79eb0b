"""Trunks whose `uri` names a host: which machines are behind it, asked off the calls' path and again when the answer
has grown old.

A trunk whose name is not known is passed over like one that is silent.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from sipedge.resolver import NotFound, Resolver
from sipedge.trunks import Trunk, TrunkTable

log = structlog.get_logger("sipedge.names")

TICK: Final = 1.0
LEAST: Final = 5.0  # seconds between two questions at least, whatever DNS says of its answer's time to live
MOST: Final = 3600.0  # … and at most
AGAIN: Final = 10.0  # … when there was no answer
PATIENCE: Final = 5.0


class Names:
    """Keeps the machines of every such trunk."""

    def __init__(self, trunks: TrunkTable, resolver: Resolver) -> None:
        self._resolver = resolver
        self._due = {trunk: 0.0 for trunk in trunks.trunks if trunk.target.named}

    async def look_up(self) -> None:
        """Asks for every name whose time has come, all at the same time."""
        now = asyncio.get_running_loop().time()
        await asyncio.gather(*(self._find(trunk) for trunk, due in self._due.items() if due <= now))

    async def run(self) -> None:
        """Asks again and again, until cancelled."""
        while self._due:
            await asyncio.sleep(TICK)
            await self.look_up()

    async def _find(self, trunk: Trunk) -> None:
        seconds = AGAIN
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._resolver.locate(trunk.target)
            trunk.targets.learn(found.places)
            seconds = min(max(found.seconds, LEAST), MOST)
        except (NotFound, TimeoutError):  # what was known before is still the best guess
            log.warning("name_not_found", trunk=trunk.name)
        self._due[trunk] = asyncio.get_running_loop().time() + seconds
