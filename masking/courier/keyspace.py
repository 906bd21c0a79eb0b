"""Redis as lines of JSON and back, key by key: no dump of one server's version, so any other server takes it.

A line is ``[type, key, when it expires (ms since 1970) or null, values]``. Bytes that are UTF-8 stand as they are,
others as ``base64:…``. A stream's values begin with its last id, which outlives its entries.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from pools.redis import Redis, Word

PAGE: Final = 1_000  # keys that are read or written at a time
WORDS: Final = 1_000  # of one writing command
_BINARY: Final = "base64:"

_READ: Final[dict[str, tuple[Word, ...]]] = {
    "string": ("GET",),
    "hash": ("HGETALL",),
    "list": ("LRANGE", 0, -1),
    "set": ("SMEMBERS",),
    "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    "stream": ("XRANGE", "-", "+"),
}


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One key; `values` are flat: of a hash field and value, of a sorted set member and score in turn."""

    type: str
    key: str
    expires: int | None
    values: list[Any]


async def lines_of(redis: Redis) -> AsyncIterator[Line]:
    """Every key, once. Somebody who writes meanwhile may be seen or not."""
    seen: set[bytes] = set()
    cursor: bytes | int = 0
    while True:
        cursor, page = await redis.command("SCAN", cursor, "COUNT", PAGE)
        fresh = [key for key in dict.fromkeys(page) if key not in seen]
        seen.update(fresh)
        seconds, micros = await redis.command("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        for line in await asyncio.gather(*(_line(redis, key, now) for key in fresh)):
            if line is not None:
                yield line
        if cursor == b"0":
            return


async def _line(redis: Redis, key: bytes, now: int) -> Line | None:
    kind, left = await asyncio.gather(redis.command("TYPE", key), redis.command("PTTL", key))
    if left == -2:  # it expired since it was listed
        return None
    name = kind.decode()
    command, *rest = _READ[name]
    values = await redis.command(command, key, *rest)
    if name == "stream":
        about = await redis.command("XINFO", "STREAM", key)
        facts = dict(zip(about[::2], about[1::2], strict=True))
        values = [facts[b"last-generated-id"], *(part for at, fields in values for part in (at, fields))]
    elif name == "string":
        values = [values]
    elif name == "set":
        values = sorted(values)
    expires = None if left < 0 else now + left
    return Line(name, _text(key), expires, _texts(values))


async def write(redis: Redis, lines: Sequence[Line], now: int) -> None:
    """Puts the keys there instead of what they hold; those whose time was over at `now` (ms) are left out."""
    wanted = [line for line in lines if line.expires is None or line.expires > now]
    commands = [words for line in wanted for words in _commands(line)]
    await asyncio.gather(*(redis.command(*words) for words in commands))


def _commands(line: Line) -> list[list[Word]]:
    """What writes the key. They are asked, and so done, in this order."""
    key, values = _bytes(line.key), line.values
    commands: list[list[Word]] = [["DEL", key]]
    if line.type == "stream":
        last, entries = values[0], iter(values[1:])
        commands += [["XADD", key, at, *map(_bytes, next(entries))] for at in entries]
        if len(values) == 1:  # all was trimmed away: only what its next id must be above is left
            commands += [["XADD", key, last, "-", "-"], ["XDEL", key, last]]
        commands.append(["XSETID", key, last])
    elif line.type == "zset":
        flat = iter(map(_bytes, values))
        turned = [word for member in flat for word in (next(flat), member)]
        commands += [["ZADD", key, *part] for part in _parts(turned)]
    else:
        command = {"string": "SET", "hash": "HSET", "list": "RPUSH", "set": "SADD"}[line.type]
        commands += [[command, key, *part] for part in _parts(list(map(_bytes, values)))]
    if line.expires is not None:
        commands.append(["PEXPIREAT", key, line.expires])
    return commands


def _parts(words: list[bytes]) -> list[list[bytes]]:
    rest = iter(words)
    return list(iter(lambda: list(islice(rest, WORDS)), []))


def _texts(values: Sequence[Any]) -> list[Any]:
    return [_texts(value) if isinstance(value, list) else _text(value) for value in values]


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return _BINARY + b64encode(raw).decode()
    return text if not text.startswith(_BINARY) else _BINARY + b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return b64decode(text.removeprefix(_BINARY)) if text.startswith(_BINARY) else text.encode()
