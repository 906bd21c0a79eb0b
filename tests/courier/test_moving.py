"""The file an installation leaves as: every part is what it was, or it is refused; and Redis by lines, and back."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive
from masking.courier import keyspace, schema, tables
from masking.courier.parcel import NoParcel, Packing, Parcel
from pools.redis import Redis


@pytest.fixture
def parcel(tmp_path: Path) -> Path:
    """A small one: two lines, and one file."""
    packing = Packing(tmp_path / "all.zip")
    with packing.lines("redis.jsonl") as written:
        written.add(["string", "a", None, ["1"]])
        written.add(["string", "b", None, ["2"]])
    with packing.file("recordings/one.wav") as written:
        written.raw(b"RIFF")
        written.raw(bytes(range(256)))
    packing.close(made_at=1.0, keys="ff", revision="0001", recordings=True)
    return tmp_path / "all.zip"


def checked(path: Path) -> list[str]:
    parcel = Parcel(path)
    try:
        return list(parcel.check())
    finally:
        parcel.close()


def test_a_parcel_is_read_as_it_was_packed_and_by_its_owner_alone(parcel: Path) -> None:
    assert checked(parcel) == ["redis.jsonl", "recordings/one.wav"]
    assert parcel.stat().st_mode & 0o777 == 0o600
    read = Parcel(parcel)
    assert [line[:20] for line in read.lines("redis.jsonl")] == [b'["string","a",null,[', b'["string","b",null,[']
    assert (read.manifest.members["redis.jsonl"].lines, read.under("recordings/")) == (2, ["recordings/one.wav"])
    assert b"".join(read.chunks("recordings/one.wav")) == b"RIFF" + bytes(range(256))
    read.close()


@pytest.mark.parametrize("how", ["cut", "altered", "missing", "more", "no zip"])
def test_a_parcel_that_is_not_what_was_packed_is_refused(parcel: Path, tmp_path: Path, how: str) -> None:
    other = tmp_path / "other.zip"
    if how == "cut":
        other.write_bytes(parcel.read_bytes()[:-40])
    elif how == "no zip":
        other.write_bytes(b"PK no zip")
    else:
        with zipfile.ZipFile(parcel) as whole, zipfile.ZipFile(other, "w") as copy:
            for name in whole.namelist():
                text = whole.read(name)
                if name == "redis.jsonl" and how == "altered":
                    text = text.replace(b'"1"', b'"3"')
                if name != "recordings/one.wav" or how != "missing":
                    copy.writestr(name, text)
            if how == "more":
                copy.writestr("recordings/two.wav", b"RIFF")
    with pytest.raises(NoParcel):
        checked(other)


def test_what_is_packed_in_vain_leaves_nothing(tmp_path: Path) -> None:
    packing = Packing(tmp_path / "all.zip")
    with pytest.raises(OSError), packing.lines("redis.jsonl") as written:
        written.add([1])
        raise OSError("disk full")
    packing.forget()
    assert list(tmp_path.iterdir()) == []


async def test_redis_is_the_same_after_it_went_by_lines(redis: Redis) -> None:
    say = redis.command
    await say("SET", "text", "xin chào")
    await say("SET", b"\xff\x00binary", bytes(range(256)), "PX", 3_600_000)
    await say("SET", "base64:as it stands", "base64:too")
    await say("HSET", "hash", "a", "1", b"\xfe", b"\x80")
    await say("RPUSH", "list", *(f"{n}" for n in range(2500)))
    await say("SADD", "set", "b", "a")
    await say("ZADD", "zset", 1.5, "one", 1_800_000_000_000, "two", "+inf", "three")
    await say("XADD", "stream", "5-1", "f", "v", "g", b"\xff")
    await say("XADD", "stream", "7-0", "f", "w")
    await say("XADD", "trimmed", "9-3", "f", "v")
    await say("XTRIM", "trimmed", "MAXLEN", 0)
    before = await everything(redis)
    lines = [line async for line in keyspace.lines_of(redis)]
    assert len(lines) == len(before) == 9
    (seconds, _) = await say("TIME")
    await say("FLUSHALL")
    await say("SET", "text", "something else")
    await keyspace.write(redis, lines, int(seconds) * 1000)
    assert await everything(redis) == before
    assert 3_500_000 < await say("PTTL", b"\xff\x00binary") <= 3_600_000
    for stream, last in (("stream", (7, 0)), ("trimmed", (9, 3))):
        with pytest.raises(Exception, match="equal or smaller"):
            await say("XADD", stream, f"{last[0]}-{last[1]}", "f", "v")
    late = [line for line in lines if line.expires is not None]
    await say("DEL", b"\xff\x00binary")
    await keyspace.write(redis, late, int(seconds) * 1000 + 4_000_000)
    assert await say("EXISTS", b"\xff\x00binary") == 0, "its time is over"


async def everything(redis: Redis) -> dict[bytes, Any]:
    found = {}
    for key in await redis.command("KEYS", "*"):
        kind = (await redis.command("TYPE", key)).decode()
        command, *rest = keyspace._READ[kind]
        value = await redis.command(command, key, *rest)
        found[key] = sorted(value) if kind == "set" else value
    return found


@pytest.fixture
def older(tmp_path: Path) -> AsyncEngine:
    """An archive elsewhere, without tables."""
    return archive.engine(f"sqlite+aiosqlite:///{tmp_path / 'older.sqlite3'}")


async def test_an_older_archive_arrives_and_is_brought_up_to_date(
    engine: AsyncEngine, older: AsyncEngine, revisions: ScriptDirectory
) -> None:
    await schema.upgrade(older, revisions, "0003")
    events = [
        {"id": f"evt_{n}", "tenant": "acme", "session": "ses_1", "seq": n, "type": "call.ended", "occurred_at": n / 3}
        | {"body": "{}"}
        for n in range(1, 1200)
    ]
    async with older.begin() as connection:
        await connection.execute(archive.events.insert(), events)
    lines: dict[str, list[bytes]] = {}
    async with older.connect() as connection:
        assert await tables.revision(connection) == "0003"
        for table in await tables.described(connection):
            rows = [msgspec.json.encode(row) async for row in tables.rows(connection, table)]
            assert len(rows) == 1 + await tables.count(connection, table)
            lines[table.name] = rows
    await older.dispose()
    assert len(lines["events"]) == 1200 and tables.REVISION not in lines

    async with engine.connect() as connection:
        assert await tables.revision(connection) is None
    await schema.upgrade(engine, revisions, "0003")
    async with engine.begin() as connection:
        written = 0
        for table in await tables.described(connection):
            async for some in tables.fill(connection, table, lines[table.name]):
                written += some
        assert written == 1199
    await schema.upgrade(engine, revisions)
    async with engine.begin() as connection:
        later = {"id": "evt_later", "tenant": "acme", "session": None, "seq": 1, "type": "webhook.test"}
        await connection.execute(archive.events.insert(), [later | {"occurred_at": 1.0, "body": "{}"}])
        found = (await connection.execute(sql.select(archive.events).order_by(archive.events.c.position))).all()
    await engine.dispose()
    assert [(row.position, row.id, row.occurred_at) for row in found[:-1]] == [
        (n, f"evt_{n}", n / 3) for n in range(1, 1200)
    ]
    assert (found[-1].position, found[-1].id) == (1200, "evt_later"), "counted on behind what was brought along"
