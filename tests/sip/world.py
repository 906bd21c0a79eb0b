"""A world of two user agents with its own clock: every datagram takes time, may be lost, doubled or overtaken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TypeVar

from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import Event
from sipedge.sip.flows import Flow

ALICE, BOB = ("192.0.2.1", 5060), ("192.0.2.2", 5070)
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
E = TypeVar("E")
Fate = Callable[[bytes], tuple[float, ...]]


def entropy(seed: str) -> Callable[[int], bytes]:
    """The same bytes for the same seed: luck is given, so a test can give it."""
    asked = 0

    def more(octets: int) -> bytes:
        nonlocal asked
        asked += 1
        return hashlib.shake_128(f"{seed} {asked}".encode()).digest(octets)

    return more


@dataclass
class Side:
    """One user agent: what it was told so far, and what it does at once when told."""

    name: str
    address: tuple[str, int]
    endpoint: Endpoint
    events: list[Event] = field(default_factory=list)
    react: Callable[[Event], None] = lambda event: None

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        (event,) = self.told(kind)
        return event


class World:
    """`fate(data)` says when copies of a datagram arrive, in seconds from now: `()` loses it, two entries double it."""

    def __init__(self, *, transport: str = "udp", fate: Fate = lambda data: (0.01,), **settings: object) -> None:
        self.now = 0.0
        self.transport = transport
        self.fate = fate
        self.sent: list[tuple[float, str, bytes]] = []
        self._flying: list[tuple[float, int, Side, bytes]] = []
        self._count = 0
        self.alice = Side("alice", ALICE, Endpoint(entropy=entropy("alice"), **settings))  # type: ignore[arg-type]
        self.bob = Side("bob", BOB, Endpoint(entropy=entropy("bob"), **settings))  # type: ignore[arg-type]

    def other(self, side: Side) -> Side:
        return self.bob if side is self.alice else self.alice

    def flow(self, side: Side) -> Flow:
        """The flow by which this side reaches the other."""
        return Flow(self.transport, self.other(side).address, side.address, 0 if self.transport == "udp" else 1)

    def dial(self, body: bytes = SDP, headers: Sequence[tuple[str, str]] = ()) -> str:
        """Alice calls Bob."""
        flow, uri = self.flow(self.alice), "sip:bob@192.0.2.2:5070"
        leg = self.alice.endpoint.invite(
            flow, uri, self.now, from_="<sip:alice@192.0.2.1>", to="<sip:bob@192.0.2.2>", headers=headers, body=body
        )
        self.settle()
        return leg

    def settle(self) -> None:
        """Puts on the wire what both sides want sent, and tells what happened."""
        busy = True
        while busy:
            busy = False
            for side in (self.alice, self.bob):
                for _, data in side.endpoint.take_sends():
                    self.sent.append((self.now, side.name, data))
                    for delay in self.fate(data):
                        self._count += 1
                        heappush(self._flying, (self.now + delay, self._count, self.other(side), data))
                for event in side.endpoint.take_events():
                    busy = True
                    side.events.append(event)
                    side.react(event)

    def run(self, until: float) -> None:
        """Lets time pass."""
        self.settle()
        while True:
            dues = [due for due in (self.alice.endpoint.due(), self.bob.endpoint.due()) if due is not None]
            following = min([*dues, *([self._flying[0][0]] if self._flying else [])], default=None)
            if following is None or following > until:
                break
            self.now = max(self.now, following)
            if self._flying and self._flying[0][0] <= self.now:
                _, _, side, data = heappop(self._flying)
                side.endpoint.receive(data, self.flow(side), self.now)
            for side in (self.alice, self.bob):
                side.endpoint.timeout(self.now)
            self.settle()
        self.now = max(self.now, until)

    def messages(self, side: str, start: bytes) -> list[float]:
        """When this side sent messages that begin so."""
        return [at for at, name, data in self.sent if name == side and data.startswith(start)]

    def empty(self) -> bool:
        """Nothing is held any more, on either side."""
        return not any(sum(side.endpoint.statistics().values()) for side in (self.alice, self.bob))
