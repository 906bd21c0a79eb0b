"""Tenants and their API keys.

A key is `<id>.<secret>`; the secret has 256 random bits and is kept only as a keyed hash, so a copy of Redis opens
nothing. A tenant exists by its first key. The bootstrap key of the configuration belongs to tenant `default` with every
scope.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from masking.refusals import Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from masking.house import House

Scope = Literal["sessions", "numbers", "recordings", "disputes", "admin"]
SCOPES: tuple[Scope, ...] = ("sessions", "numbers", "recordings", "disputes", "admin")
SHARED: frozenset[Scope] = frozenset({"recordings"})  # all that a share link opens; no key has a link's id
DEFAULT_TENANT = "default"
REMEMBERED = 3.0  # seconds a process trusts what it read about a key; a revoked key works no longer than that
REMEMBERED_KEYS = 4096

_TOKEN = re.compile(r"(key_[0-9A-Za-z]{22})\.([0-9A-Za-z_-]{43})", re.ASCII)
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class Access(msgspec.Struct, frozen=True):
    """Whose request this is, and what it may do."""

    tenant: str
    key: str  # id of the key, for logs and the audit
    scopes: frozenset[Scope]

    def demand(self, scope: Scope) -> None:
        """Raises `Forbidden` unless the key has the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"This key lacks the scope {scope}.")


BOOTSTRAP = Access(DEFAULT_TENANT, "bootstrap", frozenset(SCOPES))


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed: never its secret. `created_at` is seconds since 1970."""

    id: str
    tenant: str
    name: str
    scopes: list[Scope]
    created_at: float


class _Kept(msgspec.Struct, frozen=True):
    """A key as Redis holds it."""

    key: Key
    digest: str


async def authenticate(house: House, bearer: str) -> Access | None:
    """The access a bearer token grants, or None; cached for a few seconds in the process."""
    bootstrap = house.config.service.bootstrap_key
    if bootstrap and hmac.compare_digest(bearer.encode(), bootstrap.encode()):
        return BOOTSTRAP
    match = _TOKEN.fullmatch(bearer)
    if match is None:
        return None
    kept = await _remembered(house, match[1])
    if kept is None or not hmac.compare_digest(kept.digest, _digest(house, bearer)):
        return None
    return Access(kept.key.tenant, kept.key.id, frozenset(kept.key.scopes))


async def _remembered(house: House, key: str) -> _Kept | None:
    now = house.now()
    found = cast("tuple[float, _Kept | None] | None", house.seen.get(key))
    if found is not None and abs(now - found[0]) < REMEMBERED:
        return found[1]
    kept = await _read(house, key)
    if len(house.seen) >= REMEMBERED_KEYS:
        house.seen.clear()
    house.seen[key] = (now, kept)
    return kept


async def _read(house: House, key: str) -> _Kept | None:
    raw = await house.redis.command("GET", f"key:{key}")
    return msgspec.json.decode(raw, type=_Kept) if raw is not None else None


def share(house: House, tenant: str, recording: str, until: float) -> tuple[str, str]:
    """A link's id and its token: whoever has it may hear this one recording until `until` (seconds since 1970).

    Nothing is stored: the token says what it opens, sealed with a key of this installation.
    """
    name = house.token("shr_")
    said = msgspec.json.encode([name, tenant, recording, round(until)])
    return name, "shr_" + base64.urlsafe_b64encode(said + _sealed(house, said)).decode().rstrip("=")


def by_share(house: House, token: str, recording: str) -> Access | None:
    """The access a share link's token grants to this recording now, or None."""
    try:
        raw = base64.urlsafe_b64decode(token.removeprefix("shr_") + "=" * (-(len(token) - 4) % 4))
        said, seal = raw[:-32], raw[-32:]
        if not token.startswith("shr_") or not hmac.compare_digest(seal, _sealed(house, said)):
            return None
        name, tenant, opens, until = msgspec.json.decode(said, type=tuple[str, str, str, int])
    except ValueError:  # binascii's and msgspec's errors are ValueErrors
        return None
    return Access(tenant, name, SHARED) if opens == recording and house.now() < until else None


def _sealed(house: House, said: bytes) -> bytes:
    return hmac.digest(house.keyring.derived("share links"), said, "sha256")


async def create_key(house: House, tenant: str, scopes: list[Scope], name: str = "") -> tuple[Key, str]:
    """A new key and, this once, the whole token. `Invalid` for a tenant's name or a scope that is none."""
    if not _TENANT.fullmatch(tenant):
        raise Invalid.field("tenant", "cannot be used", "up to 63 lower-case letters, digits, _ and -")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise Invalid.field("scopes", "unknown or empty", f"at least one of {', '.join(SCOPES)}")
    key = Key(id=house.token("key_"), tenant=tenant, name=name, scopes=sorted(set(scopes)), created_at=house.now())
    token = f"{key.id}.{base64.urlsafe_b64encode(house.random(32)).decode().rstrip('=')}"
    kept = msgspec.json.encode(_Kept(key, _digest(house, token)))
    # The record first: an id in the list without its record is a key that was revoked.
    await house.redis.command("SET", f"key:{key.id}", kept)
    await house.redis.command("SADD", f"keys:{tenant}", key.id)
    await house.redis.command("SADD", "tenants", tenant)
    return key, token


async def list_keys(house: House, tenant: str) -> list[Key]:
    """The tenant's keys, oldest first."""
    names = await house.redis.command("SMEMBERS", f"keys:{tenant}")
    found = [await _read(house, name.decode()) for name in names]
    return sorted((kept.key for kept in found if kept is not None), key=lambda key: (key.created_at, key.id))


async def revoke_key(house: House, tenant: str, key: str) -> None:
    """Ends a key within the cache's few seconds everywhere; `NotFound`."""
    if not await house.redis.command("SREM", f"keys:{tenant}", key):
        raise NotFound("No such key.")
    await house.redis.command("DEL", f"key:{key}")
    house.seen.pop(key, None)


async def tenants(house: House) -> list[str]:
    """Every tenant, by name; `default` is always one."""
    names = await house.redis.command("SMEMBERS", "tenants")
    return sorted({DEFAULT_TENANT, *(name.decode() for name in names)})


def _digest(house: House, token: str) -> str:
    return hmac.digest(house.keyring.derived("api keys"), token.encode(), "sha256").hex()
