"""The unique_name of a session: one open session per name, service and tenant.

The name has a key (and a slot) of its own, so it is claimed before the numbers are bound and confirmed after. A claim
names every id its session may get, so whoever finds a claim left by a process that died can look whether the session
came to be, and adopt it. A claim older than `CLAIM_MS` without a session is anybody's.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from masking.house import script

if TYPE_CHECKING:
    from masking.house import House
    from pools.redis import Word

KEEP: Final = script("name")
CLAIM_MS: Final = 5_000
CLAIM_KEPT_MS: Final = 60_000
OUTLIVES_MS: Final = 24 * 3_600_000  # the name points to its session this much longer than the session lives


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a name: `session` once bound, else the ids a claim may become. `people` is a digest of who takes part."""

    claim: str
    people: str
    at: int
    candidates: list[str] = []
    session: str | None = None


class Held(msgspec.Struct, frozen=True):
    """A holding and the bytes it was read as."""

    holding: Holding | None
    raw: bytes


def key(tenant: str, service: str, name: str) -> str:
    """The name's key in Redis; of fixed length, whatever the name is."""
    return f"u:{tenant}:{service}:{blake2b(name.encode(), digest_size=15).hexdigest()}"


NOBODY: Final = Held(None, b"")


async def claim(house: House, at: str, seen: Held, holding: Holding) -> Held | None:
    """Takes the name if it is still as it was seen; else who holds it now."""
    done, raw = await house.redis.script(KEEP, [at], [seen.raw, msgspec.json.encode(holding), CLAIM_KEPT_MS])
    if done:
        return None
    return Held(msgspec.json.decode(raw, type=Holding), raw) if raw else NOBODY


async def confirm(house: House, at: str, claimed: Holding, session: str, lives_ms: int) -> bool:
    """The claimed name's session is open; False when the claim was taken over meanwhile."""
    bound = msgspec.structs.replace(claimed, session=session, candidates=[])
    words: list[Word] = [msgspec.json.encode(claimed), msgspec.json.encode(bound), lives_ms + OUTLIVES_MS]
    return bool((await house.redis.script(KEEP, [at], words))[0])


async def give_up(house: House, at: str, claimed: Holding) -> None:
    """The claimed name's session could not be opened."""
    await house.redis.script(KEEP, [at], [msgspec.json.encode(claimed), "", 0])


async def prolong(house: House, at: str, lives_ms: int) -> None:
    """The session of this name lives longer than was thought."""
    await house.redis.command("PEXPIRE", at, lives_ms + OUTLIVES_MS)
