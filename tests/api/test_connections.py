"""What a connection bears: heads have a size and a time, and what is no HTTP gets a problem."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn

from masking.api import connections
from masking.api.app import App
from masking.api.connections import HEAD_LIMIT, Connection
from masking.api.desk import Desk
from masking.house import House
from tests.api.conftest import key_of


@pytest.fixture
async def port(desk: Desk) -> AsyncIterator[int]:
    """The app behind real sockets, in this process."""
    config = uvicorn.Config(
        App(desk), host="127.0.0.1", port=0, http=Connection, ws="none", lifespan="off", log_config=None
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


async def exchange(port: int, *pieces: bytes) -> bytes:
    """What comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_usual_request_is_answered(port: int) -> None:
    answer = await exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_request_byte_by_byte_is_answered(port: int) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(port, *(request[index : index + 1] for index in range(len(request))))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_one_connection_carries_many_requests_and_large_bodies(port: int) -> None:
    body = b" " * 600_000
    large = b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(port, large, large, last)
    assert answer.count(b"HTTP/1.1 401 ") == 2
    assert answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (HEAD_LIMIT + 1000),
        b"GET /healthz HTTP/1.1\r\n" + b"X-Many: a\r\n" * (HEAD_LIMIT // 10),
        b"GET /" + b"a" * (HEAD_LIMIT + 1000),
    ],
    ids=["one long header", "many headers", "a long path"],
)
async def test_a_head_without_an_end_is_cut_off(port: int, head: bytes) -> None:
    answer = await exchange(port, *(head[index : index + 8192] for index in range(0, len(head), 8192)))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "junk", [b"\x00\x01\x02\r\n\r\n", b"INVITE sip:x SIP/2.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n"]
)
async def test_what_is_no_http_gets_a_problem_and_the_end(port: int, junk: bytes) -> None:
    head, _, body = (await exchange(port, junk)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "malformed_request"


async def test_who_says_nothing_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_PATIENCE", 0.05)
    for pieces in ((), (b"GET /healthz HTTP/1.1\r\nHost",), (b"\r\n\r\n",)):
        async with asyncio.timeout(5):
            assert await exchange(port, *pieces) == b""


async def test_patience_is_for_heads_alone(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow body has its own time; the head's has ended with the head."""
    monkeypatch.setattr(connections, "HEAD_PATIENCE", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    await asyncio.sleep(0.1)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"HTTP/1.1 200 " in await reader.read()
    writer.close()


async def test_a_body_that_does_not_come_is_given_up(port: int, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masking.api.bodies.BODY_PATIENCE", 0.05)
    lines = ["POST /v1/services HTTP/1.1", "Host: x", f"Authorization: Bearer {await key_of(house, 'acme')}"]
    head = "\r\n".join([*lines, "Content-Length: 10", "", "{"]).encode()
    async with asyncio.timeout(5):
        answer = await exchange(port, head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in answer
