"""What `/metrics` says of the pools: gauges read from Redis as they are asked for, told once for the whole service.

Labels are tenants, services' ids and countries; no number and no name is among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from masking import alarms, capacity, services
from masking.access import tenants
from masking.house import Unavailable

if TYPE_CHECKING:
    from masking.house import House

POOL = ("tenant", "service", "country")


async def page(house: House) -> bytes:
    """The exposition text; nothing while Redis cannot answer."""
    registry = CollectorRegistry()
    numbers = Gauge("masking_pool_numbers", "Virtual numbers, by state.", [*POOL, "state"], registry=registry)
    ill = Gauge("masking_pool_unhealthy", "Active numbers that others go before.", POOL, registry=registry)
    held = Gauge("masking_pool_sessions", "Sessions live, and ended and resting.", [*POOL, "what"], registry=registry)
    sure = Gauge("masking_pool_guaranteed", "Numbers that two people are sure to find among.", POOL, registry=registry)
    low = Gauge("masking_pool_low", "1: a shard of it was low within the hour.", POOL, registry=registry)
    try:
        for tenant in sorted(await tenants(house)):
            for service in await services.listing(house, tenant):
                found = await capacity.capacity(house, tenant, service.id)
                for one, pool in zip(await capacity.pools(house, tenant, service.id), found.pools, strict=True):
                    place = (tenant, service.id, pool.country)
                    for state in capacity.STATES:
                        numbers.labels(*place, state).set(getattr(one.states, state))
                    ill.labels(*place).set(one.unhealthy)
                    held.labels(*place, "live").set(pool.live)
                    held.labels(*place, "resting").set(pool.quarantined)
                    sure.labels(*place).set(pool.guaranteed)
                    low.labels(*place).set(await alarms.are_low(house, [shard.shard for shard in one.shards]))
    except Unavailable:
        return b""
    return generate_latest(registry)
