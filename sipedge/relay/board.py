"""The switchboard: every call the relay holds, whose it is, and what is done to all of them by the clock."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable
from socket import socket
from typing import Final, Protocol

from sipedge.media.plane import ORPHAN_SECONDS, CallLost, Closed, Event, Measures, Message
from sipedge.relay import sockets
from sipedge.relay.background import Background, Job
from sipedge.relay.calls import NUMBERS, Call
from sipedge.relay.loop import MILLISECOND, SECOND, Loop
from sipedge.relay.ports import NoPortFree, PortRange
from sipedge.relay.streams import Leg
from sipedge.relay.tap import Backlog, Spool, Tap

SLOTS: Final = 10  # calls are seen to in turns of 20 ms, each call every 200 ms
_TURN: Final = 20 * MILLISECOND
_FLUSH: Final = 4  # visits: what a process that dies has not written yet is 800 ms at most
_REFRESH: Final = 5  # visits: every second
_REPORT: Final = 25  # visits: every five seconds
_UNCONNECTED: Final = 5 * 600  # visits: ten minutes without a peer on any leg
_TRIES: Final = 64  # ports found taken by somebody else before the range counts as full

log = logging.getLogger("sipedge.relay")


class Owner(Protocol):
    """An edge, as the board sees it."""

    name: str

    def send(self, message: Message) -> None:
        """Sends a message; nothing when the connection is gone."""
        ...


class Place:
    """A call on the board and whose it is. `owner` is None since `orphaned` (ns), until somebody claims it."""

    __slots__ = ("call", "name", "orphaned", "owner", "slot", "visits")

    def __init__(self, owner: Owner, slot: int) -> None:
        self.call: Call
        self.owner: Owner | None = owner
        self.name = owner.name
        self.orphaned = 0
        self.slot = slot
        self.visits = 0

    def tell(self, event: Event) -> None:
        """To the owner, if there is one."""
        if self.owner is not None:
            self.owner.send(event)


class Board:
    """All calls of this process. `wall` is seconds since 1970, `randbits` gives random numbers of so many bits."""

    def __init__(
        self,
        loop: Loop,
        host: str,
        ports: PortRange,
        writer: Background,
        wall: Callable[[], float],
        randbits: Callable[[int], int],
    ) -> None:
        self.loop = loop
        self.host = host
        self.wall = wall
        self._ports = ports
        self._writer = writer
        self._randbits = randbits
        self._backlog = Backlog()
        self._places: dict[str, Place] = {}
        self._slots: list[dict[str, Place]] = [{} for _ in range(SLOTS)]
        self._turns = 0
        self._turn_due = loop.now
        self._received = 0
        self._sent = 0
        self._dropped: Counter[str] = Counter()
        self._recorder_dropped = 0
        loop.call_at(loop.now, self._visit)

    # ---- calls come and go ----

    def __contains__(self, id: str) -> bool:
        return id in self._places

    def find(self, id: str) -> Call | None:
        """An open call."""
        place = self._places.get(id)
        return None if place is None else place.call

    def open(self, id: str, legs: int, silent_after: float, owner: Owner) -> Call:
        """A new call with its sockets. Raises `NoPortFree`."""
        slot = min(range(SLOTS), key=lambda index: len(self._slots[index]))
        place = Place(owner, slot)
        opened: list[Leg] = []
        try:
            for number in NUMBERS[:legs]:
                rtp, rtcp = self._bind()
                opened.append(Leg(self.loop, number, rtp, rtcp, self._randbits(32), f"{self._randbits(96):024x}"))
        except NoPortFree:
            for leg in opened:
                leg.close()
                self._ports.unused(leg.port)
            raise
        place.call = Call(id, self.loop, opened, silent_after, place.tell)
        self._places[id] = self._slots[slot][id] = place
        return place.call

    def _bind(self) -> tuple[socket, socket]:
        now = self.loop.now / SECOND
        for _ in range(_TRIES):
            port = self._ports.take(now)
            try:
                return sockets.bind_pair(self.host, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # no descriptors, no such address: another port is no better
                    self._ports.unused(port)
                    log.error("no socket for a call: %s", error.strerror)
                    raise NoPortFree from None
                self._ports.give(port, now)  # somebody else's: ask again after a rest
        raise NoPortFree

    def close(self, id: str) -> Closed:
        """Closes an open call; its ports rest from now on."""
        place = self._places.pop(id)
        del self._slots[place.slot][id]
        closed = place.call.close(self.loop.now)
        for leg in place.call.legs:
            self._ports.give(leg.port, self.loop.now / SECOND)
        for statistics in closed.legs:
            self._received += statistics.received
            self._sent += statistics.sent
            self._dropped.update(statistics.dropped)
        if closed.recorded is not None:
            self._recorder_dropped += closed.recorded.dropped
        return closed

    def is_ours(self, host: str, port: int) -> bool:
        """Is this a port of one of our own calls? Media sent there would run in a circle."""
        return port in self._ports and host == self.host

    def shut(self) -> None:
        """Closes every call, captures first of all to last."""
        for id in list(self._places):
            self.close(id)

    # ---- recordings ----

    def tap(self, call: Call, recording: str) -> tuple[Tap, Spool]:
        """A recording of a call that begins now, and the writer's side of it."""

        def failed(detail: str) -> None:
            self.loop.post(lambda: call.recording_failed(recording, detail))

        spool = Spool(self._backlog, failed)
        return Tap(recording, self.loop.now, spool, self._writer, self._backlog), spool

    def data_key(self) -> bytes:
        """A recording's own key: 32 random bytes, kept nowhere."""
        return self._randbits(256).to_bytes(32)

    def ended(self, dropped: int) -> None:
        """A recording ended before its call."""
        self._recorder_dropped += dropped

    # ---- whose they are ----

    def left_behind(self, name: str) -> tuple[str, ...]:
        """Calls of an owner of this name that nobody holds now."""
        return tuple(id for id, place in self._places.items() if place.name == name and place.owner is None)

    def claim(self, ids: tuple[str, ...], owner: Owner) -> tuple[str, ...]:
        """Gives calls to an owner; those that exist."""
        found = tuple(id for id in ids if id in self._places)
        for id in found:
            place = self._places[id]
            if place.owner is not owner:
                place.tell(CallLost(id, "claimed"))
            place.owner, place.name = owner, owner.name
        return found

    def orphan(self, owner: Owner) -> None:
        """An owner's connection is gone: its calls go on for `ORPHAN_SECONDS`."""
        for place in self._places.values():
            if place.owner is owner:
                place.owner, place.orphaned = None, self.loop.now

    def held(self) -> tuple[str, ...]:
        """Every call."""
        return tuple(self._places)

    # ---- by the clock ----

    def _visit(self, now: int) -> None:
        """Every 20 ms, a tenth of the calls. A call that cannot be seen to is closed; the others do not notice."""
        self._turn_due = max(self._turn_due + _TURN, now - SLOTS * _TURN)
        self.loop.call_at(self._turn_due, self._visit)
        jobs: list[Job] = []
        for id, place in list(self._slots[self._turns % SLOTS].items()):
            try:
                jobs += self._see_to(place, now)
            except Exception:
                log.exception("a call failed and is closed: %s", id)
                self._drop(id, place)
        self._turns += 1
        if jobs:
            self._writer.do(*jobs)

    def _see_to(self, place: Place, now: int) -> list[Job]:
        call = place.call
        call.often(now)
        place.visits += 1
        jobs = [] if place.visits % _FLUSH else call.flush()
        if place.visits % _REFRESH == 0:
            call.refresh(now)
            if self._forgotten(place, now):
                log.warning("closed a call that nobody takes care of: %s", call.id)
                self._writer.do(*jobs)
                self._drop(call.id, place)
                return []
        if place.visits % _REPORT == 0:
            call.report(now, self.wall())
        return jobs

    def _drop(self, id: str, place: Place) -> None:
        place.tell(CallLost(id, "gone"))
        self.close(id)

    @staticmethod
    def _forgotten(place: Place, now: int) -> bool:
        """No edge claimed it, or its edge opened it and never gave it a peer: a port must not be lost for good."""
        if place.owner is None:
            return now - place.orphaned >= ORPHAN_SECONDS * SECOND
        return place.visits >= _UNCONNECTED and all(leg.terms is None for leg in place.call.legs)

    def measures(self) -> Measures:
        """How the relay fares."""
        received, sent, dropped = self._received, self._sent, Counter(self._dropped)
        recording, recorder_dropped = 0, self._recorder_dropped
        for place in self._places.values():
            tap = place.call.tap
            recording += tap is not None
            recorder_dropped += 0 if tap is None else tap.dropped
            for leg in place.call.legs:
                received += leg.received
                sent += leg.sent
                dropped.update({reason: count for reason, count in leg.dropped.items() if count})
        used, resting, free = self._ports.counts(self.loop.now / SECOND)
        p99, worst = self.loop.lateness.measure()
        return Measures(
            calls=len(self._places),
            ports_used=used,
            ports_resting=resting,
            ports_free=free,
            received=received,
            sent=sent,
            dropped=dict(dropped),
            recording=recording,
            recorder_dropped=recorder_dropped,
            lateness_p99=p99,
            lateness_max=worst,
        )
