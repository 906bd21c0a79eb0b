"""The Redis client: one write a turn, one budget, no retries, and every failure told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pools.redis import Redis, RedisError, Refused, Script, Target, Unavailable
from tests.conftest import redis_kind
from tests.redis_server import RedisServer

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def harmed(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be stopped, paused and killed."""
    server = RedisServer(tmp_path, redis_kind())
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def server_that(path: Path, talk: Talk) -> AsyncIterator[str]:
    """A server of a few lines on a unix socket; gives its URL."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            talks.discard(task)

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield f"unix://{path}"
    finally:
        server.close()
        for task in list(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def fails_in_time(client: Redis, slack: float = 0.35) -> Unavailable:
    """The command fails as unavailable within the budget (and what a busy test machine needs on top)."""
    started = time.monotonic()
    with pytest.raises(Unavailable) as failure:
        await client.command("GET", "a")
    assert time.monotonic() - started < client.budget + slack
    return failure.value


async def test_replies_come_as_they_are(redis: Redis) -> None:
    assert await redis.command("SET", "a", 1) == b"OK"
    assert await redis.command("GET", b"a") == b"1"
    assert await redis.command("GET", "none") is None
    assert await redis.command("INCRBY", "a", 41) == 42
    assert await redis.command("MGET", "a", "none") == [b"42", None]


async def test_what_one_turn_asks_leaves_in_one_write(tmp_path: Path) -> None:
    reads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            reads.append(data)
            writer.write(b"+OK\r\n" * data.count(b"PING"))

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url, budget=5)
        await client.command("PING")
        await asyncio.gather(*(client.command("PING") for _ in range(32)))
        await client.close()
    assert [read.count(b"PING") for read in reads] == [1, 32]


async def test_each_caller_gets_its_own_answer(redis: Redis) -> None:
    async def ask(n: int) -> bool:
        return bool(await redis.command("ECHO", f"{n}") == f"{n}".encode())

    assert all(await asyncio.gather(*(ask(n) for n in range(500))))


async def test_a_cancelled_caller_disturbs_nobody(redis: Redis) -> None:
    await redis.command("PING")
    waiting = asyncio.ensure_future(redis.command("ECHO", "first"))
    other = asyncio.ensure_future(redis.command("ECHO", "second"))
    waiting.cancel()
    assert await other == b"second"


async def test_a_refusal_is_told_without_long_digits(redis: Redis) -> None:
    await redis.command("SET", "a", "x")
    with pytest.raises(Refused) as refusal:
        await redis.command("HGET", "a", "b")
    assert refusal.value.code == "WRONGTYPE"
    with pytest.raises(Refused) as refusal:
        await redis.command("NOSUCH", "+84955598761")
    assert "955598761" not in str(refusal.value)


async def test_an_unknown_script_is_sent_with_its_text_once(redis: Redis) -> None:
    script = Script("count", "return redis.call('INCR', KEYS[1]) + ARGV[1]")
    await redis.command("SCRIPT", "FLUSH")
    assert await redis.script(script, ["n"], [10]) == 11
    assert await redis.script(script, ["n"], [10]) == 12
    await redis.command("SCRIPT", "FLUSH")
    assert await asyncio.gather(*(redis.script(script, ["n"], [0]) for _ in range(5))) == [3, 4, 5, 6, 7]
    assert repr(script) == f"<Script count {script.sha[:8]}>"


async def test_an_error_inside_a_script_is_ours(redis: Redis) -> None:
    script = Script("bad", "return redis.call('HGET', KEYS[1], 'a')")
    await redis.command("SET", "k", 1)
    for _ in range(2):
        with pytest.raises(Refused):
            await redis.script(script, ["k"], [])


async def test_the_text_of_a_script_counts_on_the_same_budget(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await asyncio.sleep(0.5)
        writer.write(b"-NOSCRIPT none\r\n")
        await reader.read(65536)
        await asyncio.sleep(60)

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url, budget=0.6)
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await client.script(Script("x", "return 1"), [], [])
        assert time.monotonic() - started < 0.95
        await client.close()


async def test_a_port_nobody_listens_on_fails_at_once(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/none", "redis://127.0.0.1:1/0"):
        client = Redis(url, budget=3)
        started = time.monotonic()
        await fails_in_time(client)
        assert time.monotonic() - started < 1
        await client.close()


async def test_a_server_that_never_answers_costs_one_budget(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url)
        await fails_in_time(client)
        results = await asyncio.gather(*(client.command("PING") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        await client.close()


async def test_a_server_that_never_greets_costs_one_budget(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url + "?db=3")
        await fails_in_time(client)
        await client.close()


async def test_a_connection_that_never_comes_up_costs_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0

    async def never(*words: object, **more: object) -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    client = Redis("redis://127.0.0.1:6379/0", budget=0.05)
    results = await asyncio.gather(*(client.command("PING") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
    assert attempts == 1, "one attempt in flight, whoever asks"
    waiting = asyncio.ensure_future(client.command("PING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(Unavailable):
        await waiting
    assert attempts == 2


async def test_an_answer_in_the_socket_wins_over_a_deadline_missed_by_a_busy_loop(redis: Redis) -> None:
    client = Redis(f"unix://{redis._target.path}", budget=0.05)
    await client.command("PING")
    asked = asyncio.ensure_future(client.command("PING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(0.1)
    assert await asked == b"PONG"
    await client.close()


async def test_what_follows_a_quick_answer_is_watched_too(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await asyncio.sleep(0.1)
        writer.write(b"+OK\r\n")
        await asyncio.sleep(60)

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url, budget=0.15)
        first = asyncio.ensure_future(client.command("PING"))
        await asyncio.sleep(0.08)
        second = asyncio.ensure_future(fails_in_time(client))
        assert await first == b"OK"
        await second
        await client.close()


async def test_a_paused_server_is_unavailable_and_found_again(harmed: RedisServer) -> None:
    client = Redis(harmed.url, budget=0.4)
    await client.command("SET", "a", "before")
    harmed.pause()
    await fails_in_time(client)
    await fails_in_time(client)
    harmed.resume()
    patient = Redis(harmed.url, budget=5)
    assert await patient.command("GET", "a") == b"before"
    assert await client.command("GET", "a") == b"before"
    await patient.close()
    await client.close()


async def test_a_killed_server_is_unavailable_at_once_and_a_new_one_is_found(harmed: RedisServer) -> None:
    client = Redis(harmed.url, budget=2)
    await client.command("PING")
    assert repr(client) == "<Redis up, 0 waiting>"
    harmed.kill()
    started = time.monotonic()
    await fails_in_time(client)
    await fails_in_time(client)
    assert time.monotonic() - started < 0.5
    assert repr(client) == "<Redis down, 0 waiting>"
    harmed.start()
    assert await client.command("PING") == b"PONG"
    await client.close()


async def test_a_command_in_flight_when_the_server_dies_is_not_sent_again(harmed: RedisServer) -> None:
    client = Redis(harmed.url, budget=5)
    await client.command("PING")
    asked = asyncio.ensure_future(client.command("BLPOP", "never", 0))
    await asyncio.sleep(0.05)
    harmed.kill()
    with pytest.raises(Unavailable, match="closed the connection"):
        await asked
    harmed.start()
    assert await client.command("PING") == b"PONG"
    assert b"blocked_clients:0" in harmed.ask("INFO clients")
    await client.close()


@pytest.mark.parametrize(
    "error",
    [
        b"-LOADING Redis is loading the dataset in memory",
        b"-READONLY You can't write against a read only replica.",
        b"-OOM command not allowed when used memory > 'maxmemory'.",
        b"-ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write",
    ],
)
async def test_a_server_that_cannot_serve_now_is_unavailable(tmp_path: Path, error: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(error + b"\r\n")

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url, budget=2)
        with pytest.raises(Unavailable):
            await client.script(Script("x", "return 1"), [], [])
        await client.close()


async def test_what_is_no_redis_is_unavailable(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.sleep(60)

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url, budget=2)
        with pytest.raises(Unavailable):
            await client.command("PING")
        await client.close()


async def test_a_database_of_its_own(redis_url: str) -> None:
    first, second = Redis(redis_url + "?db=0", budget=2), Redis(redis_url + "?db=7", budget=2)
    await first.command("SET", "a", 0)
    await second.command("SET", "a", 7)
    assert await first.command("GET", "a") == b"0"
    assert await second.command("GET", "a") == b"7"
    await first.close()
    await second.close()


async def test_a_database_that_is_not_there_never_means_another(redis_url: str) -> None:
    client = Redis(redis_url + "?db=99", budget=2)
    with pytest.raises(Unavailable, match="greeting"):
        await client.command("SET", "a", 1)
    await client.close()


async def test_a_password_is_sent_and_never_shown(tmp_path: Path) -> None:
    said = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            said.extend(data)
            writer.write(b"+OK\r\n" * data.count(b"*"))

    async with server_that(tmp_path / "s", talk) as url:
        client = Redis(url.replace("unix://", "unix://me:s%40cret@") + "?db=2", budget=2)
        await client.command("PING")
        assert b"s@cret" in said and b"SELECT" in said and said.index(b"AUTH") < said.index(b"PING")
        assert "cret" not in repr(client)
        await client.close()


async def test_over_tcp(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"+PONG\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis(f"redis://127.0.0.1:{port}", budget=2)
    assert await client.command("PING") == b"PONG"
    await client.close()
    server.close()
    await server.wait_closed()


async def test_a_blocking_client_asks_one_thing_at_a_time(redis: Redis) -> None:
    waiting = Redis(f"unix://{redis._target.path}", budget=0.7, blocking=True)

    async def wait() -> object:
        return await waiting.command("XREAD", "BLOCK", 400, "STREAMS", "s", "0")

    started = time.monotonic()
    assert list(await asyncio.gather(wait(), wait())) == [None] * 2
    assert time.monotonic() - started >= 0.79, "each had a budget of its own"
    await waiting.close()


async def test_a_closed_client_says_so(redis_url: str) -> None:
    client = Redis(redis_url)
    asked = asyncio.ensure_future(client.command("PING"))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await asked
    with pytest.raises(Unavailable, match="closed"):
        await client.command("PING")
    await client.close()


async def test_what_a_closed_client_had_not_sent_is_never_sent(redis: Redis) -> None:
    client = Redis(f"unix://{redis._target.path}")
    for connected in (False, True):
        if connected:
            client = Redis(f"unix://{redis._target.path}")
            await client.command("PING")
        asked = client.command("SET", "a", 1)
        await client.close()
        with pytest.raises(Unavailable):
            await asked
    assert await redis.command("GET", "a") is None


async def test_a_connection_that_comes_up_after_the_client_was_closed_is_dropped(redis_url: str) -> None:
    client = Redis(redis_url)
    asked = asyncio.ensure_future(client.command("PING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    link = client._link
    assert link is not None
    await client.close()
    made, _ = await asyncio.get_running_loop().create_unix_connection(lambda: link, client._target.path)
    assert made.is_closing()
    with pytest.raises(RedisError):
        await asked


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://localhost", Target("localhost", 6379, "", (), False)),
        ("redis://h:7000/3", Target("h", 7000, "", (("SELECT", 3),), False)),
        ("rediss://:p%2Fw@h:1/0", Target("h", 1, "", (("AUTH", "p/w"),), True)),
        ("redis://u:p@[::1]:9", Target("::1", 9, "", (("AUTH", "u", "p"),), False)),
        ("unix:///a%20b/c?db=4", Target("", 6379, "/a b/c", (("SELECT", 4),), False)),
    ],
)
def test_a_url_is_read(url: str, target: Target) -> None:
    assert Target.parse(url) == target


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://h", "redis://", "unix://", "redis://h/x", "redis://h/-1", "redis://h:99999", "redis://h?x=1",
     "unix:///a?db=x", "unix:///a?db", "redis://:geheim@h:x/1"],
)  # fmt: skip
def test_a_wrong_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Target.parse(url)
    assert "geheim" not in str(refusal.value)


async def test_a_call_costs_little_beside_a_bare_pipeline(redis: Redis) -> None:
    """32 callers at once: a loose bound that a lost coalescing (a write and a wake-up for each) would break."""

    async def caller() -> None:
        for _ in range(100):
            await redis.command("GET", "a")

    await redis.command("PING")
    started = time.process_time()
    await asyncio.gather(*(caller() for _ in range(32)))
    assert (time.process_time() - started) / 3200 < 100e-6
