"""Demands of an app on the recordings of this edge's calls, as they come in."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from masking.demands import Demands
from masking.house import Unavailable

if TYPE_CHECKING:
    from sipedge.circuits import Exchange

PAUSE: Final = 0.5  # seconds, while Redis is away


async def serve(exchange: Exchange, owner: str) -> None:
    """Passes each on to its call until cancelled; one of a call that has ended is nobody's."""
    demands = Demands(exchange.house, owner)
    try:
        while True:
            try:
                order = await demands.next()
            except Unavailable:
                await asyncio.sleep(PAUSE)
                continue
            call = exchange.calls.get(order.interaction) if order is not None else None
            if order is not None and call is not None:
                call.demand(order.action)
    finally:
        with contextlib.suppress(Unavailable):
            await demands.close()
