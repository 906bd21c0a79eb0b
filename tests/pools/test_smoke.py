from pools.redis import Redis, Script


async def test_it(redis: Redis) -> None:
    assert await redis.command("SET", "a", 1) == b"OK"
    assert await redis.command("GET", "a") == b"1"
    assert await redis.script(Script("x", "return {KEYS[1], ARGV[1]}"), ["k"], ["v"]) == [b"k", b"v"]
    assert await redis.script(Script("x", "return {KEYS[1], ARGV[1]}"), ["k"], ["v"]) == [b"k", b"v"]
