"""Many calls at once, each going its own way: all of them end, each once, and nothing is left."""

from __future__ import annotations

import asyncio
import random

import pytest

from masking import interactions, sessions
from sipedge.sip.events import Answered, Cancelled, Ended, Event, Failed, Invited, Progressed
from tests.edge.conftest import ACCESS, Make, Opener, X, trunk
from tests.edge.phones import Phone

CALLS = 60


class Crowd:
    """Reads all events of a phone that plays many people, and does what the dice say."""

    def __init__(self, phone: Phone, dice: random.Random, calls: bool) -> None:
        self.phone = phone
        self.dice = dice
        self.calls = calls
        self.over: dict[str, str] = {}
        self.rang = 0

    async def live(self) -> None:
        while True:
            event = await self.phone._events.get()
            self.take(event)

    def take(self, event: Event) -> None:
        later, phone = self.phone.loop.call_later, self.phone
        match event:
            case Invited():
                self.rang += 1
                phone.respond(event, 180)
                choice = self.dice.random()
                delay = self.dice.uniform(0.0, 0.3)
                if choice < 0.6:
                    later(delay, phone.answer, event)
                    if self.dice.random() < 0.5:
                        later(delay + self.dice.uniform(0.0, 0.5), phone.hang_up, event.leg)
                else:
                    later(delay, phone.respond, event, self.dice.choice([486, 603, 480, 404, 500]))
            case Progressed() if self.calls and self.dice.random() < 0.2:
                later(self.dice.uniform(0.0, 0.3), phone.cancel, event.leg)
            case Answered():
                later(self.dice.uniform(0.0, 0.5), phone.hang_up, event.leg)
            case Failed():
                self.over[event.leg] = str(event.status)
            case Ended() | Cancelled():
                self.over[event.leg] = type(event).__name__


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_crowd_of_calls_ends_cleanly(open_edge: Opener, phones: Make, seed: int) -> None:
    dice = random.Random(seed)
    callers, callees = phones("+84901000000"), phones("+84902000000")
    place = await open_edge(trunk("callers", callers, max_cps=1000), trunk("callees", callees, max_cps=1000))
    await place.numbers(*X, trunk="callees")
    crowds = [Crowd(callers, dice, True), Crowd(callees, dice, False)]
    living = [asyncio.create_task(crowd.live()) for crowd in crowds]
    opened = []
    for one in range(CALLS):
        caller, callee = f"+84901{one:06}", f"+84902{one:06}"
        opened.append(session := await place.session(caller, callee, record=dice.choice(["always", "never"])))
        dialled = session.participants[0].proxies[0].number
        callers.loop.call_later(
            dice.uniform(0.0, 1.0), _call, callers, place.address, dialled, f"<sip:{caller}@c.example>"
        )
    await asyncio.sleep(1.2)
    await place.idle(20.0)
    assert crowds[1].rang > CALLS // 2
    for session in opened:
        timeline = await sessions.timeline(place.house, ACCESS, session.id)
        (told,) = interactions.fold(timeline)
        assert told.status in ("completed", "busy", "declined", "no_answer", "canceled", "failed")
        assert [one.type for one in timeline].count("call.ended") == 1
    edge = place.edge
    assert edge.exchange.counts["faults"] == edge.driver.counts["faults"] == 0
    assert edge.driver._legs == {} and await edge.plane.calls() == ()
    assert [each.calls for each in edge.trunks.trunks] == [0, 0]
    for shard in await place.house.inventory.shard_names():
        assert await place.house.leases.live_calls(shard) == []
    for task in living:
        task.cancel()


def _call(phone: Phone, edge: tuple[str, int], dialled: str, from_: str) -> None:
    phone.call(edge, dialled, from_=from_)
