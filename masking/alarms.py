"""Alarms before a pool is exhausted: the event `number.low`, and what `/metrics` says of it.

A session that was opened tells what its two people held or had in quarantine of its shard's numbers, with the one they
got. While that is no more than the shard has, they were sure of a number; from four fifths of it on the shard is low.
It is told once an hour for each shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from masking.budgets import Budget
from masking.events import append_loose
from masking.house import Unavailable

if TYPE_CHECKING:
    from masking.house import House
    from masking.records import Record
    from pools.grants import Tight

LOW: Final = 0.8
AGAIN: Final = 3600  # seconds
LATELY: Final = 60.0  # seconds; a shard never changes its country


async def tell_low(house: House, record: Record, tight: Tight | None) -> None:
    """Appends `number.low` where a lease came near the end of a shard, unless it was low within the hour. The session
    stands whatever becomes of it."""
    if tight is None or tight.part < LOW:
        return
    pools = await house.inventory.recent_pools(record.tenant, record.service, LATELY)
    data = {
        "service": record.service_name,
        "country": next((country for country, pool in pools.items() if tight.shard in pool.shards), None),
        "shard": tight.shard,
        "used": tight.used,
        "active": tight.size,
    }
    try:
        if await Budget(key(tight.shard), 1, AGAIN).spend(house):
            await append_loose(house, record.tenant, "number.low", house.now(), data)
    except Unavailable:
        pass  # the next session says it


async def are_low(house: House, shards: list[str]) -> bool:
    """Was any of them low within the hour?"""
    return bool(shards) and bool(await house.redis.command("EXISTS", *map(key, shards)))


def key(shard: str) -> str:
    return f"low:{shard}"
