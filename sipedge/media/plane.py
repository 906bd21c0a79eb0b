"""The promise both keepers of the media plane make: what the edge may ask, what it is answered, what it hears unasked.

The built-in relay (`python -m sipedge.relay`) speaks these messages over a unix stream socket; a client of rtpengine
keeps the same `MediaPlane` protocol over another wire.

The life of a recorded call, as the edge asks for it::

    ports = await plane.open(call, hear)                      # two even ports; NoPorts -> 503
    await plane.connect(call, 2, terms)                       # the callee's answer
    await plane.connect(call, 1, terms)                       # just before the caller's 200
    await plane.record(call, recording, directory, seal)      # the recording's first instant: the caller's 200
    await plane.play(call, 1, notice); await plane.play(call, 2, notice)   # -> two PlayFinished events
    await plane.bridge(call)                                  # audio flows, and is kept from here on
    await plane.end(call)                                     # the recording's last instant: the first BYE
    statistics = await plane.close(call)                      # ports go to rest

Framing, both ways: 4 bytes big-endian length, then that many bytes of MessagePack (at most 64 KiB). Up go
`Request(id, command)`; down come one `Reply(id, result)` per request (in order of completion) and events at any time.
The first request on a connection is `Hello`. A frame that cannot be decoded is answered by
`Reply(0, Failed("bad_request"))` (with the request's id where that much could be read) and the connection goes on; an
over-long one ends the connection. `sipedge.media.wire` has the encoders and the cutter of frames.

Legs are numbered as recordings' channels are: 1 faces the caller, 2 the callee.
When the connection breaks, the relay goes on relaying for `ORPHAN_SECONDS`, then closes what nobody claimed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, Literal, Protocol, TypeAlias

import msgspec

Leg: TypeAlias = Literal[1, 2]
CodecName: TypeAlias = Literal["PCMA", "PCMU"]
Direction: TypeAlias = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

ORPHAN_SECONDS: Final = 5.0
SILENT_AFTER: Final = 20.0

Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
PayloadType: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=127)]
Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


# ---- errors ---------------------------------------------------------------------------------------------------------


class PlaneError(Exception):
    """The media plane did not do what was asked; `code` is one of `FailureCode`, `detail` is safe to log."""

    code: str = "bad_request"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.code)
        self.detail = detail


class NoPorts(PlaneError):
    """Every port of the range is in use or rests: answer 503."""

    code = "no_ports"


class UnknownCall(PlaneError):
    """The plane holds no such call (never opened, closed, or lost)."""

    code = "unknown_call"


class CallExists(PlaneError):
    """`open` for a call that is open."""

    code = "call_exists"


class BadRequest(PlaneError):
    """The request makes no sense: a leg that was not opened, a second recording, text that is not a message."""

    code = "bad_request"


class AddressRefused(PlaneError):
    """The peer's media address is not a unicast address inside the trunk's networks."""

    code = "address_refused"


class BadAsset(PlaneError):
    """The asset is missing, too long, or not a WAV of 8 kHz 16-bit mono."""

    code = "bad_asset"


class CaptureFailed(PlaneError):
    """The recording could not be begun (disk full, directory missing)."""

    code = "capture_failed"


class PlaneGone(PlaneError):
    """The connection to the plane is down; raised by the client, never sent."""

    code = "plane_gone"


FailureCode: TypeAlias = Literal[
    "no_ports", "unknown_call", "call_exists", "bad_request", "address_refused", "bad_asset", "capture_failed"
]


# ---- what is asked --------------------------------------------------------------------------------------------------


class Terms(msgspec.Struct, frozen=True):
    """What was agreed with one leg's peer by SDP.

    `host`/`port`: where the peer wants RTP (its SDP); RTCP goes to `rtcp_port`, default `port` + 1.
    `payload`: payload type of `codec` in what we send and accept. `dtmf`: telephone-event payload type in what we send
    (None: the peer takes none); `dtmf_in`: in what the peer sends, when its number differs.
    `cidrs`: the trunk's media networks; RTP and SDP addresses lie inside. `symmetric`: learn the peer's port once, from
    its first packets. `direction`: as *we* may use the stream (the peer's `sendonly` is our `recvonly`).
    """

    host: str
    port: Port
    codec: CodecName
    cidrs: tuple[str, ...]
    payload: PayloadType | None = None
    dtmf: PayloadType | None = None
    dtmf_in: PayloadType | None = None
    symmetric: bool = False
    direction: Direction = "sendrecv"
    rtcp_port: Port | None = None


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First on each connection: who asks. Answer: `Held`, the calls this owner left behind (claim them or they end)."""

    owner: str


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Opens a call with one or two legs. Answer: `Ports`. `silent_after`: seconds without RTP until `MediaSilent`."""

    call: str
    legs: Literal[1, 2] = 2
    silent_after: float = SILENT_AFTER


class Connect(msgspec.Struct, frozen=True, tag="connect"):
    """Gives a leg its peer; once more for a new peer (another trunk, a re-INVITE). Answer: `Done`."""

    call: str
    leg: Leg
    terms: Terms


class Play(msgspec.Struct, frozen=True, tag="play"):
    """Plays a WAV file to a leg, instead of anything else it would hear. Answer: `Playing`; later `PlayFinished`."""

    call: str
    leg: Leg
    asset: str
    repeat: bool = False


class RingBack(msgspec.Struct, frozen=True, tag="ring_back"):
    """Plays the ring-back tone of a country until `Stop` or `Bridge`. Answer: `Playing`; later `PlayFinished`."""

    call: str
    leg: Leg
    country: str


class Warn(msgspec.Struct, frozen=True, tag="warn"):
    """Plays two short pips once: the time of the call runs out. Answer: `Playing`; later `PlayFinished`."""

    call: str
    leg: Leg


class Confirm(msgspec.Struct, frozen=True, tag="confirm"):
    """Plays one long pip once: what was keyed was taken. Answer: `Playing`; later `PlayFinished`."""

    call: str
    leg: Leg


class Press(msgspec.Struct, frozen=True, tag="press"):
    """Presses a key for a leg to hear as telephone-events (RFC 4733), instead of anything else for so long; keys that
    follow wait for each other. Answer: `Playing`; later `PlayFinished`. Refused where its peer takes none."""

    call: str
    leg: Leg
    digit: str


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stops what a leg hears played. Answer: `Done` (also when nothing played)."""

    call: str
    leg: Leg


class Listen(msgspec.Struct, frozen=True, tag="listen"):
    """Hears keys in a leg's audio too, until the legs hear each other. Answer: `Done`."""

    call: str
    leg: Leg


class Bridge(msgspec.Struct, frozen=True, tag="bridge"):
    """Lets the legs hear each other; stops what is played; a begun recording keeps audio from here. Answer: `Done`."""

    call: str


class Seal(msgspec.Struct, frozen=True):
    """To whom a recording is sealed: the tenant, the name of its key, and its X25519 public key (32 bytes)."""

    tenant: str
    key: str
    public: bytes


class Record(msgspec.Struct, frozen=True, tag="record"):
    """Begins a recording *now* under `directory`; its audio is silence until `Bridge` or `Keep`. What is written opens
    with the private key of `seal` alone. Answer: `Done`."""

    call: str
    recording: str
    directory: str
    seal: Seal


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """The recording keeps audio from now on: switched on during a bridged call, notice played; or after `Pause`."""

    call: str


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """The recording is silence from now on, until `Keep`. Answer: `Done`."""

    call: str


class End(msgspec.Struct, frozen=True, tag="end"):
    """Ends the recording *now*. Answer: `Recorded`."""

    call: str


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Closes the call: ends its recording if that still runs, frees its ports. Answer: `Closed`."""

    call: str


class Claim(msgspec.Struct, frozen=True, tag="claim"):
    """Takes calls over, whoever owned them: their events come here from now on. Answer: `Held`, those that exist."""

    calls: tuple[str, ...]


class List(msgspec.Struct, frozen=True, tag="list"):
    """Which calls does the plane hold, whoever owns them? Answer: `Held`."""


class Measure(msgspec.Struct, frozen=True, tag="measure"):
    """How does the plane fare? Answer: `Measures`."""


class Feel(msgspec.Struct, frozen=True, tag="feel"):
    """How late is the plane just now? Answer: `Felt`."""


Command: TypeAlias = (
    Hello
    | Open
    | Connect
    | Play
    | RingBack
    | Warn
    | Confirm
    | Press
    | Stop
    | Listen
    | Bridge
    | Record
    | Keep
    | Pause
    | End
    | Close
    | Claim
    | List
    | Measure
    | Feel
)


class Request(msgspec.Struct, frozen=True):
    """One command; `id` > 0 is chosen by the asker and comes back in the `Reply`."""

    id: int
    command: Command


# ---- what is answered -----------------------------------------------------------------------------------------------


class Ports(msgspec.Struct, frozen=True, tag="ports"):
    """Our own media address of each leg: `ports[leg - 1]`, even, RTCP at + 1. `host` is what the relay is bound to."""

    host: str
    ports: tuple[int, ...]


class Playing(msgspec.Struct, frozen=True, tag="playing"):
    """`play` names this playing in its `PlayFinished`."""

    play: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is so."""


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """A recording ended: `duration` in seconds, `kept_from` seconds after its begin (None: nothing was kept),
    `dropped`: packets the recorder could not take (they are gaps in the capture)."""

    recording: str
    duration: float
    kept_from: float | None
    packets: int
    dropped: int


class LegStatistics(msgspec.Struct, frozen=True):
    """One leg's packets. `dropped`: reason -> packets (see `sipedge.relay.streams.DROP_REASONS`); `lost` by sequence
    numbers; `jitter` in seconds (RFC 3550 A.8); `reported_loss` 0..1 and `round_trip` seconds by the peer's RTCP."""

    leg: Leg
    codec: str | None
    received: int
    sent: int
    lost: int
    jitter: float
    dropped: dict[str, int]
    reported_loss: float | None = None
    round_trip: float | None = None


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """A call's last words: its legs' statistics, its recording if `close` had to end it, seconds it was bridged."""

    call: str
    legs: tuple[LegStatistics, ...]
    recorded: Recorded | None = None
    bridged: float = 0.0


class Held(msgspec.Struct, frozen=True, tag="held"):
    """Calls the plane holds."""

    calls: tuple[str, ...]


class Measures(msgspec.Struct, frozen=True, tag="measures"):
    """The plane's health since its start; lateness (seconds) is that of timed work in the last minute."""

    calls: int
    ports_used: int
    ports_resting: int
    ports_free: int
    received: int
    sent: int
    dropped: dict[str, int]
    recording: int
    recorder_dropped: int
    lateness_p99: float
    lateness_max: float


class Felt(msgspec.Struct, frozen=True, tag="felt"):
    """How late the plane's timed work was since it was last asked so: the 95th percentile, in seconds."""

    late: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It is not so; `detail` never holds a phone number."""

    code: FailureCode
    detail: str = ""

    def error(self) -> PlaneError:
        """The exception that says the same."""
        return ERRORS[self.code](self.detail)


ERRORS: Final[dict[str, type[PlaneError]]] = {
    kind.code: kind for kind in (NoPorts, UnknownCall, CallExists, BadRequest, AddressRefused, BadAsset, CaptureFailed)
}

Result: TypeAlias = Ports | Playing | Done | Recorded | Closed | Held | Measures | Felt | Failed


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The answer to the request of that id (0: to a frame whose id could not be read)."""

    id: int
    result: Result


# ---- what is heard unasked ------------------------------------------------------------------------------------------


class PlayFinished(msgspec.Struct, frozen=True, tag="play_finished"):
    """A playing ended; `whole`: to its last sample. `at`, `to`: seconds since the recording's begin (None without)."""

    call: str
    leg: Leg
    play: int
    asset: str
    whole: bool
    at: float | None = None
    to: float | None = None


class Digit(msgspec.Struct, frozen=True, tag="digit"):
    """A key was pressed on a leg's phone, told once, at its end. `seconds` it was held. `way`: by RFC 4733, as a tone
    in the audio (`Listen`), or by INFO, which the edge itself hears."""

    call: str
    leg: Leg
    digit: str
    seconds: float
    way: Literal["event", "tone", "info"] = "event"


class MediaSilent(msgspec.Struct, frozen=True, tag="media_silent"):
    """No RTP came from a connected leg for `seconds`; told once per silence."""

    call: str
    leg: Leg
    seconds: float


class MediaBack(msgspec.Struct, frozen=True, tag="media_back"):
    """A silence that was told is over: RTP comes again, or the leg is held and none is expected."""

    call: str
    leg: Leg


class RecordingFailed(msgspec.Struct, frozen=True, tag="recording_failed"):
    """The recording stopped taking audio (disk full); the call goes on unless policy says otherwise."""

    call: str
    recording: str
    detail: str


class CallLost(msgspec.Struct, frozen=True, tag="call_lost"):
    """The plane no longer holds this call for you: `claimed` by another edge, or `gone` (told by the client itself, for
    each of its calls, when the connection breaks and the calls could not be claimed again; by the relay, when a call
    had no peer on any leg for ten minutes)."""

    call: str
    reason: Literal["claimed", "gone"]


Event: TypeAlias = PlayFinished | Digit | MediaSilent | MediaBack | RecordingFailed | CallLost
Message: TypeAlias = Reply | PlayFinished | Digit | MediaSilent | MediaBack | RecordingFailed | CallLost


# ---- the promise ----------------------------------------------------------------------------------------------------


class MediaPlane(Protocol):
    """What the edge codes against. Every method raises `PlaneError` (`PlaneGone` when the plane cannot be asked).

    Methods that are no coroutines ask at once, and raise when their answer is awaited: a call may ask several things in
    one turn and then wait once, since they are done in the order asked.
    """

    def open(
        self, call: str, hear: Callable[[Event], None], *, legs: Literal[1, 2] = 2, silent_after: float = SILENT_AFTER
    ) -> Awaitable[Ports]:
        """Opens a call; its events go to `hear` (called in the event loop, must not block). Raises `NoPorts`."""
        ...

    def connect(self, call: str, leg: Leg, terms: Terms) -> Awaitable[object]:
        """Gives a leg its peer: asked at once, answered when awaited. Raises `AddressRefused`."""
        ...

    async def play(self, call: str, leg: Leg, asset: str, *, repeat: bool = False) -> int:
        """Plays a file; the number comes back in `PlayFinished.play`. Raises `BadAsset`."""
        ...

    async def ring_back(self, call: str, leg: Leg, country: str) -> int:
        """Plays the country's ring-back tone until stopped."""
        ...

    async def warn(self, call: str, leg: Leg) -> int:
        """Plays the pips that say the call's time runs out."""
        ...

    async def confirm(self, call: str, leg: Leg) -> int:
        """Plays the pip that says that what was keyed was taken."""
        ...

    async def press(self, call: str, leg: Leg, digit: str) -> int:
        """Presses a key for a leg to hear."""
        ...

    async def stop(self, call: str, leg: Leg) -> None:
        """Stops what is played to a leg."""
        ...

    async def listen(self, call: str, leg: Leg) -> None:
        """Hears keys in the leg's audio too, until the bridge: `Digit` with `way="tone"`."""
        ...

    def bridge(self, call: str) -> Awaitable[object]:
        """Lets the legs hear each other, keeps audio in a begun recording: asked at once, answered when awaited."""
        ...

    async def record(self, call: str, recording: str, directory: str, seal: Seal) -> None:
        """Begins a recording now. Raises `CaptureFailed`."""
        ...

    async def keep(self, call: str) -> None:
        """Keeps audio in a begun recording from now on."""
        ...

    async def pause(self, call: str) -> None:
        """Keeps silence in a begun recording from now on."""
        ...

    async def end(self, call: str) -> Recorded:
        """Ends the recording now."""
        ...

    async def close(self, call: str) -> Closed:
        """Closes the call. Raises `UnknownCall` when it is not there any more."""
        ...

    async def claim(self, calls: Sequence[str], hear: Callable[[Event], None]) -> Sequence[str]:
        """Takes calls over, answers which of them exist."""
        ...

    async def calls(self) -> Sequence[str]:
        """Every call the plane holds."""
        ...

    async def measure(self) -> Measures:
        """The plane's health."""
        ...

    async def feel(self) -> Felt:
        """How late it is now, at next to no cost."""
        ...
