"""`masking doctor`: what keeps a service from running, or will hurt it, and how to mend each.

It looks at an installation from outside, whether its service runs or not, and changes nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import httpx2
import msgspec
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from masking import archive, receivers
from masking.config import BadConfig, Config, TrunkSection
from masking.serve import valkey_command
from pools.keyring import Keyring, KeyringError
from pools.redis import Redis, RedisError, Refused, Unavailable

REDIS_BUDGET: Final = 2.0
HTTP_PATIENCE: Final = 3.0
DNS_PATIENCE: Final = 2.0
OLDEST_REDIS: Final = (6, 2)
CLOCK_MOST: Final = 1.0  # seconds two machines' clocks may differ
DISK_LEAST: Final = 1 << 30  # bytes: a recorded minute takes 2 MB
TRUNK_UP: Final = re.compile(r'^masking_sip_trunk_up\{trunk="([^"]+)"\} 0', re.MULTILINE)


class Finding(msgspec.Struct, frozen=True):
    """What was looked at, how it is, and, where it is not well, how to mend it."""

    check: str
    state: Literal["ok", "warning", "fault"]
    found: str
    mend: str = ""


def well(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


async def examine(config: Config, now: Callable[[], float]) -> list[Finding]:
    """Every finding, in the order in which a service needs them. `now` is `time.time`."""
    runs = await asyncio.to_thread(is_running, config.data_dir)
    found = [well("service", "is running" if runs else "is not running")]
    found += await asyncio.to_thread(lambda: [*_folder(config), *_keys(config), *_ports(config, runs)])
    found += await _redis(config, runs, now)
    found += await _archive(config)
    found += await _receivers(config, runs)
    return found + await asyncio.to_thread(lambda: list(_trunks(config, runs)))


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


def _folder(config: Config) -> Iterator[Finding]:
    there = next(folder for folder in (config.data_dir, *config.data_dir.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    said = f"{free / 1e9:.1f} GB free on {there}"
    if free < DISK_LEAST:
        yield Finding("disk", "warning", said, "make room, or send recordings elsewhere (recordings.url)")
    else:
        yield well("disk", said)


def _keys(config: Config) -> Iterator[Finding]:
    path = config.key_path
    if path.exists():
        try:
            Keyring.load(path)
        except (KeyringError, OSError) as trouble:
            yield Finding("keys", "fault", str(trouble), "put back the key file that the data was made with, mode 0600")
        else:
            yield well("keys", f"{path} can be used")
    elif not config.redis.url and (config.data_dir / "valkey").is_dir() and any((config.data_dir / "valkey").iterdir()):
        yield Finding("keys", "fault", f"{path} is gone, but there is data made with it", "put the key file back")
    else:
        yield well("keys", f"{path} will be made at the first start")


def _ports(config: Config, runs: bool) -> Iterator[Finding]:
    listeners = [("http.listen", socket.SOCK_STREAM, *config.http.address)]
    for one in config.sip.listeners:
        kind = socket.SOCK_DGRAM if one.transport == "udp" else socket.SOCK_STREAM
        listeners.append((f"sip.listen {one.transport}", kind, one.host, one.port))
    for name, kind, host, port in listeners:
        why = _taken(kind, host, port) if port else ""
        free = f"{name}: {host}:{port} is {'free' if not why else why}"
        if bool(why) == runs or not port:
            yield well("ports", f"{name}: {host}:{port} is served" if runs else free)
        elif runs:
            yield Finding("ports", "fault", free, "look into the service's log for why it does not listen there")
        else:
            yield Finding("ports", "fault", free, f"end what uses it, or change {name.split()[0]}")
    first, last = config.media.port_range
    if last - first < 100:
        said = f"media.ports: {config.media.ports} is enough for {(last - first + 1) // 4} calls"
        yield Finding("ports", "warning", said, "widen media.ports: a call takes four, and they rest after it")


def _taken(kind: socket.SocketKind, host: str, port: int) -> str:
    """Why nobody else could listen there; "" when one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            return (error.strerror or type(error).__name__).lower()
    return ""


async def _redis(config: Config, runs: bool, now: Callable[[], float]) -> list[Finding]:
    if not config.redis.url and not runs:
        try:
            await asyncio.to_thread(valkey_command, config)
        except BadConfig as missing:
            return [Finding("redis", "fault", str(missing), "install masking[embedded], or set redis.url")]
        return [well("redis", "the embedded Valkey is installed")]
    redis = Redis(config.redis_url, REDIS_BUDGET)
    try:
        began = now()
        seconds, micros = await redis.command("TIME")
        ended = now()
        info = (await redis.command("INFO")).decode()
        policy = await _policy(redis)
    except RedisError as trouble:
        return [Finding("redis", "fault", str(trouble), "start Redis, or correct redis.url")]
    finally:
        await redis.close()
    return [*_redis_told(info, policy), _clock(int(seconds) + int(micros) / 1e6, began, ended)]


async def _policy(redis: Redis) -> str:
    """What Redis does when its memory is full; "" where it does not say (managed ones often do not)."""
    try:
        told: list[bytes] = await redis.command("CONFIG", "GET", "maxmemory-policy")
    except (Refused, Unavailable):
        return ""
    return told[1].decode() if len(told) > 1 else ""


def _redis_told(info: str, policy: str) -> Iterator[Finding]:
    told = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    version = told.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        yield Finding("redis", "fault", f"is version {version}", "Redis 6.2 or newer, or Valkey")
    else:
        yield well("redis", f"answers; speaks as version {version}")
    if told.get("aof_enabled") != "1":
        mend = "set appendonly yes: a crash of Redis may lose sessions that were acknowledged"
        yield Finding("redis", "warning", "keeps no append-only file", mend)
    if policy not in ("", "noeviction"):
        mend = "set maxmemory-policy noeviction: a lease that is evicted may be given out twice"
        yield Finding("redis", "fault", "may evict keys when its memory is full", mend)


def _clock(theirs: float, began: float, ended: float) -> Finding:
    """Redis' clock beside ours; what the question itself took is no difference."""
    apart = max(began - theirs, theirs - ended, 0.0)
    said = f"differs from Redis' by {apart:.1f} s" if apart > CLOCK_MOST else "agrees with Redis'"
    if apart > CLOCK_MOST:
        return Finding("clock", "fault", said, "let both machines keep time by NTP (timedatectl set-ntp true)")
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
        return [Finding("archive", "fault", f"{shown}: {kind}", "start the database, or correct archive.url")]
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
            found.append(Finding("webhooks", "fault", f"{named}: {trouble[0]}", trouble[1]))
        elif not one.secret_told:
            mend = "POST …:rotate_secret, and let the app check the signatures"
            found.append(Finding("webhooks", "warning", f"{named}: nobody was told its secret", mend))
        else:
            found.append(well("webhooks", f"{named} can be reached"))
    return found


def _trunks(config: Config, runs: bool) -> Iterator[Finding]:
    if not config.trunk:
        yield Finding("trunks", "warning", "none is configured", "add a [[trunk]]: without one nobody can be called")
    down = set(TRUNK_UP.findall(_metrics(config))) if runs else set()
    for trunk in config.trunk:
        host = _host(trunk)
        if host and not _resolves(host):
            yield Finding("trunks", "fault", f"{trunk.name}: {host} has no address", "correct uri, or the DNS")
        elif trunk.name in down:
            mend = "ask the carrier: it does not answer OPTIONS, or nearly every call fails"
            yield Finding("trunks", "warning", f"{trunk.name} takes no calls now", mend)
        else:
            yield well("trunks", f"{trunk.name} is up" if runs else f"{trunk.name} is configured")
        if trunk.cli == "any":
            mend = 'cli = "own", unless the carrier has allowed numbers that are not its own'
            yield Finding("trunks", "warning", f"{trunk.name} shows every number", mend)


def _host(trunk: TrunkSection) -> str:
    """The name of a trunk's uri; "" where an address stands there."""
    host = trunk.uri.partition(":")[2].partition(";")[0].rpartition("@")[2]
    host = host if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    return ""


def _resolves(host: str) -> bool:
    """By an address of its own, or by the services it names (RFC 3263)."""
    import dns.exception
    import dns.resolver

    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        pass
    for service in ("_sip._udp", "_sip._tcp", "_sips._tcp"):
        try:
            return bool(dns.resolver.resolve(f"{service}.{host}", "SRV", lifetime=DNS_PATIENCE))
        except (dns.exception.DNSException, OSError):
            continue
    return False


def _metrics(config: Config) -> str:
    """What the running service tells on loopback; "" when it does not."""
    try:
        return str(httpx2.get(f"http://{config.http.listen}/metrics", timeout=HTTP_PATIENCE).text)
    except httpx2.HTTPError:
        return ""
