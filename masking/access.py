"""Tenants and their API keys.

A key is `<id>.<secret>`; the secret has 256 random bits and is kept only as a keyed hash, so a copy of Redis opens nothing.
A tenant exists by its first key. The bootstrap key of the configuration belongs to tenant `default` with every scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from masking.house import House

Scope = Literal["sessions", "numbers", "recordings", "disputes", "admin"]
SCOPES: tuple[Scope, ...] = ("sessions", "numbers", "recordings", "disputes", "admin")


class Access(msgspec.Struct, frozen=True):
    """Whose request this is, and what it may do."""

    tenant: str
    key: str  # id of the key, for logs and the audit
    scopes: frozenset[Scope]

    def demand(self, scope: Scope) -> None:
        """Raises `Forbidden` unless the key has the scope."""
        raise NotImplementedError


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is listed: never its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[Scope]
    created_at: float


async def authenticate(house: House, bearer: str) -> Access | None:
    """The access a bearer token grants, or None; cached for a few seconds in the process."""
    raise NotImplementedError


async def create_key(house: House, tenant: str, scopes: list[Scope], name: str = "") -> tuple[Key, str]:
    """A new key and, this once, the whole token."""
    raise NotImplementedError


async def list_keys(house: House, tenant: str) -> list[Key]:
    """The tenant's keys, oldest first."""
    raise NotImplementedError


async def revoke_key(house: House, tenant: str, key: str) -> None:
    """Ends a key within the cache's few seconds everywhere; `NotFound`."""
    raise NotImplementedError
