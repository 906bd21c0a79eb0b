"""The two legs of a call: what each was asked, what it agreed to, how it is ended.

Nothing that the peer of one leg wrote reaches the other: the second leg is *constructed* from a number to call, a
virtual number to show, and a session description of our own (RFC 7092's signalling-plane B2BUA; contract: "A person's
number appears only on that person's own leg"). What crosses is a status, a Q.850 cause and Max-Forwards less one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from masking.interactions import Leg as LegFacts
from masking.numbering import Number
from sipedge import session_timers
from sipedge.causes import NORMAL, TIMER_EXPIRED, cause_of, reason
from sipedge.driver import Driver, LegEvent
from sipedge.media import sdp
from sipedge.media.plane import Leg as PlaneLeg
from sipedge.media.plane import Terms
from sipedge.session_timers import SessionTimer
from sipedge.sip.events import Answered, Cancelled, Ended, Failed, Invited, PrackMissing, Progressed
from sipedge.sip.messages import Message, Request
from sipedge.targets import Hop
from sipedge.trunks import Trunk

RINGING: Final = frozenset({180, 183})
MAX_FORWARDS: Final = 70  # of a call that begins with us (RFC 3261 8.1.1.6)
PRODUCT: Final = ("User-Agent", "masking")


class Agreed(msgspec.Struct, frozen=True):
    """What one leg's peer and we have agreed to: its description, the codec, what the media plane is told."""

    description: sdp.Description
    codec: sdp.Format
    terms: Terms


def agreed(message: Message, trunk: Trunk, events_in: int | None = None, before: Agreed | None = None) -> Agreed | None:
    """What a peer's description leads to; None when the message holds none. `before`: what stands, and is kept to
    where the description leaves a choice.

    Raises `sdp.Outside` when its media lies outside the trunk's networks, `sdp.BadSdp` when it cannot be used.
    """
    if not message.description:
        return None
    description = sdp.parse(message.description)
    stream = description.audio
    codec = _codec(stream, before) if stream is not None else None
    if stream is None or codec is None:
        raise sdp.BadSdp("no audio that we speak")
    if stream.host is None and before is not None:  # the old way to hold (RFC 3264 8.4) names no address: it keeps its
        stream = msgspec.structs.replace(stream, host=before.terms.host, port=before.terms.port)
    terms = sdp.terms(stream, codec, trunk.media, symmetric=trunk.config.symmetric, events_in=events_in)
    return Agreed(description, codec, terms)


def _codec(stream: sdp.Stream, before: Agreed | None) -> sdp.Format | None:
    """The peer's first choice; in a call that stands the codec it has, and no number that its recording was not told
    of."""
    if before is None:
        return sdp.choose(stream)
    known = [one for one in stream.formats if one == before.codec or sdp.STATIC.get(one.name) == one.payload]
    return next((one for one in known if one.name == before.codec.name), known[0] if known else None)


def cause_in(failed: Failed) -> int | None:
    """Why an INVITE of ours failed, as its answer says it (RFC 3326), else as its code does."""
    said = failed.response.cause if failed.response is not None else None
    return said or cause_of(failed.status)


class Leg:
    """What both legs share. `heard` takes the endpoint's events, keeps the leg's state, and tells the call.

    `number`: its number in the media plane; `ours`: the call on it is ours, Call-ID and all; `agreed`: what holds
    between its peer and us; `asks`: our offer went out in a 200 and waits for its answer; `description`: the one we
    last gave; `updates`: the peer takes UPDATE.
    """

    ours: bool

    def __init__(
        self,
        driver: Driver,
        token: str,
        trunk: Trunk,
        origin: sdp.Origin,
        tell: Callable[[LegEvent], None],
        number: PlaneLeg,
    ) -> None:
        self.driver = driver
        self.token = token
        self.number = number
        self.trunk = trunk
        self.origin = origin
        self.answered = False
        self.over = False
        self.code: int | None = None
        self.q850: int | None = None
        self.codec: str | None = None
        self.agreed: Agreed | None = None
        self.asks = False
        self.updates = False
        self.timer: SessionTimer | None = None
        self._tell = tell
        self.description = b""
        driver.attach(token, self.heard)

    def heard(self, event: LegEvent) -> None:
        match event:
            case Cancelled():
                self.over, self.code, self.q850 = True, 487, event.request.cause or NORMAL
            case PrackMissing():
                self.over, self.code, self.q850 = True, 504, TIMER_EXPIRED
            case Failed():
                self.over, self.code, self.q850 = True, event.status, cause_in(event)
            case Answered():
                self.answered, self.code = True, event.response.status
                self.timer = session_timers.accepted(event.response, self.now)
                self.updates = session_timers.takes_update(event.response)
            case Ended():
                self.over, self.q850 = True, event.request.cause or NORMAL
        self._tell(event)

    def awaits(self, transaction: str) -> bool:
        """Is this the session refresh we wait for?"""
        return self.timer is not None and self.timer.waits == transaction

    def describe(self, write: Callable[[sdp.Origin], bytes]) -> bytes:
        """Our description, with the next version when it is not the one said last (RFC 3264 8)."""
        body = write(self.origin)
        if self.description and body != self.description:
            self.origin = self.origin.next()
            body = write(self.origin)
        self.description = body
        return body

    @property
    def now(self) -> float:
        return self.driver.loop.time()

    def hang_up(self, q850: int = NORMAL) -> None:
        """BYE, if the leg stands."""
        if self.answered and not self.over:
            self.over = True
            self.q850 = q850
            self.driver.endpoint.bye(self.token, self.now, headers=reason(q850))
            self.driver.say()

    def forget(self) -> None:
        """What still comes concerns the endpoint alone; a leg and its call know each other no longer."""
        self.driver.detach(self.token)

    def facts(self) -> LegFacts:
        return LegFacts(trunk=self.trunk.name, sip_code=self.code, q850=self.q850, codec=self.codec)


class CallerLeg(Leg):
    """The leg that called us."""

    ours = False

    def __init__(
        self, driver: Driver, invited: Invited, trunk: Trunk, origin: sdp.Origin, tell: Callable[[LegEvent], None]
    ) -> None:
        super().__init__(driver, invited.leg, trunk, origin, tell, 1)
        self.request: Request = invited.request
        self._transaction = invited.transaction
        self.updates = session_timers.takes_update(invited.request)
        self._rang = False

    def ring(self) -> None:
        """180, once, without a description (contract: Ringing)."""
        if not self._rang:
            self._rang = True
            self._respond(180)

    def progress(self, body: bytes) -> bool:
        """183 with a description: what is played from now on is heard before any charge."""
        self.description = body
        return self._respond(183, body=body)

    def answer(self, body: bytes) -> bool:
        """200. False: the caller had given up."""
        self.description = body
        headers, timer = session_timers.granted(self.request, self.now)
        self.answered = self._respond(200, headers=headers, body=body)
        if self.answered:
            self.code, self.timer = 200, timer
        return self.answered

    def refuse(self, code: int, q850: int | None = None, headers: Sequence[tuple[str, str]] = ()) -> None:
        """A final code ≥ 300, unless the leg has ended."""
        if self.over or self.answered:
            return
        self.over, self.code = True, code
        self.q850 = q850 if q850 is not None else cause_of(code)
        self._respond(code, headers=[*headers, *reason(self.q850)])

    def end(self, code: int, q850: int | None, cause: int, headers: Sequence[tuple[str, str]]) -> None:
        """The final code, or BYE."""
        self.refuse(code, q850, headers)
        self.hang_up(cause)

    @property
    def onward(self) -> int:
        """The Max-Forwards of what goes on from here."""
        return self.request.max_forwards - 1

    def let_go(self) -> None:
        """It talks by now: what its INVITE said is no longer asked."""
        self.request.let_go()

    def _respond(self, code: int, *, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> bool:
        sent = self.driver.endpoint.respond(self._transaction, code, self.now, headers=headers, body=body)
        self.driver.say()
        return sent


class DialledLeg(Leg):
    """A leg we call: the callee's, and the first one of a call that the app asked for. `rung`: its phone rings;
    `heard_of`: it gave any sign of life, 100 included."""

    ours = True
    onward = MAX_FORWARDS

    def __init__(
        self,
        driver: Driver,
        token: str,
        trunk: Trunk,
        origin: sdp.Origin,
        tell: Callable[[LegEvent], None],
        number: PlaneLeg,
    ) -> None:
        super().__init__(driver, token, trunk, origin, tell, number)
        self.rung = False
        self.heard_of = False
        self.told_ringing = False
        self._promised: Message | None = None  # the last reliable response that held a description

    @classmethod
    def dial(
        cls,
        driver: Driver,
        trunk: Trunk,
        hop: Hop,
        number: PlaneLeg,
        *,
        person: Number,
        shows: str,
        offer: bytes,
        origin: sdp.Origin,
        max_forwards: int,
        interval: int,
        tell: Callable[[LegEvent], None],
    ) -> DialledLeg:
        """Sends the INVITE to a person's phone: every header of it is made here or by the endpoint. `interval`: seconds
        of the session timer we propose; 0: none."""
        flow = driver.wire.flow_to(*hop, trunk.name)
        uri = trunk.request_uri(person)
        shown = trunk.shown(shows, driver.advertise(flow))
        token = driver.endpoint.invite(
            flow,
            uri,
            driver.loop.time(),
            from_=shown,
            to=f"<{uri}>",
            headers=[("P-Asserted-Identity", shown), PRODUCT, *session_timers.proposed(interval)],
            body=offer,
            max_forwards=max_forwards,
            credentials=trunk.credentials,
        )
        driver.say()
        leg = cls(driver, token, trunk, origin, tell, number)
        leg.description = offer
        return leg

    def heard(self, event: LegEvent) -> None:
        self.heard_of = True
        if isinstance(event, Progressed):
            self.rung = self.rung or event.status in RINGING
            if event.response.reliable is not None and event.response.description:
                self._promised = event.response
        super().heard(event)

    def described(self, answer: Answered) -> Message:
        """The message that holds the phone's description: its 200, or the reliable response of the same phone, which
        has answered our offer already so that the 200 need not (RFC 3262 5)."""
        said = self._promised
        if answer.response.description or said is None or said.to.tag != answer.response.to.tag:
            return answer.response
        return said

    def give_up(self, q850: int = NORMAL) -> None:
        """CANCEL, or BYE when it was answered. One that never said a word has timed out."""
        if self.answered:
            self.hang_up(q850)
        elif not self.over:
            self.over = True
            self.code, self.q850 = (487, q850) if self.heard_of else (408, TIMER_EXPIRED)
            self.driver.endpoint.cancel(self.token, self.now, headers=reason(q850))
            self.driver.say()

    def let_go(self) -> None:
        """It talks by now: what was promised before the answer is no longer asked."""
        self._promised = None

    def end(self, code: int, q850: int | None, cause: int, headers: Sequence[tuple[str, str]]) -> None:
        """CANCEL, or BYE: who is called is told no code."""
        self.give_up(cause)
