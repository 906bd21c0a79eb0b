"""The real app over ASGI, on a real Redis, an SQLite archive and a folder of recordings."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from masking import access, archive
from masking.access import SCOPES, Scope
from masking.api.app import App
from masking.api.desk import Desk
from masking.config import Config, RedisSection, ServiceSection, TrunkSection
from masking.house import House, open_house
from recordings import catalogue
from recordings.store import ObjectStore, open_store
from recordings.vault import Vault
from tests.api.client import Client
from tests.recordings.vaults import vault_of

TRUNK = TrunkSection(name="carrier-vn", uri="sip:127.0.0.1:5070", sources=["127.0.0.1"], country="VN")
X = [f"+8424710000{n:02}" for n in range(1, 41)]
CUSTOMER, DRIVER, THIRD = "+84901234567", "+84907654321", "+84912345678"


@pytest.fixture
def config(tmp_path: Path, redis_url: str) -> Config:
    return Config(service=ServiceSection(data_dir=str(tmp_path)), redis=RedisSection(url=redis_url), trunk=[TRUNK])


@pytest.fixture
async def house(config: Config) -> AsyncIterator[House]:
    async with open_house(config, now=time.time, random=os.urandom, budget=2.0) as opened:
        assert opened.archive is not None
        async with opened.archive.begin() as connection:
            await connection.run_sync(archive.metadata.create_all)
            await connection.run_sync(catalogue.metadata.create_all)
        yield opened


@pytest.fixture
async def store(config: Config) -> ObjectStore:
    return await open_store(config.recordings_url, lambda: os.urandom(8).hex())


@pytest.fixture
def vault(house: House, store: ObjectStore) -> Vault:
    assert house.archive is not None
    return vault_of(house.archive, store)


@pytest.fixture
def desk(house: House, vault: Vault) -> Desk:
    return Desk.of(house, vault, time.monotonic)


@pytest.fixture
def transport(desk: Desk) -> httpx2.ASGITransport:
    return httpx2.ASGITransport(App(desk))


async def key_of(house: House, tenant: str, *scopes: Scope) -> str:
    return (await access.create_key(house, tenant, list(scopes or SCOPES)))[1]


@pytest.fixture
async def api(house: House, transport: httpx2.ASGITransport) -> Client:
    """A tenant with every scope."""
    return Client(transport, await key_of(house, "acme"))


@pytest.fixture
async def stranger(house: House, transport: httpx2.ASGITransport) -> Client:
    """Another tenant with every scope."""
    return Client(transport, await key_of(house, "other"))


@pytest.fixture
def nobody(transport: httpx2.ASGITransport) -> Client:
    """Somebody without a key."""
    return Client(transport, None)


@pytest.fixture
async def numbers(api: Client) -> list[str]:
    """Forty virtual numbers of the tenant's service `default`."""
    body = {"phone_numbers": [{"phone_number": number, "trunk": "carrier-vn"} for number in X]}
    answer = await api.post("/v1/services/default/phone_numbers", body)
    assert answer.status_code == 201
    return X
