"""Millions of bent messages at everything that reads what strangers send: the SIP endpoint, SDP, RTP, RTCP, DTMF.

Each core runs rounds of `ROUND` messages; a round is told by its seed, so that what a message did can be done again:
`Round(kind, seed)`. The cost of a message is processor time, which does not count what else the machine was busy with.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests.measure import PAGE
from sipedge.media import rtcp, rtp, sdp, telephone_events
from tests.sip.barrage import Barrage
from tests.sip.test_mutations import mutate
from tests.sip.world import SDP

ROUND: Final = 10_000
SLOW: Final = 0.005  # seconds of a processor that no message may cost
GROWTH: Final = 16 << 20  # bytes that a process may grow by after its first rounds: what the allocator keeps
WARM: Final = 5  # rounds
KINDS: Final = ("sip", "sdp", "rtp", "rtcp")

SDPS: Final = [
    SDP,
    b"v=0\r\no=a 1 2 IN IP4 192.0.2.3\r\ns=call\r\nc=IN IP4 192.0.2.3\r\nt=0 0\r\na=sendonly\r\n"
    b"m=video 51372 RTP/AVP 99\r\na=rtpmap:99 h263-1998/90000\r\nm=audio 49170 RTP/AVP 96 0 8 97 101\r\n"
    b"c=IN IP6 2001:db8::3\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=rtcp:49180\r\na=inactive\r\n",
]
RTPS: Final = [
    rtp.build(8, 7, 160, 9, b"\xd5" * 160),
    b"\xb1" + rtp.build(8, 7, 160, 9, b"csrc\xbe\xde\x00\x01\x10\x07\0\0" + b"\xd5" * 160 + b"\0\0\0\x04")[1:],
    *[rtp.build(101, at, 320, 9, payload) for at, payload in enumerate(telephone_events.packets("5"))],
]
_BLOCK: Final = rtcp.Block(ssrc=9, fraction=0.25, lost=-2, highest=70_000, jitter=12, last_report=0x1234, delay=655)
RTCPS: Final = [
    *[rtcp.build(5, "name", rtcp.Sent(1_800_000_000.5, 160, 3, 480), [_BLOCK] * blocks) for blocks in (0, 1, 31)],
    rtcp.build(5, "name", None) + rtcp.goodbye(5),
]


def read_sdp(data: bytes) -> None:
    """As an offer that is answered, and as an answer that says where sound goes."""
    try:
        described = sdp.parse(data)
        if described.audio is not None and (codec := sdp.choose(described.audio)) is not None:
            sdp.parse(sdp.answer(described, sdp.Origin(1), "192.0.2.9", 4000, codec))
            sdp.terms(described.audio, codec, ("192.0.2.0/24",))
    except sdp.BadSdp:
        pass


def read_rtp(data: bytes) -> None:
    """As audio, and as key presses."""
    try:
        rtp.bounds(data, len(data))
        packet = rtp.parse(data)
    except rtp.BadRtp:
        return
    telephone_events.Receiver().receive(packet.timestamp, packet.payload, 0)


def read_rtcp(data: bytes) -> None:
    try:
        rtcp.parse(data)
    except rtcp.BadRtcp:
        pass


READERS: Final[dict[str, tuple[Callable[[bytes], None], list[bytes]]]] = {
    "sdp": (read_sdp, SDPS), "rtp": (read_rtp, RTPS), "rtcp": (read_rtcp, RTCPS),
}  # fmt: skip


class Round:
    """The messages of one seed, and what each costs."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self.message = b""  # the latest

    def costs(self, count: int) -> Iterator[float]:
        """Seconds of a processor, message by message. Whatever a reader raises, this does."""
        return self._sip(count) if self.kind == "sip" else self._plain(count)

    def _sip(self, count: int) -> Iterator[float]:
        barrage = Barrage(self.seed)
        for _ in range(count):
            self.message, flow = barrage.message()
            began = time.thread_time()
            barrage.fire(self.message, flow)
            yield time.thread_time() - began
            barrage.pass_time()
        held = barrage.over()
        if max(held["server_transactions"], held["client_transactions"]) > held["legs"]:
            raise AssertionError(f"transactions outlive their timers: {held}")

    def _plain(self, count: int) -> Iterator[float]:
        luck = random.Random(self.seed)
        read, seeds = READERS[self.kind]
        for _ in range(count):
            self.message = mutate(luck, seeds)
            began = time.thread_time()
            read(self.message)
            yield time.thread_time() - began


@dataclass
class Found:
    """What many messages did."""

    kind: str
    messages: int = 0
    slowest: float = 0.0
    slowest_of: tuple[int, int] = (0, 0)  # seed of its round, place in it
    growth: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.messages += other.messages
        if other.slowest > self.slowest:
            self.slowest, self.slowest_of = other.slowest, other.slowest_of
        self.growth = max(self.growth, other.growth)
        self.failures += other.failures

    @property
    def broken(self) -> list[str]:
        """What was not as promised, in words."""
        said = list(self.failures)
        if self.slowest > SLOW:
            seed, place = self.slowest_of
            said.append(f"{self.kind}: {self.slowest * 1e3:.1f} ms for message {place} of round {seed}")
        return said + ([f"{self.kind}: memory grew by {self.growth >> 10} KiB"] if self.growth > GROWTH else [])


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def one_round(kind: str, seed: int, count: int) -> Found:
    """Fires a round; a message that is slow is fired again with its round, since a processor may stumble once."""
    one, found = Round(kind, seed), Found(kind)
    slow: list[int] = []
    try:
        for place, cost in enumerate(one.costs(count)):
            found.messages += 1
            if cost > SLOW:
                slow.append(place)
            elif cost > found.slowest:
                found.slowest, found.slowest_of = cost, (seed, place)
    except Exception as error:
        path = Path(f"mutation-{kind}-{seed}-{found.messages}.bin")
        path.write_bytes(one.message)
        found.failures = [f"{kind}: message {found.messages} of round {seed}, kept as {path}: {error!r}"]
        return found
    if slow:
        again = list(Round(kind, seed).costs(slow[-1] + 1))
        cost, place = max((again[place], place) for place in slow)
        if cost > found.slowest:
            found.slowest, found.slowest_of = cost, (seed, place)
    return found


def many_rounds(kind: str, seeds: range, count: int) -> Found:
    """One process's part: its rounds in turn, and how its memory went from the first few on."""
    gc.freeze()
    found, before = Found(kind), memory()
    for done, seed in enumerate(seeds):
        if done == WARM:
            gc.collect()
            before = memory()
        found.add(one_round(kind, seed, count))
    gc.collect()
    found.growth = max(0, memory() - before)
    return found


def run(kind: str, messages: int, seed: int) -> Found:
    """So many messages or a few more, on all cores."""
    cores = os.cpu_count() or 1
    count = min(ROUND, -(-messages // cores))
    rounds = -(-messages // count)
    found = Found(kind)
    with ProcessPoolExecutor(cores) as pool:
        parts = [range(seed + part, seed + rounds, cores) for part in range(cores)]
        for one in pool.map(many_rounds, [kind] * cores, parts, [count] * cores):
            found.add(one)
    return found
