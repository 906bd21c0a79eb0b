from pools.grants import Ask, Entry, holder_id, Exhausted
from pools.inventory import Inventory, Item
from pools.journal import pairs
from pools.keyring import Keyring
from pools.leases import Leases
from pools.numbers import Number
from pools.redis import Redis, Script
import os


async def test_it(redis: Redis, keyring) -> None:
    ring = keyring
    await ring.guard(redis)
    inv = Inventory(redis, ring)
    nums = await inv.add("t", "default", [Item(f"+8424000000{i:02}", "VN") for i in range(3)])
    sh = (await inv.shards("t", "default", "VN"))[0].name
    leases = Leases(redis)
    a, b = ring.index(Number.parse("+84901234567")), ring.index(Number.parse("+84901234568"))
    for i in range(4):
        h = holder_id(sh, os.urandom(17))
        ask = Ask((Entry(a, "par_a|par_b"), Entry(b, "par_b|par_a")))
        try:
            bound = await leases.bind(sh, h, [ask], ttl_ms=60000, quarantine_ms=1000, fields={"record": b"{}", "max_calls": 1}, events=[("session.opened", None, b'{"n":"$x0"}')])
            print(bound)
            bound = await leases.bind(sh, h, [ask], ttl_ms=60000, quarantine_ms=1000, fields={"record": b"{}"}, events=[("session.opened", None, b'{"n":"$x0"}')])
            print(bound)
        except Exhausted as e:
            print(e, e.needed, e.retry_after)
            continue
        n = await inv.find(bound.numbers[0])
        print(n)
        r = await leases.route(n, a, "call1" + h, "w1", b"{}", ("call.initiated", None, b'{"from":"$from","to":"$to"}'), ("call.refused", None, b'{"from":"$from","to":"$to","d":"$decision"}'))
        print(r)
        r = await leases.route(n, a, "call2" + h, "w1", b"{}", ("call.initiated", None, b'{"from":"$from","to":"$to"}'), ("call.refused", None, b'{"from":"$from","to":"$to","d":"$decision"}'))
        print(r)
        print(await leases.append(h, [("call.ended", 5, b"{}")], end_call="call1" + h))
        print(await leases.append(h, [("call.ended", 5, b"{}")], end_call="call1" + h))
        print(await leases.extend(h, ttl_ms=100000))
        print(await leases.read(h))
        print(await leases.journal(h))
        if i == 1:
            print(await leases.release(h, reason="api", events=[("session.closed", None, b"{}")]))
            print(await leases.release(h, reason="api", events=[("session.closed", None, b"{}")]))
            r = await leases.route(n, a, "call3" + h, "w1", b"{}", ("call.initiated", None, b'{"from":"$from","to":"$to"}'), ("call.refused", None, b'{"from":"$from","to":"$to","d":"$decision"}'))
            print(r)
    out = await leases.outbox(sh)
    print(len(out), out[-1], await leases.trim(sh, out[-2].id), len(await leases.outbox(sh)))
    print(await leases.live_calls(sh), await inv.figures("t", "default", 0), await inv.list("t", "default"))
    for k in await redis.command("KEYS", "*"):
        t = await redis.command("TYPE", k)
        print(k, t, await redis.command("HGETALL", k) if t == b"hash" else "", await redis.command("OBJECT", "ENCODING", k), await redis.command("MEMORY", "USAGE", k))
    await leases.due(sh, 10**14)
