"""What a masked call costs the edge's own code, and what it holds: `python -m tests.edge.bench`.

A real edge takes real calls, but its socket, its Redis and its relay are stubs in the same process, so that neither the
kernel nor a neighbour is measured: CPU time of this process, less what the stubs and the phones took of it. Prints rows
of `bench.json` as one JSON list.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import gc
import json
import logging
import os
import pstats
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import hiredis
import uvloop

from loadtests.goals import alone
from loadtests.measure import PAGE, Row
from masking import opening, routes, services
from masking.access import SCOPES, Access
from masking.config import Config, Listener, RedisSection, ServiceSection, TrunkSection
from masking.house import House, open_house
from masking.logs import configure
from masking.sessions import NewParticipant, NewSession
from pools.inventory import Item
from pools.numbers import Number
from pools.redis import Redis
from pools.scripts import SHARD
from sipedge.edge import Edge
from sipedge.media import plane, wire
from tests.redis_server import RedisServer

EDGE, CALLER, CALLEE = ("127.0.0.1", 5060), ("127.0.0.2", 5070), ("127.0.0.3", 5080)
PAIRS, WAVE, WAVES, CROWD = 200, 50, 16, 20_000
GATHERED: Final = 0.06  # seconds in which an edge has told what it knows
ACCESS = Access("default", "key_bench", frozenset(SCOPES))
SDP = (
    "v=0\r\no=carrier 53655765 2353687637 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 8 0 101\r\n"
    "a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
    "a=ptime:20\r\na=sendrecv\r\n"
)


class Outside:
    """Everything beyond the edge. `seconds`: the CPU time it took itself, which is not the edge's."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            began = time.process_time()
            try:
                return work(*given)
            finally:
                self.seconds += time.process_time() - began

        return run


class Socket:
    """The edge's datagram socket: `deliver` puts one in, what leaves goes to `sent`."""

    def __init__(self) -> None:
        self._held: deque[tuple[bytes, tuple[str, int]]] = deque()
        self.sent: list[bytes] = []

    def deliver(self, data: bytes, source: tuple[str, int]) -> None:
        self._held.append((data, source))

    def recvmsg(self, _size: int, _room: int) -> tuple[bytes, list[Any], int, tuple[str, int]]:
        data, source = self.recvfrom(0)
        return data, [], 0, source

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[str, int]]:
        if not self._held:
            raise BlockingIOError
        return self._held.popleft()

    def sendto(self, data: bytes, _target: tuple[str, int]) -> int:
        self.sent.append(data)
        return len(data)


NOTHING_HELD = (b"EXISTS", b"HLEN")  # no tenant of the bench has blocks; nor, by HGET, a service that asks an app


class CannedRedis:
    """In the place of a connection: a claim is answered as the real Redis answered it once, all else as taken."""

    def __init__(self, redis: Redis, outside: Outside) -> None:
        self._redis = redis
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self.routes: dict[tuple[bytes, ...], Any] = {}
        self.write = outside.timed(self._write)

    def learn(self, words: tuple[Any, ...], reply: Any) -> None:
        self.routes[self._asked([word if isinstance(word, bytes) else str(word).encode() for word in words])] = reply

    @staticmethod
    def _asked(words: list[bytes]) -> tuple[bytes, ...]:
        return tuple(words[3:6])  # the shard, the position, the caller

    def _write(self, data: bytes) -> None:
        self._reader.feed(data)
        while (words := self._reader.gets()) is not False:
            reply: Any = 0 if words[0] in NOTHING_HELD else None if words[0] == b"HGET" else b"PONG"
            if words[0] == b"EVALSHA":
                claims = words[1].decode() == SHARD.route.sha
                reply = self.routes[self._asked(words)] if claims else [b"appended", 5, 1]
            self._loop.call_soon(self._redis._answer, reply)

    def drop(self) -> None:
        """Nothing to close."""


class CannedRelay:
    """In the place of the relay: ports for everybody."""

    def __init__(self, take: Callable[[bytes], None], outside: Outside) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._frames = wire.Frames()
        self.transport = self
        self.write = outside.timed(self._write)

    def is_closing(self) -> bool:
        return False

    def _write(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            request = wire.decode_request(body)
            result: plane.Result = plane.Done()
            if isinstance(request.command, plane.Open):
                result = plane.Ports("127.0.0.1", (20_000, 20_002))
            elif isinstance(request.command, plane.Close):
                result = plane.Closed(request.command.call, ())
            self._loop.call_soon(self._take, wire.encode(plane.Reply(request.id, result))[4:])


def value(message: str, name: str) -> str:
    at = message.index(f"\r\n{name}: ") + len(name) + 4
    return message[at : message.index("\r\n", at)]


class Talk:
    """One call as both phones have it."""

    def __init__(self, number: int, caller: str, dialled: str) -> None:
        self.number = number
        self.caller = caller
        self.dialled = dialled
        self.call_id = f"{number}-{number * 7919 % 99991}@{CALLER[0]}"
        self.invite = ""  # of the second leg
        self.answer = ""  # of the first

    def request(self, method: str, seq: int, target: str, more: str = "", body: str = "", to: str = "") -> bytes:
        return (
            f"{method} {target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {CALLER[0]}:{CALLER[1]};branch=z9hG4bK-{self.number}-{method};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{self.caller}@{CALLER[0]}:{CALLER[1]}>;tag=7c{self.number}\r\n"
            f"To: {to or f'<sip:{self.dialled}@{EDGE[0]}:{EDGE[1]}>'}\r\nCall-ID: {self.call_id}\r\n"
            f"CSeq: {seq} {method}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def invited(self) -> bytes:
        more = (
            f"Contact: <sip:{self.caller}@{CALLER[0]}:{CALLER[1]};transport=udp>\r\n"
            "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO\r\nSupported: 100rel, timer, replaces\r\n"
            f"User-Agent: carrier\r\nP-Asserted-Identity: <sip:{self.caller}@carrier.example>\r\nPrivacy: none\r\n"
            f"Session-Expires: 1800\r\nMin-SE: 90\r\nP-Charging-Vector: icid-value=ab{self.number};"
            "icid-generated-at=127.0.0.1\r\nAccept: application/sdp\r\nContent-Type: application/sdp\r\n"
        )
        body = SDP.format(CALLER[0], 30_000 + self.number % 1_000 * 2)
        return self.request("INVITE", 1, f"sip:{self.dialled}@{EDGE[0]}:{EDGE[1]}", more, body)

    def within(self, method: str, seq: int) -> bytes:
        """A request of the caller inside its call."""
        contact = value(self.answer, "Contact")
        return self.request(method, seq, contact[1 : contact.index(">")], to=value(self.answer, "To"))

    def answered(self, request: str, status: str, body: str = "") -> bytes:
        """A response of the callee."""
        to = value(request, "To")
        tag = "" if "tag=" in to else f";tag=9s{self.number}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"SIP/2.0 {status}\r\nVia: {value(request, 'Via')}\r\nFrom: {value(request, 'From')}\r\nTo: {to}{tag}\r\n"
            f"Call-ID: {value(request, 'Call-ID')}\r\nCSeq: {value(request, 'CSeq')}\r\n"
            f"Contact: <sip:{CALLEE[0]}:{CALLEE[1]};transport=UDP>\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


class Bench:
    """An edge between two phones of our own."""

    def __init__(self, edge: Edge, pairs: list[tuple[str, str]], outside: Outside) -> None:
        self.edge = edge
        self.outside = outside
        self.socket = Socket()
        self._pairs = pairs
        self._count = 0
        self._turns = 0
        self._turn = 0.0  # seconds that a turn of the loop costs by itself
        the_wire = edge.driver.wire
        the_wire._udp[EDGE] = self.socket  # type: ignore[assignment]
        the_wire.listeners.append(Listener("udp", *EDGE))
        edge.plane._link = CannedRelay(edge.plane._take, outside)  # type: ignore[assignment]

    async def deliver(self, data: bytes, source: tuple[str, int], wanted: str = "") -> str:
        """One datagram by itself, as they come at rated load; what the edge says with `wanted` in its first line."""
        self.socket.deliver(data, source)
        self.edge.driver.wire._drain(self.socket, EDGE)  # type: ignore[arg-type]
        for _ in range(16):
            await asyncio.sleep(0)
            self._turns += 1
            for sent in self.socket.sent:
                if wanted and wanted.encode() in sent.partition(b"\r\n")[0]:
                    self.socket.sent.clear()
                    return sent.decode()
        assert not wanted, [one[:60] for one in self.socket.sent]
        self.socket.sent.clear()
        return ""

    async def begin(self) -> Talk:
        """A call that is up."""
        self._count += 1
        began = time.process_time()
        talk = Talk(self._count, *self._pairs[self._count % len(self._pairs)])
        invite = talk.invited()
        self.outside.seconds += time.process_time() - began
        talk.invite = await self.deliver(invite, CALLER, "INVITE")
        began = time.process_time()
        replies = [talk.answered(talk.invite, status) for status in ("100 Trying", "180 Ringing")]
        answer = talk.answered(talk.invite, "200 OK", SDP.format(CALLEE[0], 40_000))
        self.outside.seconds += time.process_time() - began
        await self.deliver(replies[0], CALLEE)
        await self.deliver(replies[1], CALLEE, "180")
        talk.answer = await self.deliver(answer, CALLEE, "200")
        await self.deliver(talk.within("ACK", 1), CALLER)
        return talk

    async def end(self, talk: Talk) -> None:
        bye = await self.deliver(talk.within("BYE", 2), CALLER, "BYE")
        await self.deliver(talk.answered(bye, "200 OK"), CALLEE)

    async def wave(self, calls: int) -> float:
        """Seconds of the edge's CPU for so many calls that stand together for a moment."""
        if not self._turn:
            began = time.process_time()
            for _ in range(20_000):
                await asyncio.sleep(0)
            self._turn = (time.process_time() - began) / 20_000
        began, before, turns = time.process_time(), self.outside.seconds, self._turns
        talks = [await self.begin() for _ in range(calls)]
        await asyncio.sleep(GATHERED)
        for talk in talks:
            await self.end(talk)
        async with asyncio.timeout(10.0):
            while self.edge.exchange.calls or self.edge.exchange.facts.untold:
                await asyncio.sleep(GATHERED)
        spent = time.process_time() - began
        return spent - (self.outside.seconds - before) - (self._turns - turns) * self._turn


async def learnt(house: House, redis: CannedRedis) -> list[tuple[str, str]]:
    """Opens sessions and claims a call on each once, by the real Redis, whose answers are kept."""
    service = (await services.get(house, "default", "default")).id
    await house.inventory.add("default", service, [Item(f"+84247200{n:04d}", "VN", "load") for n in range(40)])
    pairs: list[tuple[str, str]] = []
    for n in range(PAIRS):
        people = [NewParticipant(identifier=f"+8490{side}{n:06d}", role=f"r{side}") for side in (7, 8)]
        session = (await opening.open_session(house, ACCESS, NewSession(participants=people, record="never")))[0]
        pairs.append((f"+84907{n:06d}", session.participants[0].proxies[0].number))
    command = house.redis.command

    async def overheard(*words: Any) -> Any:
        reply = await command(*words)
        if words[1] in (SHARD.route.sha, SHARD.route.text):
            redis.learn(words, reply)
        return reply

    house.redis.command = overheard  # type: ignore[method-assign]
    for caller, dialled in pairs:
        found = await routes.claim(
            house,
            called=Number.parse(dialled),
            caller=Number.parse(caller),
            interaction=house.token("int_"),
            owner="edge-bench",
            trunk="load",
            at=house.now(),
        )
        assert isinstance(found, routes.Route)
    house.redis.command = command  # type: ignore[method-assign]
    return pairs


@contextlib.asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    """An edge that has learnt from a real Redis what it is to be answered, and has none any more."""
    outside = Outside()
    trunk = TrunkSection(
        name="load",
        uri=f"sip:{CALLEE[0]}:{CALLEE[1]}",
        sources=[CALLER[0], CALLEE[0]],
        country="VN",
        options_ping=0,
        max_cps=0,
        max_calls=0,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        server = RedisServer(folder)
        server.start()
        try:
            config = Config(
                service=ServiceSection(data_dir=str(folder)), redis=RedisSection(url=server.url), trunk=[trunk]
            )
            async with open_house(config, now=time.time, random=os.urandom, archive=False, budget=60.0) as house:
                redis = CannedRedis(house.redis, outside)
                pairs = await learnt(house, redis)
                house.inventory._keep = 1e9
                house.inventory._found.clear()
                for number in {dialled for _, dialled in pairs}:
                    await house.inventory.find(number)
                assert house.redis._live is not None
                house.redis._live.drop()
                house.redis._live = house.redis._link = redis  # type: ignore[assignment]
                edge = Edge(house, random=random.Random(7), owner="edge-bench", is_gone=lambda _: False)
                yield Bench(edge, pairs, outside)
        finally:
            server.stop()


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


async def cost(bench: Bench, runs: int, profiler: cProfile.Profile | None = None) -> list[float]:
    """µs a call, run by run: of each the quietest quarter of its waves, since the machine is rarely ours alone."""
    for _ in range(4):
        await bench.wave(WAVE)
    bench.edge.collector.tame()
    found = []
    for _ in range(runs):
        if profiler is not None:
            profiler.enable()
        waves = sorted([await bench.wave(WAVE) / WAVE * 1e6 for _ in range(WAVES)])
        if profiler is not None:
            profiler.disable()
        found.append(waves[WAVES // 4])
    return found


async def footprint(bench: Bench, calls: int = CROWD, first: int = 1_000) -> tuple[float, int]:
    """KB a call that stands, from the first thousand on, and how many stand; a hundred of them then end as they
    should."""
    for _ in range(first):
        await bench.begin()
    before = resident()
    spread = [await bench.begin() for _ in range(100)]
    for _ in range(calls - first - len(spread)):
        await bench.begin()
    await asyncio.sleep(GATHERED)
    grown = resident() - before
    standing = sum(call.state == "bridged" for call in bench.edge.exchange.calls.values())
    for talk in spread:
        await bench.end(talk)
    async with asyncio.timeout(10.0):
        while len(bench.edge.exchange.calls) > standing - len(spread):
            await asyncio.sleep(GATHERED)
    return grown / (calls - first) / 1024, standing


async def measure(runs: int) -> list[Row]:
    async with open_bench() as bench:
        costs = await cost(bench, runs)
        size, standing = await footprint(bench)
    return [
        alone("edge-call", "µs/call", costs),
        alone("footprint-call", "KB/call", [size]),
        alone("footprint-20000", "calls up", [float(standing)], 0),
    ]


async def profile() -> None:
    profiler = cProfile.Profile()
    async with open_bench() as bench:
        await cost(bench, 1, profiler)
    pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(45)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m tests.edge.bench", description="What a call costs the edge.")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--cost", action="store_true", help="only the CPU time of a call")
    arguments.add_argument("--profile", action="store_true", help="show where the time goes, by function")
    asked = arguments.parse_args()
    configure(level=logging.CRITICAL)
    if asked.profile:
        uvloop.run(profile())
    elif asked.cost:
        uvloop.run(only_cost(asked.runs))
    else:
        sys.stdout.write(json.dumps(uvloop.run(measure(asked.runs))) + "\n")
    return 0


async def only_cost(runs: int) -> None:
    async with open_bench() as bench:
        sys.stdout.write(" ".join(f"{one:.0f}" for one in await cost(bench, runs)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
