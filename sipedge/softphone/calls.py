"""One call, as the person at the phone knows it."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from sipedge.media import sdp
from sipedge.media.plane import CodecName, Direction
from sipedge.sip.endpoint import Endpoint
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
    Responded,
)
from sipedge.sip.messages import Request
from sipedge.sip.transactions import ServerTransaction
from sipedge.softphone.audio import Audio


class CallFailed(Exception):
    """The call was not answered: `status` says how the other side, or our own core, put it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the call failed with {status}")
        self.status = status


class Desk(Protocol):
    """What a call needs of its phone."""

    endpoint: Endpoint
    codecs: tuple[CodecName, ...]
    media_host: str

    def now(self) -> float: ...
    def drive(self) -> None: ...
    def forget(self, call: Call) -> None: ...
    async def outcome(self, transaction: str) -> Responded: ...


class Call:
    """One leg. `codes` is every status with its time since the INVITE in seconds; `heard` the PCM that came in.

    Of a call that came to us: `shown` is the user part of From, `asserted` those of P-Asserted-Identity, `dialled`
    that of the Request-URI, `request` the INVITE itself.
    """

    def __init__(self, phone: Desk, audio: Audio, *, caller: bool) -> None:
        self.phone = phone
        self.audio = audio
        self.caller = caller
        self.leg = ""
        self.codes: list[tuple[int, float]] = []
        self.status = 0  # the final one
        self.cause: int | None = None  # Q.850 of the refusal or the BYE
        self.ended_by = ""  # "us", "peer", or "" while it stands
        self.shown = ""
        self.asserted: list[str] = []
        self.dialled = ""
        self.request: Request | None = None
        self.acked = asyncio.Event()
        self._transaction: ServerTransaction | None = None
        self._origin = sdp.Origin(int.from_bytes(os.urandom(7), "big"))
        self._offered = b""  # the peer's offer we have not answered yet
        self._began = phone.now()
        self._cancelled = False
        self._answered = asyncio.Event()
        self._over = asyncio.Event()
        self._answered_at = 0.0
        self._over_at = 0.0

    def __repr__(self) -> str:
        return f"<Call {'out' if self.caller else 'in'} {self.status or 'ringing'} {self.ended_by}>"

    # -- what a person does -----------------------------------------------------------------------------------------

    async def ring(self, status: int = 180, *, early_media: bool = False) -> None:
        """Says that the phone rings; with `early_media` as 183 with a description, and sound from then on."""
        body = self.accept(self._offered) if early_media else b""
        self._respond(183 if early_media else status, body)

    async def answer(self) -> None:
        """Picks up. The caller's offer is answered; where there was none, ours goes out."""
        body = self.accept(self._offered) if self._offered else self.offer()
        if not body:
            self._respond(488)
            self._finish(488, "us")
            return
        self.status = 200
        self._answered_at = self.phone.now()
        self._answered.set()
        self._respond(200, body)

    async def decline(self, status: int = 486) -> None:
        """Refuses the call."""
        self._respond(status)
        self._finish(status, "us")

    async def answered(self, timeout: float = 30.0) -> None:
        """Waits for the answer; raises `CallFailed` when it is a refusal, TimeoutError when there is none."""
        async with asyncio.timeout(timeout):
            await self._answered.wait()
        if self.status != 200:
            raise CallFailed(self.status)

    async def over(self, timeout: float = 30.0) -> None:
        """Waits until the call has ended, whoever ended it."""
        async with asyncio.timeout(timeout):
            await self._over.wait()

    async def hangup(self, *, wait: bool = True) -> None:
        """Ends the call in whatever state it is: CANCEL, a refusal, or BYE; waits until the other side has agreed."""
        if self._over.is_set():
            return
        endpoint, now = self.phone.endpoint, self.phone.now()
        if not self._answered.is_set() and self.caller:
            self._cancelled = True
            endpoint.cancel(self.leg, now)
            self.phone.drive()
            if wait:
                await self.over()
        elif not self._answered.is_set():
            await self.decline(480)
        else:
            bye = endpoint.bye(self.leg, now)
            self._finish(200, "us")
            if bye is not None and wait:
                await self.phone.outcome(bye)
            self.phone.drive()

    async def offer_again(self, direction: Direction = "sendrecv") -> int:
        """Sends a re-INVITE (hold: "sendonly" or "inactive") and returns the status it got."""
        self._origin = self._origin.next()
        body = sdp.offer(self._origin, self.phone.media_host, self.audio.port, self.phone.codecs, direction)
        key = self.phone.endpoint.request(
            self.leg, "INVITE", self.phone.now(), body=body, content_type="application/sdp"
        )
        if key is None:
            return 491
        return (await self.phone.outcome(key)).status

    def play(self, pcm: bytes, *, loop: bool = False) -> None:
        """Says this PCM from now on, in place of what was being said."""
        self.audio.mouth.say(pcm, loop)

    def press(self, digits: str) -> None:
        """Presses keys (RFC 4733), where the other side takes them."""
        for digit in digits:
            self.audio.mouth.press(digit)

    # -- what a person notices --------------------------------------------------------------------------------------

    @property
    def heard(self) -> bytes:
        """Everything heard so far, PCM from the first packet on."""
        return bytes(self.audio.ear.pcm)

    @property
    def digits(self) -> str:
        return self.audio.digits

    @property
    def ringing(self) -> bool:
        return any(status in (180, 183) for status, _ in self.codes)

    @property
    def setup(self) -> float:
        """Seconds from the INVITE to the answer."""
        return self._answered_at - self._began if self._answered_at else 0.0

    @property
    def seconds(self) -> float:
        """Seconds from the answer to the end, or to now."""
        if not self._answered_at:
            return 0.0
        return (self._over_at or self.phone.now()) - self._answered_at

    # -- machinery --------------------------------------------------------------------------------------------------

    def offer(self) -> bytes:
        return sdp.offer(self._origin, self.phone.media_host, self.audio.port, self.phone.codecs)

    def accept(self, body: bytes) -> bytes:
        """Answers an offer and turns the audio to it; b"" when there is nothing we could talk."""
        try:
            offered = sdp.parse(body)
        except sdp.BadSdp:
            return b""
        codec = self._turn_to(offered)
        if codec is None:
            return b""
        self._offered = body
        return sdp.answer(offered, self._origin, self.phone.media_host, self.audio.port, codec)

    def _turn_to(self, description: sdp.Description) -> sdp.Format | None:
        """Sends from now on where this description says; the codec both know, None when there is none."""
        stream = description.audio
        codec = sdp.choose(stream, self.phone.codecs) if stream is not None else None
        if stream is None or codec is None:
            return None
        self.audio.muted = stream.host is None or stream.direction in ("sendonly", "inactive")
        if stream.host is not None:
            name: CodecName = "PCMU" if codec.name == "PCMU" else "PCMA"
            events_in = sdp.EVENTS_PAYLOAD if self.caller else stream.events
            self.audio.connect((stream.host, stream.port), name, codec.payload, stream.events, events_in)
        return codec

    def _respond(self, status: int, body: bytes = b"") -> None:
        assert self._transaction is not None
        self.codes.append((status, self.phone.now() - self._began))
        self.phone.endpoint.respond(self._transaction, status, self.phone.now(), body=body)
        self.phone.drive()

    def invited(self, event: Invited) -> None:
        request = event.request
        self._transaction = event.transaction
        self.request = request
        self.shown = request.from_.uri.user
        self.asserted = [identity.uri.user for identity in request.identities]
        self.dialled = request.uri.user
        self._offered = request.description

    def take(
        self, event: Acked | AckMissing | Answered | Cancelled | Ended | Failed | PrackMissing | Progressed
    ) -> None:
        """What the core says about this leg."""
        match event:
            case Progressed():
                self._note(event.status)
                if event.response.description:
                    self._described(event.response.description)
            case Answered():
                self._note(event.response.status)
                self.status = 200
                self._answered_at = self.phone.now()
                self._confirm(event.response.description)
                self._answered.set()
            case Failed():
                self._note(event.status)
                self.cause = event.response.cause if event.response is not None else None
                self._finish(event.status, "us" if self._cancelled else "peer")
            case Cancelled():
                self._finish(487, "peer")
            case Ended():
                self.cause = event.request.cause
                self._finish(200, "peer")
            case Acked():
                if event.request.description:
                    self._described(event.request.description)
                self.acked.set()
            case PrackMissing():
                self._finish(504, "us")
            case AckMissing():
                self.phone.endpoint.bye(self.leg, self.phone.now())
                self._finish(408, "us")

    def _note(self, status: int) -> None:
        self.codes.append((status, self.phone.now() - self._began))

    def _confirm(self, body: bytes) -> None:
        """Reads the description in the 2xx: the answer to our offer, or an offer that the ACK must answer."""
        request = self.phone.endpoint.dialog(self.leg)
        answer = self.accept(body)
        if request is not None:
            self.phone.endpoint.acknowledge(self.leg, answer, self.phone.now())

    def _described(self, body: bytes) -> None:
        try:
            self._turn_to(sdp.parse(body))
        except sdp.BadSdp:
            return

    def _finish(self, status: int, by: str) -> None:
        if not self._over.is_set():
            self.status, self.ended_by = status, by
            self._over_at = self.phone.now()
            self.audio.close()
            self.phone.forget(self)
            self._answered.set()
            self._over.set()
