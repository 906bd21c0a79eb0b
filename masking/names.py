"""The unique_name of a session: one open session per name, service and tenant.

The name has a key (and a slot) of its own, so it is claimed before the numbers are bound. A claim names every id its
session may get, so whoever finds one looks whether that session came to be: open, the name is taken; ended, it is free.
A claim without a session is its opener's for `CLAIM_MS`, then anybody's. An opener that took so long that somebody else
may have taken the name meanwhile looks once more (`still`), and gives its numbers back when they have. How old a claim
is, Redis says, by what is left of the key's life: machines need not agree on the time.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from masking import records
from masking.house import script

if TYPE_CHECKING:
    from masking.house import House
    from pools.redis import Word

CLAIM: Final = script("claim")
KEEP: Final = script("name")
CLAIM_MS: Final = 5_000
UNDOUBTED_MS: Final = 2_000  # so young a claim nobody else has taken, whatever happened meanwhile
OUTLIVES_MS: Final = 24 * 3_600_000  # the name points to its session this much longer than the session lives


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a name: the ids that the session of a claim may get. `people` is a digest of who takes part, `lives` the
    milliseconds the name was to be kept when it was claimed."""

    claim: str
    people: str
    lives: int
    candidates: list[str]


class Held(msgspec.Struct, frozen=True):
    """A holding, the bytes it was read as, and the milliseconds since it was claimed (of a name that was prolonged,
    any number)."""

    holding: Holding | None
    raw: bytes
    age: int

    @property
    def young(self) -> bool:
        """Its opener may be binding right now."""
        return self.holding is not None and 0 <= self.age < CLAIM_MS


def key(tenant: str, service: str, name: str) -> str:
    """The name's key in Redis; of fixed length, whatever the name is."""
    return f"u:{{{tenant}}}:{service}:{blake2b(name.encode(), digest_size=15).hexdigest()}"


def kept(session_ms: int) -> int:
    """For how long a name is kept whose session lives so long."""
    return session_ms + OUTLIVES_MS


NOBODY: Final = Held(None, b"", 0)


async def claim(house: House, tenant: str, at: str, seen: Held, holding: Holding) -> Held | None:
    """Takes the name if it is still as it was seen, and notes the session as `records.touch` does; else who holds it
    now."""
    now, first = house.now_ms, holding.candidates[0]
    new = msgspec.json.encode(holding)
    words: list[Word] = [seen.raw, new, holding.lives, now, first, now - records.RECENT_MS]
    found = await house.redis.script(CLAIM, [at, records.recent(tenant)], words)
    if found is None:
        return None
    raw, left = found
    if not raw:
        return NOBODY
    other = msgspec.json.decode(raw, type=Holding)
    return Held(other, raw, other.lives - left)


async def holding(house: House, at: str) -> Holding | None:
    """Who has the name, or is about to; None for nobody."""
    held: bytes | None = await house.redis.command("GET", at)
    return msgspec.json.decode(held, type=Holding) if held else None


async def still(house: House, at: str, claimed: Holding) -> bool:
    """Whether the claim still stands."""
    held: bytes | None = await house.redis.command("GET", at)
    return held == msgspec.json.encode(claimed)


async def give_up(house: House, at: str, claimed: Holding) -> None:
    """The claimed name's session could not be opened."""
    await house.redis.script(KEEP, [at], [msgspec.json.encode(claimed), "", 0])


async def prolong(house: House, at: str, lives_ms: int) -> None:
    """The session of this name lives longer than was thought."""
    await house.redis.command("PEXPIRE", at, kept(lives_ms))
