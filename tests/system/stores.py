"""What the stores of a run hold, as (where, bytes) for the leak scanner: Redis by its own commands, SQLite as SQL."""

from __future__ import annotations

import atexit
import os
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis

from tests import postgres
from tests.redis_server import RedisServer

READ_BY_TYPE = {
    "string": ("GET", ()),
    "hash": ("HGETALL", ()),
    "list": ("LRANGE", ("0", "-1")),
    "set": ("SMEMBERS", ()),
    "zset": ("ZRANGE", ("0", "-1", "WITHSCORES")),
    "stream": ("XRANGE", ("-", "+")),
}


class PlainRedis:
    """A blocking Redis client of a few lines; the judge shares no client with what it judges."""

    def __init__(self, url: str) -> None:
        """`url`: redis://host:port or unix:///path."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(parts.path)
        else:
            self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
        self._socket.settimeout(10)
        self._reader = hiredis.Reader()

    def __enter__(self) -> PlainRedis:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, *words: Any) -> Any:
        """One command, its reply; an error reply raises."""
        self._socket.sendall(hiredis.pack_command(tuple(words)))
        while (reply := self._reader.gets()) is False:
            if not (data := self._socket.recv(65536)):
                raise ConnectionError("Redis closed the connection")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def keys(self) -> Iterator[bytes]:
        cursor = b"0"
        while True:
            cursor, found = self.call("SCAN", cursor, "COUNT", "1000")
            yield from found
            if cursor == b"0":
                return


def redis_texts(url: str) -> Iterator[tuple[str, bytes]]:
    """Every key and value, the slow log and the last error of scripts."""
    with PlainRedis(url) as redis:
        for key in set(redis.keys()):
            if (kind := redis.call("TYPE", key).decode()) == "none":
                continue  # it expired since it was listed
            command, tail = READ_BY_TYPE[kind]
            yield "redis key", key
            for part in flat(redis.call(command, key, *tail)):
                yield f"redis {command} {key[:24]!r}", part
        for part in flat(redis.call("SLOWLOG", "GET", "1000")):
            yield "redis slow log", part
        yield "redis INFO", redis.call("INFO", "everything")


def flat(reply: Any) -> Iterator[bytes]:
    if isinstance(reply, list):
        for part in reply:
            yield from flat(part)
    elif isinstance(reply, bytes):
        yield reply
    elif reply is not None:
        yield str(reply).encode()


def postgres_texts(url: str) -> Iterator[tuple[str, bytes]]:
    """The archive as SQL, read by PostgreSQL's own tool. `url` as `own_archive` gives it."""
    name, _, folder = url.partition("masking@/")[2].partition("?host=")
    binaries = postgres.programs()
    assert binaries is not None
    command = [str(binaries / "pg_dump"), "-h", folder, "-U", "masking", "--inserts", name]
    yield "archive", subprocess.run(command, check=True, capture_output=True).stdout


def own_redis(folder: Path) -> RedisServer | None:
    """With MASKING_TEST_REDIS=system a redis-server of the service's own, kept on disk; else it embeds its Valkey."""
    if os.environ.get("MASKING_TEST_REDIS", "embedded") == "embedded":
        return None
    (folder / "redis").mkdir(exist_ok=True)
    return RedisServer(folder / "redis", "system", durable=True)


def own_archive() -> str:
    """With MASKING_TEST_ARCHIVE=postgresql the URL of an empty database; else empty: SQLite in the data folder."""
    if os.environ.get("MASKING_TEST_ARCHIVE", "sqlite") == "sqlite":
        return ""
    return postgres_server().database()


@cache
def postgres_server() -> postgres.PostgresServer:
    """One cluster for the whole run."""
    binaries = postgres.programs()
    assert binaries is not None, "PostgreSQL is not installed; scripts/peers installs it"
    server = postgres.PostgresServer(binaries)
    server.start()
    atexit.register(server.stop)
    return server


def sqlite_texts(path: Path) -> Iterator[tuple[str, bytes]]:
    """The archive as SQL, read without writing to it; its files' bytes are scanned as files."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as archive:
        for line in archive.iterdump():
            yield f"archive {path.name}", line.encode()
