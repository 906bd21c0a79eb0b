"""An endpoint with calls on under fire: bent messages of its own calls, by datagram and by stream, answered, timed out.

`fire` is one message with all that follows from it at once; between two of them `pass_time` lets timers expire and
begins calls of our own. The same seed fires the same messages.
"""

from __future__ import annotations

import random
from collections import deque

from sipedge.sip.events import Disconnect, Invited, Requested
from sipedge.sip.flows import Flow
from sipedge.sip.messages import MAX_HEADERS, parse
from tests.sip.test_mutations import TCP, UDP, conversation, mutate, speaker
from tests.sip.test_torture import ANSWERED, DROPPED, SERVED
from tests.sip.world import SDP

ECHOES = (b"SIP/2.0 400", b"SIP/2.0 505", b"\r\n")
"""What repeats parts of a message that could not be read, and may be as broken."""

SEEDS = [*SERVED.values(), *(data for _, data in ANSWERED.values()), *filter(None, DROPPED.values()), *conversation()]


class Barrage:
    """One endpoint and the luck of everything that happens to it."""

    def __init__(self, seed: int) -> None:
        self.luck = random.Random(seed)
        self.endpoint = speaker("mutations", max_transactions=500)
        self.now = 0.0
        self._said: deque[bytes] = deque(maxlen=20)  # what the endpoint says is bent as well
        self._sent: list[bytes] = []
        self._connection = 1

    def message(self) -> tuple[bytes, Flow]:
        """The next message and how it comes."""
        data = mutate(self.luck, [*SEEDS, *self._said])
        return data, UDP if self.luck.random() < 0.7 else TCP._replace(connection=self._connection)

    def fire(self, data: bytes, flow: Flow) -> None:
        """Takes a message, by a stream in pieces, and answers what it asks."""
        one, luck, now = self.endpoint, self.luck, self.now
        for piece in [data[at : at + 97] for at in range(0, len(data), 97)] if flow.reliable else [data]:
            one.receive(piece, flow, now)
        for event in one.take_events():
            if isinstance(event, Disconnect):
                self._connection += 1
                one.disconnected(event.flow, now)
            elif isinstance(event, Invited | Requested):
                status = luck.choice([180, 200, 200, 404, 487, 600])
                one.respond(event.transaction, status, now, body=SDP if status == 200 else b"")
                if event.leg is not None and luck.random() < 0.3:
                    one.bye(event.leg, now)
        self._sent += [data for _, data in one.take_sends()]

    def pass_time(self) -> None:
        """Some time goes by; whatever came in, what goes out is well-formed."""
        one, luck = self.endpoint, self.luck
        for data in self._sent:
            # A response gives back as lines what came as one list of Vias: maybe more lines than we would read.
            if not data.startswith(ECHOES) and data.count(b"\r\nVia: ") < MAX_HEADERS // 2:
                parse(data)
        self._said += self._sent
        self._sent.clear()
        self.now += luck.choice([0.0, 0.01, 0.5, 3.0])
        if one.due() is not None and luck.random() < 0.5:
            one.timeout(self.now)
        if luck.random() < 0.01:
            leg = one.invite(UDP, "sip:bob@192.0.2.1", self.now, from_="<sip:a@h>", to="<sip:b@h>", body=SDP)
            if luck.random() < 0.5:
                one.cancel(leg, self.now)

    def over(self) -> dict[str, int]:
        """What the endpoint still holds when all timers have expired."""
        self.pass_time()
        for later in range(1, 400, 2):
            self.endpoint.timeout(self.now + later)
        return self.endpoint.statistics()
