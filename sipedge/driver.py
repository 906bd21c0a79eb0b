"""One way in, one way out: feed the endpoint one input, send all it says, tell all that happened, set one alarm.

Nobody else touches the endpoint's queues, so nothing can be half done (every mutation is followed by a full drain).
Calls speak through `Driver.say`; what they cause leaves at the end of the turn of the loop, in one batch.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable

import structlog

from masking.logs import place
from sipedge.admission import Door
from sipedge.floods import Floods
from sipedge.sip.endpoint import Endpoint
from sipedge.sip.events import (
    Acked,
    AckMissing,
    Answered,
    Cancelled,
    Disconnect,
    Ended,
    Event,
    Failed,
    Invited,
    PrackMissing,
    Progressed,
    Refused,
    Requested,
    Responded,
)
from sipedge.sip.flows import Flow
from sipedge.sip.messages import Request
from sipedge.sip.transactions import T1
from sipedge.tls import Credentials
from sipedge.wire import Wire

log = structlog.get_logger("sipedge.driver")

# What may change a session, or tells of a key, goes to the call it belongs to.
SESSION_METHODS = frozenset({"INVITE", "UPDATE", "PRACK", "INFO"})
LegEvent = (
    Requested | Cancelled | PrackMissing | Acked | AckMissing | Ended | Progressed | Answered | Failed | Responded
)
ANSWER = b"SIP/2.0 "
TICK = 0.02  # seconds between two rings of the alarm


class Driver:
    """Joins one endpoint with one wire.

    `may_ask(transport, host, port)`: do requests from there belong to anyone? What a leg hears goes to the function
    given to `attach`; new calls go to `invited`, requests that nobody's story is about to `requested`. `door(send)`
    makes what stands before the parser, `floods` what stands before that. `wall`: the time of day.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoint: Endpoint,
        *,
        may_ask: Callable[[str, str, int], bool],
        may_answer: Callable[[str, str, int], bool],
        advertise: str,
        invited: Callable[[Invited], None],
        requested: Callable[[Requested], None],
        texted: Callable[[Request, Flow], None],
        wall: Callable[[], float],
        door: Callable[[Callable[[Flow, bytes], None]], Door],
        floods: Floods,
        tls: Credentials | None = None,
    ) -> None:
        self.loop = loop
        self.endpoint = endpoint
        self.counts: Counter[str] = Counter()
        self._may_ask = may_ask
        self._invited = invited
        self._requested = requested
        self._texted = texted
        self._legs: dict[str, Callable[[LegEvent], None]] = {}
        self._asked: dict[str, Callable[[Responded], None]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._due_soon = False
        self.wire = Wire(
            loop,
            allowed=may_answer,
            turned_away=self._turned_away,
            received=self._received,
            settle=self.drive,
            failed=self._failed,
            unreached=self._unreached,
            closed=self._closed,
            wall=wall,
            advertise=advertise,
            tls=tls,
        )
        self.door = door(self.wire.send)
        self.floods = floods

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self.wire.close()

    # ---- who listens -------------------------------------------------------------------------------------------------

    def attach(self, leg: str, hear: Callable[[LegEvent], None]) -> None:
        """What happens to this leg goes to `hear`."""
        self._legs[leg] = hear

    def detach(self, leg: str) -> None:
        self._legs.pop(leg, None)

    def await_answer(self, transaction: str, hear: Callable[[Responded], None]) -> None:
        """The answer to a request outside any call goes to `hear`."""
        self._asked[transaction] = hear

    def advertise(self, flow: Flow) -> str:
        """The host:port that our Via, Contact and From show by this flow."""
        return self.wire.advertise(flow)

    # ---- one turn ----------------------------------------------------------------------------------------------------

    def say(self) -> None:
        """Somebody asked the endpoint for something: drain it before this turn of the loop ends."""
        if not self._due_soon:
            self._due_soon = True
            self.loop.call_soon(self.drive)

    def drive(self) -> None:
        """Sends everything, tells everything, sets the one alarm."""
        self._due_soon = False
        while True:
            for flow, data in self.endpoint.take_sends():
                self.wire.send(flow, data)
            events = self.endpoint.take_events()
            if not events:
                break
            for event in events:
                try:
                    self._tell(event)
                except Exception as error:  # whoever hears badly spoils it for nobody else
                    self._fault(error)
        self._set_alarm()

    def _set_alarm(self) -> None:
        """One alarm for all timers, set anew only once it has rung: none is shorter than T1, so an alarm within T1
        comes before whatever is set after it."""
        if self._alarm is None and (due := self.endpoint.due()) is not None:
            # Rounded up, since none is needed sooner than that, and many calls' timers ring as one.
            self._alarm = self.loop.call_at(min(math.ceil(due / TICK) * TICK, self.loop.time() + T1), self._rang)

    def _rang(self) -> None:
        self._alarm = None
        self.endpoint.timeout(self.loop.time())
        self.drive()

    def _tell(self, event: Event) -> None:
        match event:
            case Progressed() | Answered() | Acked() | Ended() | Failed():
                self._tell_leg(event)
            case Invited():
                self._invited(event)
            case Requested(leg=leg) if leg in self._legs and event.request.method in SESSION_METHODS:
                self._legs[leg](event)
            case Requested():
                self._requested(event)
            case Refused():
                self.counts[event.reason] += 1
                if event.status == 405 and event.request is not None and event.request.method == "MESSAGE":
                    self._texted(event.request, event.flow)
            case Disconnect():
                self.counts["disconnected"] += 1
                self.wire.streams.disconnect(event.flow)
            case Responded() if event.transaction in self._asked:
                self._asked.pop(event.transaction)(event)
            case _:
                self._tell_leg(event)

    def _tell_leg(self, event: LegEvent) -> None:
        hear = self._legs.get(event.leg) if event.leg is not None else None
        if hear is not None:
            hear(event)

    # ---- what the wire brings ----------------------------------------------------------------------------------------

    def _turned_away(self, data: bytes, flow: Flow, ahead: int) -> bool:
        if not data.startswith(ANSWER) and not self._may_ask("udp", *flow.remote):
            self.counts["stranger_requests"] += 1
            return True
        now = self.loop.time()
        try:
            return self.floods.drops(data, flow.remote, now) or self.door.keeps(data, flow, self.wire.age, now, ahead)
        except Exception as error:
            self._fault(error)
            return True

    def _received(self, data: bytes, flow: Flow) -> None:
        now = self.loop.time()
        if flow.reliable and (seconds := self.floods.rests(len(data), flow.remote, now)):
            self.wire.streams.rest(flow, seconds)
        try:
            self.endpoint.receive(data, flow, now)
        except Exception as error:  # a fault of ours in one message must not cost the next one anything
            self._fault(error)

    def _fault(self, error: Exception) -> None:
        self.counts["faults"] += 1
        log.error("fault", error=type(error).__name__, at=place(error))

    def _failed(self, flow: Flow) -> None:
        self.endpoint.transport_failed(flow, self.loop.time())
        self.drive()

    def _unreached(self, quoted: bytes, flow: Flow) -> None:
        self.endpoint.unreached(quoted, flow, self.loop.time())
        self.drive()

    def _closed(self, flow: Flow) -> None:
        self.endpoint.disconnected(flow, self.loop.time())
        self.drive()
