"""Phone numbers: which X belongs to which tenant, service and country, in which shard, and in what state.

The registry lives under one hash tag of its own, ``{n}``, so that adding numbers is all or nothing; each shard is
told afterwards, in words that can be repeated (`place.lua`). When a process dies between the two, adding the same
numbers again, or changing their state, mends it.

    {n}held                   hash    tenant -> how many numbers it holds that are not retired
    {n}x:<index of X>         hash    x, tenant, service, country, trunk, state, shard, position, version
    {n}l:<tenant>/<service>   zset    its numbers, in the order of their digits
    {n}d:<tenant>/<service>   hash    shard -> country:size
    {n}s                      hash    shard -> tenant/service/country
    {n}shards                 set     every shard of the installation
    {n}resting                zset    index -> until when that number rests
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal, cast

import msgspec

from pools.journal import key, pairs
from pools.keyring import Keyring
from pools.numbers import Number
from pools.redis import Redis, Word
from pools.scripts import ADD, PLACE, STATE

State = Literal["active", "draining", "suspended", "retired", "resting"]
STATES: Final[tuple[State, ...]] = ("active", "draining", "suspended", "retired")  # those that somebody gives
CALLABLE: Final = frozenset({"active", "draining"})  # the states in which a number takes calls

SHARD_SIZE: Final = 256
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}", re.ASCII)
_ALPHABET: Final = b"0123456789abcdefghijklmnopqrstuvwxyz"


class Item(msgspec.Struct, frozen=True):
    """A number to be added: E.164, ISO country, and the trunk it leaves by ("": any trunk of its country)."""

    number: str
    country: str
    trunk: str = ""


class PhoneNumber(msgspec.Struct, frozen=True):
    """One X. Its `shard` and `position` never change.

    `state`: ``active``, ``draining`` (no new leases), ``suspended`` (no calls either), ``retired`` (both, for good),
    ``resting`` (put back after it was retired, and out of service until `rests_until`, ms).
    """

    number: str
    tenant: str
    service: str
    country: str
    trunk: str
    state: State
    shard: str
    position: int
    rests_until: int = 0


class Shard(msgspec.Struct, frozen=True):
    """At most 256 numbers of one service and country, decided on together."""

    name: str
    tenant: str
    service: str
    country: str
    size: int


class Pool(msgspec.Struct, frozen=True):
    """A service's numbers in one country: the names of its shards, and how many numbers they hold in all."""

    shards: tuple[str, ...]
    size: int


class Figures(msgspec.Struct, frozen=True):
    """A shard's load: `open` numbers take new leases, `closed` ones do not, by their state; `live` holders,
    `quarantined` ones whose tombstones stand. `ailing` are those of the open ones that others go before
    (`pools.health`)."""

    shard: Shard
    open: int
    closed: dict[State, int]
    live: int
    quarantined: int
    ailing: int = 0


class Taken(Exception):
    """Numbers to be added belong to another tenant or service; nothing was added. `numbers` are in E.164."""

    def __init__(self, numbers: Sequence[str]) -> None:
        super().__init__(f"{len(numbers)} numbers are held elsewhere")
        self.numbers = tuple(numbers)


class TooMany(Exception):
    """The tenant may not hold so many numbers; nothing was added. `held`: how many it holds."""

    def __init__(self, held: int) -> None:
        super().__init__(f"{held} are held")
        self.held = held


class UnknownNumber(Exception):
    """The number is not in the inventory of that tenant and service."""

    def __init__(self) -> None:
        super().__init__("the number is not in this service")


_Numbers = list[PhoneNumber]
_Shards = list[Shard]
_Places = list[int]
_FiguresOfAll = list[Figures]


class Inventory:
    """The phone numbers of the installation. What `find` has found is kept in process for `keep` seconds."""

    def __init__(
        self, redis: Redis, keyring: Keyring, keep: float = 30.0, entropy: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._redis = redis
        self._keyring = keyring
        self._keep = keep
        self._entropy = entropy
        self._found: dict[Number, tuple[float, PhoneNumber]] = {}
        self._pools: dict[tuple[str, str], tuple[float, dict[str, Pool]]] = {}

    async def add(
        self, tenant: str, service: str, items: Sequence[Item], most: int = 0, ageing_ms: int = 0
    ) -> list[PhoneNumber]:
        """Adds the numbers, all or none, and gives them in the same order. `most`: how many the tenant may hold that
        are not retired (0: any); `TooMany` beyond.

        One already in this service is no error and stays as it is, but a retired one becomes active again, or rests
        until it has been retired for `ageing_ms`. `Taken` when
        one is held elsewhere; ValueError, with the item's place and never its number, for one that makes no sense.
        """
        _check_owner(tenant, service)
        if not items:
            return []
        indexes = [self._keyring.index(_number_of(item, place)) for place, item in enumerate(items)]
        spare = len(items) // SHARD_SIZE + len({item.country for item in items}) + 8
        names = " ".join(self._shard_name() for _ in range(spare))
        words: list[Word] = [tenant, service, SHARD_SIZE, names, most, ageing_ms]
        for index, item in zip(indexes, items, strict=True):
            words += [index, item.number, item.country, item.trunk]
        reply = await self._redis.script(ADD, ["{n}shards"], words)
        if reply[0] == b"taken":
            raise Taken([items[place].number for place in reply[1:]])
        if reply[0] == b"too many":
            raise TooMany(reply[1])

        placed: dict[str, list[Word]] = {}
        numbers = []
        self._pools.pop((tenant, service), None)
        for item, at in zip(items, range(1, len(reply), 7), strict=True):
            shard, position, state, version, country, trunk, rests = (word.decode() for word in reply[at : at + 7])
            placed.setdefault(shard, []).extend([position, item.number, state, version])
            where = (cast(State, state), shard, int(position), int(rests or 0))
            numbers.append(PhoneNumber(item.number, tenant, service, country, trunk, *where))
        for shard, told in placed.items():
            await self._redis.script(PLACE, [key(shard, "h")], told)
        self._forget(item.number for item in items)
        return numbers

    async def find(self, number: Number | str) -> PhoneNumber | None:
        """The X that this is, or None. Found once, it costs nothing for `keep` seconds; its state may be that old."""
        number = Number.parse(number) if isinstance(number, str) else number
        now = asyncio.get_running_loop().time()
        known = self._found.get(number)
        if known is not None and now < known[0]:
            return known[1]
        found = await self._look_up(self._keyring.index(number))
        if found is None:
            self._found.pop(number, None)
        else:
            self._found[number] = (now + self._keep, found)
        return found

    async def is_pool_number(self, number: Number | str) -> bool:
        """Whether the number stands in any pool, whatever its state."""
        return await self.find(number) is not None

    def in_pools(self, indexes: Sequence[str]) -> Awaitable[int]:
        """How many of these numbers (`Keyring.index` of each) stand in any pool. It is asked when this is called, and
        may be awaited later, or never: then a failure is nobody's error."""
        if not indexes:
            none: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            none.set_result(0)
            return none
        asked = asyncio.ensure_future(self._redis.command("EXISTS", *("{n}x:" + index for index in indexes)))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asked

    async def pool_numbers(self, indexes: Sequence[str]) -> _Places:
        """The places in `indexes` of the numbers that stand in any pool."""
        there = await asyncio.gather(*(self._redis.command("EXISTS", "{n}x:" + index) for index in indexes))
        return [place for place, one in enumerate(there) if one]

    async def list(self, tenant: str, service: str, after: str = "", limit: int = 50) -> _Numbers:
        """The service's numbers in the order of their digits, those after `after`; fewer than `limit` at the end."""
        _check_owner(tenant, service)
        start = f"({after}" if after else "-"
        words: tuple[Word, ...] = ("{n}l:" + f"{tenant}/{service}", start, "+", "LIMIT", 0, limit)
        rows = await self._redis.command("ZRANGEBYLEX", *words)
        indexes = [self._keyring.index(Number.parse(row.decode())) for row in rows]
        found = await asyncio.gather(*(self._look_up(index) for index in indexes))
        return [number for number in found if number is not None]

    async def set_state(
        self, tenant: str, service: str, number: Number | str, state: State, most: int = 0, ageing_ms: int = 0
    ) -> PhoneNumber:
        """The number in its new state; `UnknownNumber` when it is not in this service, ValueError for a state that
        nobody gives, `TooMany` for one out of retirement where the tenant holds `most`. One that was retired serves
        again when that is `ageing_ms` ago, and is `resting` until then."""
        _check_owner(tenant, service)
        if state not in STATES:
            raise ValueError("a state is active, draining, suspended or retired")
        number = Number.parse(number) if isinstance(number, str) else number
        index = self._keyring.index(number)
        reply = await self._redis.script(STATE, ["{n}x:" + index], [tenant, service, state, most, ageing_ms])
        if reply is not None and len(reply) == 1:
            raise TooMany(reply[0])
        found = await self._look_up(index) if reply is not None else None
        if found is None:
            raise UnknownNumber
        version, after = reply[0], reply[1].decode()
        told: Sequence[Word] = [found.position, found.number, after, version]
        await self._redis.script(PLACE, [key(found.shard, "h")], told)
        self._found.pop(number, None)
        return msgspec.structs.replace(found, state=after)

    async def rested(self, now: int, limit: int = 500) -> _Numbers:
        """Puts those into service that have rested long enough at `now` (ms), `limit` at most."""
        words: tuple[Word, ...] = ("{n}resting", "-inf", now, "LIMIT", 0, limit)
        rows = await self._redis.command("ZRANGEBYSCORE", *words)
        found = [number for row in rows if (number := await self._look_up(row.decode())) is not None]
        return [await self.set_state(one.tenant, one.service, one.number, "active") for one in found]

    async def recent_pools(self, tenant: str, service: str, age: float) -> dict[str, Pool]:
        """The service's pools by country, as they were at most `age` seconds ago; what this process added is seen at
        once."""
        now = asyncio.get_running_loop().time()
        known = self._pools.get((tenant, service))
        if known is not None and now - known[0] < age:
            return known[1]
        by_country: dict[str, list[Shard]] = {}
        for shard in await self.shards(tenant, service):
            by_country.setdefault(shard.country, []).append(shard)
        found = {
            country: Pool(tuple(shard.name for shard in shards), sum(shard.size for shard in shards))
            for country, shards in by_country.items()
        }
        self._pools[tenant, service] = (now, found)
        return found

    async def shards(self, tenant: str, service: str, country: str | None = None) -> _Shards:
        """The service's shards, by name."""
        _check_owner(tenant, service)
        rows = pairs(await self._redis.command("HGETALL", "{n}d:" + f"{tenant}/{service}"))
        shards = []
        for name, value in sorted(rows.items()):
            where, _, size = value.decode().partition(":")
            if country is None or where == country:
                shards.append(Shard(name, tenant, service, where, int(size)))
        return shards

    async def shard_names(self) -> set[str]:
        """Every shard of the installation."""
        return {name.decode() for name in await self._redis.command("SMEMBERS", "{n}shards")}

    async def every_shard(self) -> _Shards:
        """Every shard of the installation, by name, with its owner; of its size nothing is said (0)."""
        rows = pairs(await self._redis.command("HGETALL", "{n}s"))
        found = [(name, value.decode().split("/")) for name, value in sorted(rows.items())]
        return [Shard(name, tenant, service, country, 0) for name, (tenant, service, country) in found]

    async def members(self, shard: str) -> dict[int, str]:
        """The shard's numbers, E.164, by their position."""
        rows = pairs(await self._redis.command("HGETALL", key(shard, "m")))
        return {int(position): number.decode() for position, number in rows.items()}

    async def figures(self, tenant: str, service: str, now: int) -> _FiguresOfAll:
        """The load of each of the service's shards at `now` (ms)."""
        shards = await self.shards(tenant, service)
        return list(await asyncio.gather(*(self._figures(shard, now) for shard in shards)))

    async def _figures(self, shard: Shard, now: int) -> Figures:
        later = f"({now}"
        (takes, well), closed, live, quarantined = await asyncio.gather(
            self._redis.command("HMGET", key(shard.name, "h"), "open", "well"),
            self._redis.command("HVALS", key(shard.name, "t")),
            self._redis.command("ZCOUNT", key(shard.name, "due"), later, "+inf"),
            self._redis.command("ZCOUNT", key(shard.name, "q"), later, "+inf"),
        )
        states = Counter(cast(State, state.decode()) for state in closed)
        takes = takes or b""
        ailing = len(takes) - len(takes if well is None else well)
        return Figures(shard, len(takes), dict(states), live, quarantined, ailing)

    async def _look_up(self, index: str) -> PhoneNumber | None:
        row = {
            name: value.decode() for name, value in pairs(await self._redis.command("HGETALL", "{n}x:" + index)).items()
        }
        if not row:
            return None
        return PhoneNumber(
            number=row["x"],
            tenant=row["tenant"],
            service=row["service"],
            country=row["country"],
            trunk=row["trunk"],
            state=cast(State, row["state"]),
            shard=row["shard"],
            position=int(row["position"]),
            rests_until=int(row.get("rests", 0)),
        )

    def _shard_name(self) -> str:
        return bytes(_ALPHABET[byte % 36] for byte in self._entropy(6)).decode()

    def _forget(self, numbers: Iterable[str]) -> None:
        for number in numbers:
            self._found.pop(Number.parse(number), None)


def _check_owner(tenant: str, service: str) -> None:
    if _NAME.fullmatch(tenant) is None or _NAME.fullmatch(service) is None:
        raise ValueError("a tenant or service is named by 1 to 64 letters, digits and _ . -")


def _number_of(item: Item, place: int) -> Number:
    """The item's number, or ValueError that names its place alone."""
    if _COUNTRY.fullmatch(item.country) is None:
        raise ValueError(f"item {place}: a country is two capital letters")
    try:
        return Number.parse(item.number)
    except ValueError as why:
        raise ValueError(f"item {place}: {why}") from None
