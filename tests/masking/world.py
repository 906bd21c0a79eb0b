"""A house with a clock of its own, a pool of numbers, and people: what the tests of the session model stand on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from masking import access, opening, routes, services
from masking.access import SCOPES, Access
from masking.config import Config, RedisSection, ServiceSection, TrunkSection
from masking.house import House
from masking.interactions import Attestation
from masking.routes import Challenge, Claimed, Refusal, Route, Stranger
from masking.sessions import NewParticipant, NewSession, Session
from pools.inventory import Inventory, Item
from pools.keyring import Keyring
from pools.leases import Leases
from pools.numbers import Number
from pools.redis import Redis
from tests.pools.world import SCRIPTS

START = 1_800_000_000.0
CUSTOMER, DRIVER, MERCHANT, STRANGER = "+84901234567", "+84907654321", "+84912345678", "+84987654321"
MUSCOVITE = "+79161234567"
TRUNKS = [
    TrunkSection(name="carrier-vn", uri="sip:127.0.0.1:5070", sources=["127.0.0.1"], country="VN"),
    TrunkSection(name="carrier-ru", uri="sip:127.0.0.1:5071", sources=["127.0.0.2"], country="RU"),
]


def participants(*numbers: str) -> list[NewParticipant]:
    roles = ["customer", "driver", "merchant", "dispatcher", *["helper"] * 4]
    return [NewParticipant(identifier=number, role=role) for number, role in zip(numbers, roles, strict=False)]


@dataclass
class World:
    """One tenant, `acme`; the time stands at `now` (seconds) in Redis and in the house until the test moves it."""

    house: House
    access: Access
    now: list[float] = field(default_factory=lambda: [START])
    calls: int = 0
    numbers: int = 0

    @classmethod
    async def make(cls, redis: Redis, keyring: Keyring, folder: Path, archive: AsyncEngine | None = None) -> World:
        now = [START]
        house = House(
            config=Config(service=ServiceSection(data_dir=str(folder)), redis=RedisSection(), trunk=TRUNKS),
            redis=redis,
            keyring=keyring,
            inventory=Inventory(redis, keyring),
            leases=Leases(redis, SCRIPTS),
            archive=archive,
            now=lambda: now[0],
            random=os.urandom,
        )
        made = cls(house, Access("acme", "key_test", frozenset(SCOPES)), now)
        await made.later(0)
        await redis.command("SADD", "tenants", "acme")
        return made

    async def later(self, span: float) -> None:
        self.now[0] += span
        await self.house.redis.command("SET", "test clock", round(self.now[0] * 1000))

    async def pool(
        self, size: int, country: str = "VN", *, service: str = "default", tenant: str = "acme"
    ) -> list[str]:
        """`size` more numbers of the country, leaving by its trunk."""
        prefix = {"VN": "+84247100", "RU": "+74951000"}[country]
        found = (await services.get(self.house, tenant, service)).id
        numbers = [f"{prefix}{self.numbers + place:04}" for place in range(size)]
        self.numbers += size
        items = [Item(number, country, f"carrier-{country.lower()}") for number in numbers]
        await self.house.inventory.add(tenant, found, items)
        return numbers

    async def open(self, *numbers: str, **wishes: object) -> Session:
        new = NewSession(participants=participants(*(numbers or (CUSTOMER, DRIVER))), **wishes)  # type: ignore[arg-type]
        return (await opening.open_session(self.house, self.access, new))[0]

    async def call(
        self, called: str, caller: str | None, interaction: str | None = None, trunk: str = "carrier-vn"
    ) -> Route | Refusal:
        claimed = await self.dial(called, caller, interaction, trunk)
        assert not isinstance(claimed, Challenge | Stranger)
        return claimed

    async def dial(
        self,
        called: str,
        caller: str | None,
        interaction: str | None = None,
        trunk: str = "carrier-vn",
        attestation: Attestation | None = None,
    ) -> Claimed:
        self.calls += 1
        return await routes.claim(
            self.house,
            called=Number.parse(called),
            caller=Number.parse(caller) if caller is not None else None,
            interaction=interaction or f"int_{self.calls}",
            owner="edge-1",
            trunk=trunk,
            at=self.house.now(),
            attestation=attestation,
        )

    async def types(self, session: str) -> list[str]:
        """The types of the session's events so far."""
        return [entry.type for entry in await self.house.leases.journal(session, limit=500)]


def proxy(session: Session, source: int, target: int) -> str:
    """The number that participant `source` dials to reach participant `target`."""
    to = session.participants[target].id
    return next(one.number for one in session.participants[source].proxies if one.to == to)


def numbers_of(session: Session) -> Sequence[str]:
    return sorted({one.number for person in session.participants for one in person.proxies})


__all__ = ["CUSTOMER", "DRIVER", "MERCHANT", "MUSCOVITE", "STRANGER", "World", "access", "numbers_of", "proxy"]
