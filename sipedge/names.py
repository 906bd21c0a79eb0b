"""Trunks whose `uri` names a host: where that host is, asked off the calls' path and again every minute.

A trunk whose name is not known is passed over like one that is silent.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import structlog

from sipedge.trunks import Trunk, TrunkTable

log = structlog.get_logger("sipedge.names")

EVERY: Final = 60.0
PATIENCE: Final = 3.0


async def look_up(trunks: TrunkTable) -> None:
    """Asks for every name once, all at the same time."""
    await asyncio.gather(*(_find(trunk) for trunk in trunks.trunks if trunk.named_host))


async def keep(trunks: TrunkTable) -> None:
    """Asks again and again, until cancelled."""
    while True:
        await asyncio.sleep(EVERY)
        await look_up(trunks)


async def _find(trunk: Trunk) -> None:
    host, port, kind = trunk.target.host, trunk.target.port, socket.SOCK_DGRAM
    try:
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    except (OSError, TimeoutError, UnicodeError):  # what was known before is still the best guess
        log.warning("name_not_found", trunk=trunk.name)
        return
    addresses = [(str(one[4][0]), int(one[4][1])) for one in found]
    if trunk.address not in addresses:
        trunk.address = addresses[0]
