"""Phone numbers: which X belongs to which tenant, service and country, in which shard, and in what state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from pools.keyring import Keyring
from pools.numbers import Number
from pools.redis import Redis

State = Literal["active", "draining", "suspended", "retired"]


class Item(msgspec.Struct, frozen=True):
    """A number to be added: E.164, ISO country, and the trunk it leaves by ("": any trunk of its country)."""

    number: str
    country: str
    trunk: str = ""


class PhoneNumber(msgspec.Struct, frozen=True):
    """One X. `shard` and `position` never change; `state`: ``active``, ``draining`` (no new leases), ``suspended`` (no calls
    either), ``retired`` (both, for good)."""

    number: str
    tenant: str
    service: str
    country: str
    trunk: str
    state: State
    shard: str
    position: int


class Shard(msgspec.Struct, frozen=True):
    """At most 256 numbers of one service and country, decided on together."""

    name: str
    tenant: str
    service: str
    country: str
    size: int


class Figures(msgspec.Struct, frozen=True):
    """A shard's load: `size` numbers, of them `open` to new leases; `live` holders, and `quarantined` ones whose tombstones stand."""

    shard: Shard
    open: int
    live: int
    quarantined: int


class Taken(Exception):
    """A number to be added belongs to another tenant or service. `numbers` are the ones; nothing was added."""

    def __init__(self, numbers: Sequence[str]) -> None:
        super().__init__("numbers are held elsewhere")
        self.numbers = tuple(numbers)


class UnknownNumber(Exception):
    """The number is not in the inventory (of that tenant and service)."""


class Inventory:
    """The phone numbers of the installation. What `find` has found is kept in process for `keep` seconds."""

    def __init__(self, redis: Redis, keyring: Keyring, keep: float = 30.0) -> None:
        raise NotImplementedError

    async def add(self, tenant: str, service: str, items: Sequence[Item]) -> list[PhoneNumber]:
        """Adds the numbers, all or none; one that is already in this service is no error. `Taken` when one is held elsewhere.
        ValueError (its message names the index, never the text) for a number or country that is none."""
        raise NotImplementedError

    async def find(self, number: Number | str) -> PhoneNumber | None:
        """The X that this is, or None."""
        raise NotImplementedError

    async def is_pool_number(self, number: Number | str) -> bool:
        """Whether the number stands in any pool, whatever its state."""
        raise NotImplementedError

    async def list(self, tenant: str, service: str, after: str = "", limit: int = 50) -> list[PhoneNumber]:
        """Numbers in the order of their digits, those after `after`; fewer than `limit` at the end."""
        raise NotImplementedError

    async def set_state(self, tenant: str, service: str, number: Number | str, state: State) -> PhoneNumber:
        """The number in its new state; `UnknownNumber` when it is not in this service."""
        raise NotImplementedError

    async def shards(self, tenant: str, service: str, country: str | None = None) -> list[Shard]:
        """The service's shards, newest last."""
        raise NotImplementedError

    async def shard_names(self) -> set[str]:
        """Every shard of the installation."""
        raise NotImplementedError

    async def figures(self, tenant: str, service: str, now: int) -> list[Figures]:
        """The load of each shard of the service at `now` (milliseconds)."""
        raise NotImplementedError
