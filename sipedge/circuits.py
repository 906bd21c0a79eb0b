"""A circuit: the two legs of a call, the media between them, and everything that can happen to it.

What happens (a leg's events, the media plane's, the edge leaving) arrives in one inbox, and `Circuit.hear` is the one
place that reads it: what ends a call raises `Over` there, so whoever tells a call's story only says what comes next.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from masking.consultations import Consultant
from masking.demands import Action
from masking.house import House
from masking.interactions import Notice, Side
from masking.numbering import Number
from sipedge import renegotiation, session_timers
from sipedge.admission import Admission
from sipedge.causes import NORMAL, TIMER_EXPIRED, cause_of
from sipedge.driver import Driver, LegEvent
from sipedge.facts import Facts
from sipedge.inbox import Inbox
from sipedge.legs import MAX_FORWARDS, Agreed, CallerLeg, DialledLeg, Leg, agreed
from sipedge.media import sdp, telephone_events
from sipedge.media.plane import (
    CallLost,
    Digit,
    MediaBack,
    MediaPlane,
    MediaSilent,
    NoPorts,
    PlaneError,
    PlayFinished,
    RecordingFailed,
)
from sipedge.media.plane import Event as MediaEvent
from sipedge.media.plane import Leg as PlaneLeg
from sipedge.media.spoken import Asset
from sipedge.shares import Shares
from sipedge.sip.events import (
    Acked,
    AckMissing,
    Answered,
    Cancelled,
    Ended,
    Failed,
    Invited,
    PrackMissing,
    Progressed,
    Requested,
    Responded,
)
from sipedge.sip.messages import Message
from sipedge.stir import Verifier
from sipedge.targets import Hop
from sipedge.trunks import Trunk, TrunkTable

if TYPE_CHECKING:
    from sipedge.calls import Call

log = structlog.get_logger("sipedge.circuits")

FOR_EVER: Final = 86_400.0  # seconds: longer than any call
SLACK: Final = 2.0  # seconds a prompt may end later than its length says
ACK_SECONDS: Final = 33.0  # just over 64*T1, when the endpoint itself says that no ACK came
SIDES: Final[dict[int, Side]] = {1: "caller", 2: "callee"}  # whose leg it is, by its number


@dataclass(frozen=True)
class Exchange:
    """What every call of this edge is given. `media_host`: what our descriptions show; empty: the relay's address."""

    house: House
    driver: Driver
    trunks: TrunkTable
    plane: MediaPlane
    facts: Facts
    admission: Admission
    random: Random
    owner: str
    stir: Verifier
    consultant: Consultant
    shares: Shares
    media_host: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    calls: dict[str, Call] = field(default_factory=dict)
    shown: Counter[Number] = field(default_factory=Counter)  # the virtual numbers that live calls show
    # Calls whose claim Redis may have taken without telling us, and since when.
    unsure: dict[str, float] = field(default_factory=dict)


class Leave:
    """In a call's inbox: the edge is leaving."""


class Demand(msgspec.Struct, frozen=True):
    """In a call's inbox: what the app asks of its recording."""

    action: Action


class Advised:
    """In a call's inbox: the app that was asked about it has answered, or will not."""


class Over(Exception):
    """The call is over. `code`: what a caller who was not answered yet is told; `q850` None: the code's own cause."""

    def __init__(self, blame: Side, reason: str, code: int, q850: int | None = None) -> None:
        super().__init__(reason)
        self.blame: Side = blame
        self.reason = reason
        self.code = code
        self.q850 = q850


class Circuit:
    """One call's legs and media. `id` names it in the media plane, in the log, and as its interaction; `legs` are those
    there are so far, by their number in the media plane."""

    def __init__(self, exchange: Exchange, interaction: str) -> None:
        self.exchange = exchange
        self.plane = exchange.plane
        self.loop = exchange.driver.loop
        self.id = interaction
        self.inbox: Inbox[LegEvent | MediaEvent | Leave | Advised | Demand] = Inbox(self.loop)
        self.legs: dict[int, CallerLeg | DialledLeg] = {}
        self.spoken: list[Notice] = []  # the proof of what was heard
        self._host = ""
        self._ports: tuple[int, ...] = ()
        self._peers = {1: "", 2: ""}  # the hosts that the legs' signalling goes to
        self._silent: set[int] = set()

    def called(self, invited: Invited, trunk: Trunk) -> CallerLeg:
        """The first leg, by which somebody calls us."""
        leg = CallerLeg(self.exchange.driver, invited, trunk, self._origin(), self.inbox.put)
        self.legs[1], self._peers[1] = leg, invited.flow.remote[0]
        return leg

    @property
    def first(self) -> CallerLeg | DialledLeg:
        """The leg of whoever wants to reach somebody."""
        return self.legs[1]

    @property
    def caller(self) -> CallerLeg:
        """The first leg, where somebody called us by it."""
        leg = self.legs[1]
        assert isinstance(leg, CallerLeg)
        return leg

    @property
    def callee(self) -> DialledLeg | None:
        """The leg of whom the call is to reach."""
        leg = self.legs.get(2)
        assert not isinstance(leg, CallerLeg)
        return leg

    # ---- hearing -----------------------------------------------------------------------------------------------------

    async def hear(self, until: float | None) -> LegEvent | MediaEvent | Advised | Demand | None:
        """The next thing that matters; None when `until` passes. What ends a call raises `Over`."""
        while True:
            event = await self.inbox.get(self._next(until))
            match event:
                case Progressed() | Answered() | Failed():  # those of a trunk that was passed over come too late
                    if self.leg(event.leg) is not None:
                        return event
                case None if until is None or self.loop.time() < until:
                    self._keep_sessions()
                case Cancelled():
                    raise Over("caller", "canceled", 487, event.request.cause)
                case Ended() if (leg := self.leg(event.leg)) is not None:
                    raise Over(SIDES[leg.number], "hangup", 200, event.request.cause)
                case PrackMissing():  # RFC 3262 3
                    raise Over("caller", "no_ack", 504, 102)
                case AckMissing():  # RFC 3261 13.3.1.4
                    raise Over("callee" if event.leg != self.first.token else "caller", "no_ack", 200, 102)
                case Responded(leg=token) if (leg := self.leg(token)) is not None and leg.awaits(event.transaction):
                    await self._refreshed(leg, event)
                case Requested() if event.request.method == "INFO":
                    self.respond(event, 200, (), b"")
                    said = event.request.body  # of a type that can be read, or the endpoint had refused it
                    key = telephone_events.told(event.request.content_type, said) if said else None
                    if key is not None and (number := self.number_of(event.leg)) is not None:
                        return Digit(self.id, number, key, 0.0, "info")
                case Requested():
                    await renegotiation.answer(self, event)
                case Acked() if (leg := self.leg(event.leg)) is not None and leg.asks:
                    await renegotiation.confirm(self, leg, event)
                case CallLost():
                    raise Over("platform", "media_lost", 503, 41)
                case MediaSilent():  # one phone may be muted, or gone from the air for a while; both are a dead call
                    self._silent.add(event.leg)
                    self.exchange.counts["legs_silent"] += 1
                    log.info("leg_silent", interaction=self.id, leg=event.leg, seconds=round(event.seconds))
                    if len(self._silent) == len(self._ports):
                        raise Over("platform", "media_silent", 480, 102)
                case MediaBack():
                    self._silent.discard(event.leg)
                case RecordingFailed():
                    self.exchange.calls[self.id].recording_failed(event)
                case Leave():
                    raise Over("platform", "shutdown", 503, 41)
                case _:
                    return event

    def _next(self, until: float | None) -> float | None:
        """When to look up at the latest: `until`, or when a leg's session wants something."""
        for leg in self.legs.values():
            if leg.timer is not None:
                until = leg.timer.due if until is None else min(until, leg.timer.due)
        return until

    def _keep_sessions(self) -> None:
        """Refreshes what is ours to refresh; a leg that nobody refreshed ends the call (RFC 4028 10)."""
        now = self.loop.time()
        for leg in self.legs.values():
            if leg.timer is None or leg.timer.due > now:
                continue
            if leg.timer.ends <= now:
                raise Over("platform", "session_expired", 200, 102)
            session_timers.refresh(self, leg, leg.timer, now)

    async def _refreshed(self, leg: CallerLeg | DialledLeg, answer: Responded) -> None:
        """What our refresh came to."""
        assert leg.timer is not None
        if not session_timers.heard(self, leg, leg.timer, answer, self.loop.time()):
            raise Over("platform", "session_expired", 200, 102)
        if answer.status < 300 and answer.response is not None and answer.response.description:
            await renegotiation.follow(self, leg, answer.response)

    async def pass_key(self, heard: Digit) -> None:
        """A key that one phone pressed, for the other in a way it understands: as RFC 4733 where it takes that, else as
        INFO. The relay passes RFC 4733 on by itself, and tones are audio."""
        other = self.legs.get(3 - heard.leg)
        if other is None or other.over or other.agreed is None:
            return
        if other.agreed.terms.dtmf is None and heard.way != "tone":
            body = f"Signal={heard.digit}\r\nDuration=160\r\n".encode()
            self.request(other, "INFO", (), body, "application/dtmf-relay")
        elif heard.way == "info":
            try:
                await self.plane.press(self.id, other.number, heard.digit)
            except PlaneError as problem:
                log.warning("key_not_passed", interaction=self.id, problem=problem.code)

    def request(
        self,
        leg: Leg,
        method: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        content_type: str = "application/sdp",
    ) -> str | None:
        """Asks a leg's peer something; the transaction, None when it has to wait for another."""
        endpoint = self.exchange.driver.endpoint
        kind = content_type if body else ""
        asked = endpoint.request(leg.token, method, self.loop.time(), headers=headers, body=body, content_type=kind)
        self.exchange.driver.say()
        return asked

    @property
    def offer(self) -> Agreed | None:
        """What we agreed to on the first leg."""
        leg = self.legs.get(1)
        return leg.agreed if leg is not None else None

    @offer.setter
    def offer(self, agreed: Agreed | None) -> None:
        self.first.agreed = agreed

    def leg(self, token: str | None) -> CallerLeg | DialledLeg | None:
        """The leg of that name; None for one that was given up."""
        for leg in self.legs.values():
            if leg.token == token:
                return leg
        return None

    def number_of(self, token: str | None) -> PlaneLeg | None:
        """A leg's number in the media plane; None for one that was given up."""
        leg = self.leg(token)
        return leg.number if leg is not None else None

    def respond(self, event: Requested, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Answers a request inside a leg."""
        now = self.loop.time()
        self.exchange.driver.endpoint.respond(event.transaction, status, now, headers=headers, body=body)
        self.exchange.driver.say()

    # ---- media -------------------------------------------------------------------------------------------------------

    def read(
        self, message: Message, trunk: Trunk, events_in: int | None = None, before: Agreed | None = None
    ) -> Agreed | None:
        """What a description leads to, None when there is none; `BadSdp` is counted on its way up."""
        try:
            return agreed(message, trunk, events_in, before)
        except sdp.BadSdp as problem:
            self.exchange.counts["media_outside" if isinstance(problem, sdp.Outside) else "bad_descriptions"] += 1
            raise

    async def open(self, legs: int) -> None:
        """Ports of our own, and the first leg ready where its peer is known. `Over` with 503 when there are none."""
        silent_after = float(self.exchange.house.config.media.silence_timeout) or FOR_EVER
        opened = self.plane.open(self.id, self.inbox.put, legs=1 if legs == 1 else 2, silent_after=silent_after)
        connected = self.plane.connect(self.id, 1, self.offer.terms) if self.offer is not None else None
        try:
            ports = await opened
            self._ports, self._host = ports.ports, self.exchange.media_host or ports.host
            if connected is not None:
                await connected
        except NoPorts:
            raise Over("platform", "no_ports", 503) from None
        except PlaneError as problem:
            raise media_failed(problem) from None

    async def speak(self, assets: Sequence[Asset]) -> None:
        """Plays one asset to each leg at the same time and waits for the longest."""
        plays = await asyncio.gather(
            *(self.plane.play(self.id, 1 if leg == 1 else 2, str(one.path)) for leg, one in enumerate(assets, 1))
        )
        waiting = dict(zip(plays, assets, strict=True))
        deadline = self.loop.time() + max(one.duration for one in assets) + SLACK
        while waiting:
            event = await self.hear(deadline)
            if event is None:
                raise Over("platform", "media_lost", 503, 41)
            if isinstance(event, PlayFinished) and event.play in waiting:
                one = waiting.pop(event.play)
                at, to = event.at or 0.0, event.to or 0.0
                self.spoken.append(Notice(asset=one.id, sha256=one.sha256, leg=event.leg, at=at, to=to))

    async def ring_back(self, country: str) -> None:
        """The caller, answered long ago, hears that the callee's phone rings."""
        try:
            await self.plane.ring_back(self.id, 1, country)
        except PlaneError as problem:
            raise media_failed(problem) from None

    async def close(self) -> None:
        """Ends the recording, if one runs, and frees the ports; nobody hears this call any more."""
        self.inbox.close()
        if self._ports:
            try:
                await self.plane.close(self.id)
            except PlaneError as problem:
                log.warning("media_not_closed", interaction=self.id, problem=problem.code)

    # ---- descriptions ------------------------------------------------------------------------------------------------

    def our_offer(self, leg: int, origin: sdp.Origin) -> bytes:
        """The first leg's codec first: then nothing need be transcoded."""
        first = self.offer.codec.name if self.offer is not None else None
        codecs = sorted(sdp.AUDIO_CODECS, key=lambda name: name != first)
        return sdp.offer(origin, *self.media_address(leg), codecs)

    def our_answer(self) -> bytes:
        """For the caller's 183 or 200: the answer to its offer, or our offer when it made none."""
        if self.offer is None:
            return self.our_offer(1, self.caller.origin)
        return sdp.answer(self.offer.description, self.caller.origin, *self.media_address(1), self.offer.codec)

    def media_address(self, leg: int) -> tuple[str, int]:
        """Where this leg's peer sends its media."""
        return self._shown_to(self._peers[leg]), self._ports[leg - 1]

    def _shown_to(self, peer: str) -> str:
        """Our media's address as this peer reaches it, also where the relay listens on every address."""
        wildcard = self._host in ("0.0.0.0", "::")
        return self.exchange.driver.wire.host_towards(peer) if wildcard else self._host

    def _origin(self) -> sdp.Origin:
        return sdp.Origin(self.exchange.random.getrandbits(62))

    # ---- the legs we call --------------------------------------------------------------------------------------------

    def dial(self, number: PlaneLeg, trunk: Trunk, hop: Hop, person: Number, shows: str, interval: int) -> DialledLeg:
        """Sends a leg's INVITE by this trunk; the leg of a trunk or phone tried before is given up. `interval`: seconds
        of the session timer we propose."""
        if (before := self.legs.get(number)) is not None:
            before.end(480, TIMER_EXPIRED, TIMER_EXPIRED, ())
            before.forget()
        origin = self._origin()
        self._peers[number] = hop.host
        leg = DialledLeg.dial(
            self.exchange.driver,
            trunk,
            hop,
            number,
            person=person,
            shows=shows,
            offer=self.our_offer(number, origin),
            origin=origin,
            max_forwards=self.first.onward if number == 2 else MAX_FORWARDS,
            interval=interval,
            tell=self.inbox.put,
        )
        self.legs[number] = leg
        return leg

    async def pass_early_media(self, leg: DialledLeg, message: Message) -> None:
        """On a trunk that asks for it, what the callee's network says before the answer is heard by the caller."""
        try:
            theirs = self.read(message, leg.trunk, sdp.EVENTS_PAYLOAD)
        except sdp.BadSdp:
            return
        if theirs is None or self.offer is None:
            return
        try:
            await self.plane.connect(self.id, 2, theirs.terms)
            await self.plane.bridge(self.id)
        except PlaneError as problem:
            raise media_failed(problem) from None
        self.caller.progress(self.our_answer())

    # ---- the caller's answer -----------------------------------------------------------------------------------------

    def answer_caller(self) -> None:
        """200 at once; `Over` when a CANCEL crossed it."""
        if not self.caller.answer(self.our_answer()):
            raise Over("caller", "canceled", 487)

    async def acked(self) -> Acked:
        """Waits for the caller's ACK."""
        while not isinstance(heard := await self.hear(self.loop.time() + ACK_SECONDS), Acked):
            if heard is None:
                raise Over("caller", "no_ack", 200, 102)
        return heard

    async def delayed_answer(self) -> None:
        """An INVITE without a description got our offer in the 200 and answers it in the ACK (RFC 3261 13.2.1)."""
        try:
            self.offer = self.read((await self.acked()).request, self.caller.trunk, sdp.EVENTS_PAYLOAD)
        except sdp.BadSdp:
            self.offer = None
        if self.offer is None:
            raise Over("caller", "media", 200, 88)
        await self.plane.connect(self.id, 1, self.offer.terms)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def end(self, over: Over) -> None:
        """Ends the legs, whatever their state: a final code or BYE to who called, CANCEL or BYE to who was called."""
        headers = [("Retry-After", str(self.exchange.random.randint(1, 5)))] if over.code == 503 else []
        cause = over.q850 or cause_of(over.code) or NORMAL
        for leg in self.legs.values():
            leg.end(over.code, over.q850, cause, headers)
            leg.forget()


def media_failed(problem: PlaneError) -> Over:
    """The end of a call whose media the plane could not do."""
    return Over("platform", f"media_{problem.code}", 503, 41)
