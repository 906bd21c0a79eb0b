"""The house: what every function of the core is given instead of reaching for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from masking.config import Config
from masking.sentences import Voices
from masking.sentences import read as read_voices
from pools.health import Health
from pools.inventory import Inventory
from pools.keyring import Keyring
from pools.keyring import WrongKey as WrongKey
from pools.leases import Leases
from pools.redis import Redis, Script, Word
from pools.redis import Unavailable as Unavailable  # for the rooms that may not import pools

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LETTERS = (ALPHABET * 5)[:256].encode()  # one letter or digit for each byte; of 62, eight are a fifth likelier
# A call is answered 503 rather than late; whoever is off the call's path may wait for a busy Redis.
CALL_BUDGET, PATIENT_BUDGET = 0.15, 1.0


@dataclass(frozen=True, slots=True)
class House:
    """Redis and what stands on it, the archive (None where SQL is not needed: the edge), the clock and the dice.

    `now()` is seconds since 1970; `random(n)` n random bytes. `seen` remembers API keys for a few seconds
    (`masking.access`), and services for one (`masking.services`).
    """

    config: Config
    redis: Redis
    keyring: Keyring
    inventory: Inventory
    leases: Leases
    archive: AsyncEngine | None
    now: Callable[[], float]
    random: Callable[[int], bytes]
    voices: Voices = field(default_factory=dict, repr=False)  # the operator's own sentences
    seen: dict[str, Any] = field(default_factory=dict, repr=False)

    def token(self, prefix: str) -> str:
        """A fresh id: `int_ par_ rec_ key_ svc_ …` and 22 letters and digits."""
        return prefix + letters(self.random(22))

    def ahead(self, *words: Word) -> Awaitable[Any]:
        """Sends a command now; its answer may be awaited later, or never: then a failure is nobody's error."""
        sent = asyncio.ensure_future(self.redis.command(*words))
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())
        return sent

    @property
    def health(self) -> Health:
        """How the numbers fare."""
        return Health(self.redis)

    @property
    def now_ms(self) -> int:
        """`now()` in the pools' unit."""
        return round(self.now() * 1000)


def letters(raw: bytes) -> str:
    """Each byte as a letter or digit: 22 of them carry over 124 random bits."""
    return raw.translate(LETTERS).decode()


def script(name: str) -> Script:
    """A Lua script of the core by its file name without `.lua`."""
    return Script(name, files("masking").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8"))


@asynccontextmanager
async def open_house(
    config: Config,
    *,
    now: Callable[[], float],
    random: Callable[[int], bytes],
    archive: bool = True,
    budget: float | None = None,
) -> AsyncIterator[House]:
    """Opens Redis and, unless `archive=False`, the archive; closes both. `now` is `time.time`, `random` `os.urandom`.

    `budget`: seconds until Redis counts as gone; by default short where there is no archive (the edge), else patient.
    Raises `pools.keyring.WrongKey` when the data was made with another key file, `pools.redis.Unavailable`.
    """
    redis = Redis(config.redis_url, budget or (PATIENT_BUDGET if archive else CALL_BUDGET))
    engine: AsyncEngine | None = None
    try:
        keyring = await asyncio.to_thread(Keyring.open, config.key_path, random)
        await keyring.guard(redis)
        if archive:
            from masking.archive import engine as archive_engine  # SQL stays off the edge's path

            engine = await asyncio.to_thread(archive_engine, config.archive_url)
        yield House(
            config=config,
            redis=redis,
            keyring=keyring,
            inventory=Inventory(redis, keyring),
            leases=Leases(redis),
            archive=engine,
            now=now,
            random=random,
            voices=await asyncio.to_thread(read_voices, config.media.voices),
        )
    finally:
        if engine is not None:
            await engine.dispose()
        await redis.close()
