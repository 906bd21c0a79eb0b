"""The peers of the benchmark write what the leases write: same keys, same fields, values as long, as many commands."""

from __future__ import annotations

from pools.redis import Redis
from tests.pools.bare import Bare
from tests.pools.load import Load

WRITES = ("hset", "hsetnx", "pexpire", "rpush", "xadd", "zadd")


async def written(redis: Redis, tag: str) -> dict[str, object]:
    """Every key of a shard, and how long each thing in it is."""
    found: dict[str, object] = {}
    for key in sorted(await redis.command("KEYS", "{" + tag + "}*")):
        kind = await redis.command("TYPE", key)
        if kind == b"hash":
            flat = await redis.command("HGETALL", key)
            value: object = {name: len(text) for name, text in zip(flat[::2], flat[1::2], strict=True)}
        elif kind == b"list":
            value = [len(row) for row in await redis.command("LRANGE", key, 0, -1)]
        elif kind == b"stream":
            value = [[len(word) for word in row] for _, row in await redis.command("XRANGE", key, "-", "+")]
        else:
            value = await redis.command("ZCARD", key)
        found[key.decode().partition("}")[2].replace(tag, "")] = value
    return found


async def calls(redis: Redis) -> dict[str, int]:
    """How often each writing command has run since the last look."""
    told = (await redis.command("INFO", "commandstats")).decode()
    await redis.command("CONFIG", "RESETSTAT")
    counts = {name: told.partition(f"cmdstat_{name}:calls=")[2].partition(",")[0] for name in WRITES}
    return {name: int(count or 0) for name, count in counts.items()}


async def test_the_bare_scripts_write_the_same(redis: Redis) -> None:
    load, bare = Load(redis), Bare(redis)
    await load.open()
    members = {"m", "v", "h"}
    before = await written(redis, load.shard)
    assert set(before) == members
    await calls(redis)
    await load.bind(0)
    await load.route(0)
    ours = await calls(redis)
    await bare.bind(0)
    await bare.route(0)
    assert ours == await calls(redis)
    assert ours == {"hset": 5, "hsetnx": 1, "pexpire": 2, "rpush": 2, "xadd": 3, "zadd": 1}
    mine, theirs = await written(redis, load.shard), await written(redis, Bare.SHARD)
    assert mine.pop("h").keys() - before["h"].keys() == theirs.pop("h").keys()  # type: ignore[attr-defined]
    assert {name: mine[name] for name in mine.keys() - members} == theirs
