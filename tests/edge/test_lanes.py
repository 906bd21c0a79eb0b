"""Who goes first when many datagrams wait: a refusal before everything, then what is urgent, in bounded portions."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from masking.config import Listener
from sipedge import lanes, wire
from sipedge.lanes import Lanes
from sipedge.sip.flows import Flow
from sipedge.wire import PORTION, Wire

FLOW = Flow("udp", ("192.0.2.7", 5070), ("192.0.2.1", 5060))
REFUSED = b"INVITE sip:nobody@x SIP/2.0\r\n\r\n"


def test_the_urgent_goes_first_and_within_its_lane_who_came_first() -> None:
    waiting = Lanes()
    for data in (b"OPTIONS sip:x", b"INVITE sip:1", b"INVITE sip:2", b"SIP/2.0 200 OK", b"BYE sip:x"):
        waiting.put(data, FLOW, 0.0)
    assert len(waiting) == 5 and waiting.calls == 2
    taken = [waiting.take().data for _ in range(5)]
    assert taken == [b"BYE sip:x", b"SIP/2.0 200 OK", b"INVITE sip:1", b"INVITE sip:2", b"OPTIONS sip:x"]
    assert not waiting and waiting.calls == 0


class Watched:
    """A wire on loopback that refuses `REFUSED` as it reads it, and what came up from it in which order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.ahead: list[int] = []
        self.wire = Wire(
            asyncio.get_running_loop(),
            allowed=lambda *source: True,
            turned_away=self._turned_away,
            received=lambda data, flow: self.order.append("received"),
            settle=lambda: self.order.append("settled"),
            failed=lambda flow: None,
            unreached=lambda quoted, flow: None,
            closed=lambda flow: None,
            wall=time.time,
        )

    def _turned_away(self, data: bytes, flow: Flow, ahead: int) -> bool:
        self.ahead.append(ahead)
        if data == REFUSED:
            self.order.append("refused")
        return data == REFUSED

    async def listen(self) -> None:
        """Listens, and waits until the kernel stamps what comes: it begins to a little after it was asked."""
        await self.wire.listen(Listener("udp", "127.0.0.1", 0))
        while self.wire.age < 0.004:
            self.order.clear()
            await self.burst(b"BYE sip:x SIP/2.0\r\n\r\n")
        self.order.clear()
        self.ahead.clear()
        self.wire.take_wait()

    async def burst(self, *datagrams: bytes) -> None:
        """What waits in the socket for 5 ms, and so is read at once."""
        (listener,) = self.wire.listeners
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            for data in datagrams:
                phone.sendto(data, (listener.host, listener.port))
        time.sleep(0.005)
        async with asyncio.timeout(5.0):
            while self.order.count("received") < len(datagrams) - datagrams.count(REFUSED):
                await asyncio.sleep(0)


async def test_a_refused_caller_waits_for_nobodys_work() -> None:
    watched = Watched()
    await watched.listen()
    try:
        await watched.burst(*[b"INVITE sip:x SIP/2.0\r\n\r\n"] * (3 * PORTION), REFUSED)
    finally:
        watched.wire.close()
    assert watched.order[0] == "refused"
    portions = [words.count("received") for words in _between(watched.order, "settled")]
    assert max(portions) == PORTION, "what came meanwhile is looked at between two portions"
    assert watched.ahead[-1] == 3 * PORTION, "who waits to be read is in its way"


async def test_one_alone_is_handed_up_at_once() -> None:
    watched = Watched()
    await watched.listen()
    try:
        await watched.burst(b"BYE sip:x SIP/2.0\r\n\r\n")
    finally:
        watched.wire.close()
    assert watched.order == ["received", "settled"] and watched.wire.take_wait() > 0.0


async def test_what_the_lanes_cannot_hold_stays_in_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "FULL", 8)
    monkeypatch.setattr(wire, "DRAIN", 4)
    monkeypatch.setattr(wire, "PORTION", 1)
    watched = Watched()
    await watched.listen()
    try:
        await watched.burst(*[b"INVITE sip:x SIP/2.0\r\n\r\n"] * 100)
    finally:
        watched.wire.close()
    assert 8 <= max(watched.ahead) < 8 + 4 and watched.order.count("received") == 100


def _between(words: list[str], mark: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for word in words:
        if word == mark:
            found.append([])
        else:
            found[-1].append(word)
    return found
