"""`masking doctor`: what keeps a service from running, or will hurt it, and how to mend each.

It looks at an installation from outside, whether its service runs or not, and changes nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx2
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from masking import archive, carriers, machine, receivers
from masking.config import BadConfig, Config
from masking.machine import Machine
from masking.serve import valkey_command
from masking.symptoms import Finding, fault, warning, well
from pools.redis import Redis, RedisError, Refused, Unavailable

REDIS_BUDGET: Final = 2.0
HTTP_PATIENCE: Final = 3.0
OLDEST_REDIS: Final = (6, 2)
CLOCK_MOST: Final = 1.0  # seconds two machines' clocks may differ
LOOKED_AT: Final = 2_000  # numbers


async def examine(config: Config, now: Callable[[], float], here: Machine | None = None) -> list[Finding]:
    """Every finding, in the order in which a service needs them. `now` is `time.time`; `here`: this machine."""
    runs = await asyncio.to_thread(is_running, config.data_dir)
    found = [well("service", "is running" if runs else "is not running")]
    found += await asyncio.to_thread(lambda: list(machine.look(config, here or Machine.here(), runs=runs)))
    found += await _redis(config, runs, now)
    found += await _archive(config)
    found += await _receivers(config, runs)
    metrics = await asyncio.to_thread(_metrics, config) if runs else None
    moment = datetime.fromtimestamp(now(), UTC)
    return found + await asyncio.to_thread(lambda: list(carriers.look(config, metrics, moment)))


def is_running(data_dir: Path) -> bool:
    """Whether a `masking serve` holds the data folder."""
    try:
        with (data_dir / "serve.lock").open("r") as held:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


async def _redis(config: Config, runs: bool, now: Callable[[], float]) -> list[Finding]:
    if not config.redis.url and not runs:
        try:
            await asyncio.to_thread(valkey_command, config)
        except BadConfig as missing:
            return [fault(10, "redis", str(missing), "install masking[embedded], or set redis.url")]
        return [well("redis", "the embedded Valkey is installed")]
    redis = Redis(config.redis_url, REDIS_BUDGET)
    try:
        began = now()
        seconds, micros = await redis.command("TIME")
        ended = now()
        info = (await redis.command("INFO")).decode()
        policy = await _policy(redis)
        tenants, numbers, leaving = await _held(redis)
    except RedisError as trouble:
        return [fault(10, "redis", str(trouble), "start Redis, or correct redis.url")]
    finally:
        await redis.close()
    clock = _clock(int(seconds) + int(micros) / 1e6, began, ended)
    return [*_redis_told(info, policy), clock, *_stock(config, tenants, numbers, leaving)]


async def _policy(redis: Redis) -> str:
    """What Redis does when its memory is full; "" where it does not say (managed ones often do not)."""
    try:
        told: list[bytes] = await redis.command("CONFIG", "GET", "maxmemory-policy")
    except (Refused, Unavailable):
        return ""
    return told[1].decode() if len(told) > 1 else ""


async def _held(redis: Redis) -> tuple[int, int, set[str]]:
    """How many tenants have keys, how many shards of numbers there are, and the trunks that numbers leave by (of the
    first `LOOKED_AT` numbers)."""
    tenants, numbers, leaving, cursor, seen = 0, 0, set[str](), b"0", 0
    for tenant in await redis.command("SMEMBERS", "tenants"):
        tenants += bool(await redis.command("SCARD", f"keys:{tenant.decode()}"))
    numbers = int(await redis.command("SCARD", "{n}shards"))
    while numbers and seen < LOOKED_AT:
        cursor, keys = await redis.command("SCAN", cursor, "MATCH", "{n}x:*", "COUNT", 500)
        for key in keys:
            trunk, state = await redis.command("HMGET", key, "trunk", "state")
            if trunk and state != b"retired":
                leaving.add(trunk.decode())
        seen += len(keys)
        if cursor == b"0":
            break
    return tenants, numbers, leaving


def _stock(config: Config, tenants: int, numbers: int, leaving: set[str]) -> Iterator[Finding]:
    """What a service needs before it can do anything: somebody who may ask, and numbers that leave by its trunks."""
    if not tenants and not config.service.bootstrap_key:
        mend = "masking keys create --tenant NAME --scope sessions …, or set service.bootstrap_key"
        yield warning(23, "api keys", "there is none: nobody may ask for anything", mend)
    lost = sorted(leaving - {trunk.name for trunk in config.trunk})
    if not numbers:
        yield warning(24, "numbers", "there is none: no session can be opened", "masking numbers import FILE.csv")
    elif lost:
        said = f"some leave by {', '.join(lost)}, which the configuration does not name"
        yield fault(24, "numbers", said, "give the [[trunk]] its name back, or add the numbers to another trunk")


def _redis_told(info: str, policy: str) -> Iterator[Finding]:
    told = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    version = told.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        yield fault(11, "redis", f"is version {version}", "Redis 6.2 or newer, or Valkey")
    else:
        yield well("redis", f"answers; speaks as version {version}")
    if told.get("aof_enabled") != "1":
        mend = "set appendonly yes: a crash of Redis may lose sessions that were acknowledged"
        yield warning(12, "redis", "keeps no append-only file", mend)
    if policy not in ("", "noeviction"):
        mend = "set maxmemory-policy noeviction: a lease that is evicted may be given out twice"
        yield fault(13, "redis", "may evict keys when its memory is full", mend)


def _clock(theirs: float, began: float, ended: float) -> Finding:
    """Redis' clock beside ours; what the question itself took is no difference."""
    apart = max(began - theirs, theirs - ended, 0.0)
    said = f"differs from Redis' by {apart:.1f} s" if apart > CLOCK_MOST else "agrees with Redis'"
    if apart > CLOCK_MOST:
        return fault(14, "clock", said, "let both machines keep time by NTP (timedatectl set-ntp true)")
    return well("clock", said)


async def _archive(config: Config) -> list[Finding]:
    shown = archive.described(config.archive_url)
    if not config.archive.url and not await asyncio.to_thread((config.data_dir / "archive.sqlite3").exists):
        return [well("archive", "SQLite, will be made at the first start")]
    engine = await asyncio.to_thread(archive.engine, config.archive_url)
    try:
        async with engine.connect() as connection:
            await connection.execute(sql.text("SELECT 1"))
    except (SQLAlchemyError, OSError) as trouble:
        kind = type(getattr(trouble, "orig", None) or trouble).__name__
        return [fault(15, "archive", f"{shown}: {kind}", "start the database, or correct archive.url")]
    finally:
        await engine.dispose()
    return [well("archive", f"{shown} answers")]


async def _receivers(config: Config, runs: bool) -> list[Finding]:
    """The URLs that events go to and that apps are asked at."""
    if not config.redis.url and not runs:
        return []
    redis = Redis(config.redis_url, REDIS_BUDGET)
    try:
        known = await receivers.receivers(redis)
    except RedisError:
        return []  # the check of Redis says so
    finally:
        await redis.close()
    found = []
    for one, trouble in zip(known, await receivers.troubles(known, config.webhooks.allow_private), strict=True):
        named = f"{one.tenant}, {one.what}"
        if trouble is not None:
            found.append(fault(25, "webhooks", f"{named}: {trouble[0]}", trouble[1]))
        elif not one.secret_told:
            mend = "POST …:rotate_secret, and let the app check the signatures"
            found.append(warning(26, "webhooks", f"{named}: nobody was told its secret", mend))
        else:
            found.append(well("webhooks", f"{named} can be reached"))
    return found


def _metrics(config: Config) -> str:
    """What the running service tells on loopback; "" when it does not."""
    try:
        return str(httpx2.get(f"http://{config.http.listen}/metrics", timeout=HTTP_PATIENCE).text)
    except httpx2.HTTPError:
        return ""
