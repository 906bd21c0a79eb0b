"""Calls that the app asks for (click-to-call): the first person is rung, hears that it is being connected, and from
there on it is a call like any other.

Commands come from `masking.originating`; an edge that drains or is crowded leaves them to others. Both people see the
virtual number that each knows for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, NoReturn

from masking import originating
from masking.house import Unavailable
from masking.originating import Command, Orders, Originated
from sipedge import dialogues
from sipedge.calls import Call
from sipedge.circuits import Exchange, Over, media_failed
from sipedge.hunting import Hunt, Sought
from sipedge.media.plane import PlaneError

PAUSE: Final = 0.1  # seconds until a crowded edge looks whether it has room


class OutgoingCall(Call):
    """The app asks for a call between two participants."""

    def __init__(self, exchange: Exchange, command: Command) -> None:
        super().__init__(exchange, command.interaction)
        self.command = command

    async def story(self) -> NoReturn:
        """From the command to the last BYE."""
        originated = await self.take_over()
        route = originated.route
        self.begin(route, route.shows, route.dialled)
        await self.reach_first(originated)
        await self.connect(route)

    async def take_over(self) -> Originated:
        """Makes the call ours, unless it is over by now; then nobody is rung, and nothing is told."""
        try:
            originated = await originating.take(self.house, self.command, self.exchange.owner)
        except Unavailable:  # ours or not: `orphans` ends it
            self.exchange.unsure[self.id] = self.circuit.loop.time()
            raise Over("platform", "unavailable", 503) from None
        if originated is None:
            self.exchange.counts["orders_too_late"] += 1
            raise Over("platform", "gone", 480)
        return originated

    async def reach_first(self, originated: Originated) -> None:
        """Rings who is to hear the ring-back, as the call's first leg; once answered, it is billed."""
        route, circuit = originated.route, self.circuit
        await circuit.open(legs=2)
        sought = Sought(
            leg=1,
            phones=originated.caller,
            shows=route.dialled,
            trunk=originated.trunk,
            country=originated.country,
            ring_timeout=route.ring_timeout,
        )
        theirs = self.agree(await Hunt(self, sought).reach())
        self.state = "connecting"
        if route.confirmed_by_key:
            await dialogues.confirm(self, 1, route.caller_language, theirs)
        self.answered_ahead(route, self.house.now())
        try:
            await circuit.plane.connect(self.id, 1, theirs.terms)
            if (connecting := self.sentence("connecting", route.caller_language)) is not None:
                await circuit.speak((connecting,))
        except PlaneError as problem:
            raise media_failed(problem) from None


async def serve(exchange: Exchange, has_room: Callable[[], bool], begin: Callable[[Command], bool]) -> None:
    """Takes commands until cancelled, one after the other, while there is room; `begin` says whether the call began."""
    orders = Orders(exchange.house)
    try:
        while True:
            if not has_room():
                await asyncio.sleep(PAUSE)
                continue
            try:
                command = await orders.next()
                if command is not None and not (has_room() and begin(command)):
                    await orders.put_back(command)
                    await asyncio.sleep(PAUSE)  # so that another edge has it
            except Unavailable:  # a command that is lost so ends as one that nobody took
                await asyncio.sleep(PAUSE)
    finally:
        with contextlib.suppress(Unavailable):
            await orders.close()
