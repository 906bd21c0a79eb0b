"""Services: named defaults for sessions, and the owner of a pool of numbers per country."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from masking.house import House

Record = Literal["never", "always"]
NumberModel = Literal["auto", "shared", "per_party"]
GeoMatch = Literal["soft", "strict"]
NumberSelection = Literal["avoid_sticky", "prefer_sticky"]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service and the defaults its sessions start from."""

    id: str
    unique_name: str | None
    friendly_name: str | None = None
    created_at: datetime
    ttl: int = 3600
    record: Record = "never"
    number_model: NumberModel = "auto"
    geo_match: GeoMatch = "soft"
    number_selection: NumberSelection = "avoid_sticky"
    pair_quarantine: int = 1800
    ring_timeout: int = 45
    call_time_limit: int = 3600
    warning_at: int = 60
    max_concurrent_calls: int = 1


class ServiceChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST` and `PATCH` of a service: only what is said changes."""

    unique_name: str | None | UnsetType = UNSET
    friendly_name: str | None | UnsetType = UNSET
    ttl: int | UnsetType = UNSET
    record: str | UnsetType = UNSET
    number_model: str | UnsetType = UNSET
    geo_match: str | UnsetType = UNSET
    number_selection: str | UnsetType = UNSET
    pair_quarantine: int | UnsetType = UNSET
    ring_timeout: int | UnsetType = UNSET
    call_time_limit: int | UnsetType = UNSET
    warning_at: int | UnsetType = UNSET
    max_concurrent_calls: int | UnsetType = UNSET


async def create(house: House, tenant: str, new: ServiceChange) -> Service:
    """A new service; `UniqueNameConflict` (extra `service`), `Invalid`."""
    raise NotImplementedError


async def get(house: House, tenant: str, service: str) -> Service:
    """By id or unique_name; `NotFound`. `default` is always there."""
    raise NotImplementedError


async def listing(house: House, tenant: str) -> list[Service]:
    """All services of the tenant, `default` first, then oldest first."""
    raise NotImplementedError


async def change(house: House, tenant: str, service: str, wish: ServiceChange) -> Service:
    """Applies what `wish` says; open sessions keep what they started with."""
    raise NotImplementedError
