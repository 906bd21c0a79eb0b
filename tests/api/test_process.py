"""The API as a process: it says when it is ready, shares a socket, drains, and fails closed and fast without Redis."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from masking.house import House
from tests.api.client import problem
from tests.api.conftest import CUSTOMER, DRIVER
from tests.redis_server import RedisServer

KEY = "a-key-for-the-tests-of-the-process"
AUTH = {"Authorization": f"Bearer {KEY}"}
CONFIG = """
[service]
data_dir = "{data_dir}"
bootstrap_key = "{key}"
[redis]
url = "{redis}"
[http]
listen = "127.0.0.1:0"
[[trunk]]
name = "carrier-vn"
uri = "sip:127.0.0.1:5070"
sources = ["127.0.0.1"]
country = "VN"
"""
ORDER = {"unique_name": "order-1", "participants": [{"identifier": CUSTOMER}, {"identifier": DRIVER}]}


def config_file(tmp_path: Path, redis: str) -> Path:
    path = tmp_path / "masking.toml"
    path.write_text(CONFIG.format(data_dir=tmp_path, key=KEY, redis=redis))
    return path


@asynccontextmanager
async def serving(
    config: Path, *words: str, fds: tuple[int, ...] = ()
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """An API process and its address; killed at the end if it still lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "masking.api",
        "--config",
        str(config),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=fds,
        env={name: value for name, value in os.environ.items() if not name.startswith("MASKING_")},
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line, (await process.communicate())[1].decode()
        ready = json.loads(line)
        assert ready["event"] == "ready"
        yield process, ready["http"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> str:
    """The log of a process that ends by itself, and well."""
    async with asyncio.timeout(20):
        _, log = await process.communicate()
    assert process.returncode == 0, log.decode()
    return log.decode()


@pytest.mark.service
async def test_a_worker_serves_and_ends_on_sigterm(tmp_path: Path, house: House, redis_url: str) -> None:
    async with serving(config_file(tmp_path, redis_url)) as (process, address):
        async with httpx2.AsyncClient(base_url=address, headers=AUTH) as http:
            assert (await http.get("/readyz")).json()["status"] == "ready"
            numbers = {"phone_numbers": [{"phone_number": "+842471000001"}]}
            assert (await http.post("/v1/services/default/phone_numbers", json=numbers)).status_code == 201
            assert (await http.post("/v1/sessions", json=ORDER)).status_code == 201
            head = await http.head("/v1/sessions")
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) > 0
            assert "server" not in head.headers
            assert "masking_http_requests_total" in (await http.get("/metrics")).text
        process.send_signal(signal.SIGTERM)
        log = await ended(process)
    assert CUSTOMER[3:] not in log and DRIVER[3:] not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"/v1/sessions", "/readyz"} <= {line.get("route") for line in lines}


@pytest.mark.service
async def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path, house: House, redis_url: str) -> None:
    async with serving(config_file(tmp_path, redis_url)) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"unique_name":"drained"}'
        lines = [
            "POST /v1/services HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {KEY}",
            f"Content-Length: {len(body)}",
        ]
        head = "\r\n".join([*lines, "", ""])
        writer.write(head.encode() + body[:5])
        await writer.drain()
        async with httpx2.AsyncClient(base_url=address) as http:
            assert (await http.get("/healthz")).status_code == 200  # so the half request has been read, too
        process.send_signal(signal.SIGTERM)
        await _refused(host, int(port))
        writer.write(body[5:])
        assert b" 201 " in await reader.readline()
        writer.close()
        await ended(process)


async def _refused(host: str, port: int) -> None:
    """Returns when no new connection is taken any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.01)


@pytest.mark.service
async def test_workers_share_one_socket(tmp_path: Path, house: House, redis_url: str) -> None:
    config = config_file(tmp_path, redis_url)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        fd = listening.fileno()
        async with (
            serving(config, "--fd", str(fd), fds=(fd,)) as (first, address),
            serving(config, "--fd", str(fd), fds=(fd,)) as (second, same),
        ):
            assert address == same
            first.send_signal(signal.SIGTERM)
            await ended(first)
            async with httpx2.AsyncClient(base_url=address) as http:
                assert (await http.get("/healthz")).status_code == 200
            second.send_signal(signal.SIGTERM)
            await ended(second)


@pytest.mark.service
async def test_a_start_that_cannot_be_says_why(tmp_path: Path, redis_url: str) -> None:
    config = tmp_path / "masking.toml"
    config.write_text("[http]\nlisen = '127.0.0.1:0'\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "masking.api", "--config", str(config), stderr=asyncio.subprocess.PIPE
    )
    _, log = await process.communicate()
    assert process.returncode == 1
    assert b"listen" in log and b"Traceback" not in log


@pytest.mark.service
async def test_without_redis_it_fails_closed_within_a_second_and_comes_back(tmp_path: Path, house: House) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    redis = RedisServer(folder, "embedded", durable=True)
    await asyncio.to_thread(redis.start)
    try:
        async with (
            serving(config_file(tmp_path, redis.url)) as (_, address),
            httpx2.AsyncClient(base_url=address, headers=AUTH) as http,
        ):
            numbers = {"phone_numbers": [{"phone_number": "+842471000001"}]}
            assert (await http.post("/v1/services/default/phone_numbers", json=numbers)).status_code == 201
            await asyncio.to_thread(redis.kill)
            for headers in ({}, {"Idempotency-Key": "k"}):
                began = time.monotonic()
                answer = await http.post("/v1/sessions", json=ORDER, headers=headers)
                assert time.monotonic() - began < 1
                problem(answer, 503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200
            await asyncio.to_thread(redis.start)
            async with asyncio.timeout(10):
                while (await http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.02)
            assert (await http.get("/v1/sessions")).json()["data"] == []
            assert (await http.post("/v1/sessions", json=ORDER, headers={"Idempotency-Key": "k"})).status_code == 201
    finally:
        await asyncio.to_thread(redis.stop)


@pytest.mark.service
async def test_a_redis_that_stands_still_is_gone_too(tmp_path: Path, house: House) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    redis = RedisServer(folder)
    await asyncio.to_thread(redis.start)
    try:
        async with (
            serving(config_file(tmp_path, redis.url)) as (_, address),
            httpx2.AsyncClient(base_url=address, headers=AUTH) as http,
        ):
            assert (await http.get("/readyz")).status_code == 200
            redis.pause()
            began = time.monotonic()
            answers = await asyncio.gather(*(http.post("/v1/sessions", json=ORDER) for _ in range(20)))
            assert time.monotonic() - began < 1
            for answer in answers:
                problem(answer, 503, "unavailable")
    finally:
        await asyncio.to_thread(redis.stop)


@pytest.mark.service
async def test_any_worker_tells_what_all_have_counted(tmp_path: Path, house: House, redis_url: str) -> None:
    config = config_file(tmp_path, redis_url)
    async with serving(config) as (_, one), serving(config) as (killed, other):
        async with httpx2.AsyncClient() as http:
            for address in (one, one, other):
                assert (await http.get(f"{address}/healthz")).status_code == 200
            counted = 'masking_http_requests_total{method="GET",route="/healthz",status="200"}'
            for address in (one, other):
                page = (await http.get(f"{address}/metrics")).text
                assert f"{counted} 3.0" in page
                assert page.count("# TYPE masking_http_requests_total counter") == 1
                assert 'masking_http_request_seconds_count{method="GET",route="/healthz"} 3.0' in page
            killed.kill()
            await killed.wait()
            assert f"{counted} 2.0" in (await http.get(f"{one}/metrics")).text
            async with serving(config):
                assert len(list(tmp_path.rglob("api-*.metrics.sock"))) == 2, "the dead worker's is gone"
