"""OPTIONS pings: which trunks are there (RFC 3261 11).

A trunk that answers anything but 408, 500, 502, 503 or 504 is up. One that a call met silence on is asked at once; one
that is down is asked more often, so that its return is noticed soon. How a trunk's state changes, by this or by
its calls, is logged here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

import structlog

from sipedge.driver import Driver
from sipedge.sip.events import Responded
from sipedge.targets import Hop
from sipedge.trunk_health import State
from sipedge.trunks import Trunk, TrunkTable

log = structlog.get_logger("sipedge.pings")

TICK: Final = 0.5
DOWN_INTERVAL: Final = 5.0
SILENT: Final = 4.0
DOWN: Final = frozenset({408, 500, 502, 503, 504})


class Pings:
    """Asks every trunk whose `options_ping` is not 0."""

    def __init__(self, driver: Driver, trunks: TrunkTable, random: Random) -> None:
        self._driver = driver
        self._random = random
        self._hops: dict[Trunk, Hop] = {}  # which of its machines was asked last
        # A start is no reason to ask: a trunk is believed in until a call meets silence, or its time has come.
        self._next: dict[Trunk, float] = {
            trunk: driver.loop.time() + trunk.config.options_ping
            for trunk in trunks.trunks
            if trunk.config.options_ping
        }
        self._asked: dict[Trunk, float] = {}
        self._states: dict[Trunk, State] = dict.fromkeys(trunks.trunks, "up")

    async def run(self) -> None:
        """Until cancelled."""
        loop = self._driver.loop
        while True:
            now = loop.time()
            for trunk, due in self._next.items():
                asked = self._asked.get(trunk)
                if asked is not None and now - asked > SILENT:
                    self._judge(trunk, False)
                elif asked is None and (now >= due or trunk.doubted):
                    self._ask(trunk, now)
            self._tell_changes(now)
            await asyncio.sleep(TICK)

    def _tell_changes(self, now: float) -> None:
        for trunk, before in self._states.items():
            state = trunk.health.state(now)
            if state != before:
                self._states[trunk] = state
                log.warning("trunk_state", trunk=trunk.name, state=state, before=before)

    def _ask(self, trunk: Trunk, now: float) -> None:
        trunk.doubted = False
        hops = trunk.targets.in_order(now, self._random)
        if not hops:
            self._judge(trunk, False)
            return
        self._hops[trunk] = hops[0]
        self._asked[trunk] = now
        flow = self._driver.wire.flow_to(*hops[0], trunk.name)
        uri = f"{'sips' if trunk.target.secure else 'sip'}:{trunk.target.hostport}"
        ours = f"<sip:{self._driver.advertise(flow)}>"
        transaction = self._driver.endpoint.send_request(flow, "OPTIONS", uri, now, from_=ours, to=f"<{uri}>")
        self._driver.await_answer(transaction, self._heard(trunk, now))
        self._driver.say()

    def _heard(self, trunk: Trunk, asked: float) -> Callable[[Responded], None]:
        def hear(answer: Responded) -> None:
            if self._asked.get(trunk) == asked:  # not one that was given up
                self._judge(trunk, answer.status not in DOWN)

        return hear

    def _judge(self, trunk: Trunk, up: bool) -> None:
        """One machine that answers is enough; one that does not is left out, and another is asked."""
        now, hop = self._driver.loop.time(), self._hops.pop(trunk, None)
        if hop is not None and up:
            trunk.targets.works(hop)
        elif hop is not None:
            trunk.targets.failed(hop, now)
            if trunk.targets.in_order(now, self._random)[0] not in trunk.targets.blocked(now):
                self._asked.pop(trunk, None)
                self._ask(trunk, now)
                return
        trunk.health.pinged(up)
        self._asked.pop(trunk, None)
        interval = float(trunk.config.options_ping)
        self._next[trunk] = now + (interval if up else min(interval, DOWN_INTERVAL))
