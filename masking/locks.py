"""To whom a tenant's recordings are sealed: the public half of its newest key, as Redis tells it to the edge.

The courier makes the pairs and tells them here (`masking.courier.locksmith`); whoever reads this can seal, and open
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import msgspec

from masking.house import Unavailable

if TYPE_CHECKING:
    from masking.house import House

REMEMBERED: Final = 10.0  # seconds a process trusts what it read; a rotated key is in use after that
PATIENCE: Final = 1.5  # seconds until a tenant's very first key is there: its courier looks once a second
PAUSE: Final = 0.05


class Lock(msgspec.Struct, frozen=True):
    """A pair by its name, and its X25519 public key (32 bytes)."""

    key: str
    public: bytes


class NoLock(Exception):
    """Nobody has made a key for this tenant, or nobody can say: nothing of it can be recorded."""

    code = "no_key"


async def tell(house: House, tenant: str, lock: Lock) -> None:
    """From now on (`REMEMBERED`) the tenant's recordings are sealed to this key."""
    await house.redis.command("SET", _name(tenant), msgspec.json.encode(lock))


async def told(house: House, tenant: str) -> Lock | None:
    """What the edges are told now."""
    raw = await house.redis.command("GET", _name(tenant))
    return msgspec.json.decode(raw, type=Lock) if raw is not None else None


async def lock_of(house: House, tenant: str) -> Lock:
    """The tenant's lock, as it was at most `REMEMBERED` seconds ago, or for as long as Redis is away. `NoLock`."""
    name, now = _name(tenant), house.now()
    at, found = house.seen.get(name, (0.0, None))
    if found is None or abs(now - at) >= REMEMBERED:
        try:
            found = await _awaited(house, tenant)
        except Unavailable:
            if found is None:
                raise NoLock from None
        house.seen[name] = (now, found)
    assert isinstance(found, Lock)
    return found


async def _awaited(house: House, tenant: str) -> Lock:
    for _ in range(round(PATIENCE / PAUSE)):
        if (found := await told(house, tenant)) is not None:
            return found
        await anyio.sleep(PAUSE)
    raise NoLock


def _name(tenant: str) -> str:
    return f"lock:{tenant}"
