"""A phone's ear and mouth: one RTP socket, a packet out every 20 ms, what comes in laid down by its RTP time."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import cast

from sipedge.media import g711, rtp, sdp
from sipedge.media.plane import CodecName
from sipedge.media.telephone_events import Receiver, packets

FRAME_SECONDS = g711.FRAME / g711.RATE
MAX_HEARD = 2 * g711.RATE * 600  # bytes of PCM kept: ten minutes
_FRAME_BYTES = 2 * g711.FRAME
_LATE = 5  # ticks; a phone that was held up longer leaves a gap instead of a burst
_TRIES = 64
_BETWEEN_KEYS = 3
_BEFORE_ANSWER: dict[int, CodecName] = {sdp.STATIC["PCMU"]: "PCMU", sdp.STATIC["PCMA"]: "PCMA"}


def _bind(host: str) -> tuple[socket.socket, socket.socket]:
    """An even port for RTP and the odd one above it for RTCP (RFC 3550 11), the kernel's choice. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_TRIES):
        media, control = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        try:
            media.bind((host, 0))
            port = int(media.getsockname()[1])
            if port % 2 == 0:
                control.bind((host, port + 1))
                media.setblocking(False)
                return media, control
        except OSError:
            pass
        media.close()
        control.close()
    raise OSError("no free pair of ports")


class Mouth:
    """What is said next: a clip, once or over and over, then silence; a key press cuts in."""

    def __init__(self) -> None:
        self._clip = b""
        self._at = 0
        self._loop = False
        self._presses: deque[list[bytes]] = deque()
        self._pause = 0  # frames of sound between two key presses

    def say(self, pcm: bytes, loop: bool) -> None:
        self._clip, self._at, self._loop = pcm, 0, loop

    def press(self, digit: str) -> None:
        self._presses.append(packets(digit))

    def frame(self) -> bytes:
        """PCM of the next 20 ms; b"" for silence."""
        frame = self._clip[self._at : self._at + _FRAME_BYTES]
        self._at += _FRAME_BYTES
        if self._loop and self._at >= len(self._clip) > 0:
            self._at = 0
        return frame.ljust(_FRAME_BYTES, b"\0") if frame else b""

    def key(self) -> bytes | None:
        """The next packet of a key press; None when none is being pressed, and between two."""
        if self._pause:
            self._pause -= 1
            return None
        if not self._presses:
            return None
        press = self._presses[0]
        payload = press.pop(0)
        if not press:
            self._presses.popleft()
            self._pause = _BETWEEN_KEYS
        return payload


class Ear:
    """What was heard, as PCM from the first packet on; gaps stay silent. A new source goes on at the time it began."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self._ssrc: int | None = None
        self._base = 0  # the source's RTP time …
        self._at = 0  # … that lies at this sample
        self._began = 0.0

    def hear(self, packet: rtp.Packet, pcm: bytes, now: float) -> None:
        if self._ssrc is None:
            self._began = now
        if packet.ssrc != self._ssrc:
            self._ssrc, self._base = packet.ssrc, packet.timestamp
            self._at = max(len(self.pcm) // 2, round((now - self._began) * g711.RATE))
        offset = (packet.timestamp - self._base) & 0xFFFFFFFF
        start = 2 * (self._at + offset)
        if offset >= 1 << 31 or start + len(pcm) > MAX_HEARD:
            return
        if len(self.pcm) < start:
            self.pcm += bytes(start - len(self.pcm))
        self.pcm[start : start + len(pcm)] = pcm


class Audio(asyncio.DatagramProtocol):
    """One call's audio. Sends a packet every 20 ms from `connect` to `close`, unless `muted` (then not even
    silence)."""

    def __init__(self, ssrc: int) -> None:
        self.ear = Ear()
        self.mouth = Mouth()
        self.muted = False
        self.received = 0  # packets of the call's codec
        self.sent = 0
        self.foreign = 0  # packets of any other kind
        self.sources: set[tuple[str, int]] = set()
        self.digits = ""  # keys the peer pressed (RFC 4733)
        self.port = 0
        self._ssrc = ssrc
        self._codec: CodecName = "PCMA"
        self._payload = 8
        self._events: tuple[int | None, int | None] = None, None  # payload type we send, and we take
        self._key_time: int | None = None
        self._pressed = Receiver()
        self._remote: tuple[str, int] | None = None
        self._ticks = 0
        self._started = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._control: socket.socket | None = None

    @classmethod
    async def open(cls, host: str, ssrc: int) -> Audio:
        """Binds the ports; nothing is sent before `connect`. Raises OSError."""
        media, control = _bind(host)
        audio = cls(ssrc)
        audio.port = int(media.getsockname()[1])
        audio._control = control
        await audio._loop.create_datagram_endpoint(lambda: audio, sock=media)
        return audio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connect(
        self,
        remote: tuple[str, int],
        codec: CodecName,
        payload: int,
        events_out: int | None = None,
        events_in: int | None = None,
    ) -> None:
        """Where to send, and as what; called again when a later description says otherwise."""
        self._remote, self._codec, self._payload = remote, codec, payload
        self._events = events_out, events_in
        if self._next is None:
            self._started = self._loop.time()
            self._tick()

    def close(self) -> None:
        """Stops sending and gives the ports back."""
        if self._next is not None:
            self._next.cancel()
        if self._transport is not None:
            self._transport.close()
        if self._control is not None:
            self._control.close()

    # -- out --------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        behind = (self._loop.time() - self._started) / FRAME_SECONDS - self._ticks
        if behind > _LATE:
            self._ticks += int(behind)
        if not self.muted:
            self._send()
        self._ticks += 1
        self._next = self._loop.call_at(self._started + self._ticks * FRAME_SECONDS, self._tick)

    def _send(self) -> None:
        time = self._ticks * g711.FRAME
        key = self.mouth.key() if self._events[0] is not None else None
        if key is None:
            self._key_time = None
            pcm = self.mouth.frame()
            silence = bytes((g711.SILENCE[self._codec],)) * g711.FRAME
            self._put(self._payload, time, g711.encode(self._codec, pcm) if pcm else silence, marker=self.sent == 0)
        else:
            first = self._key_time is None
            self._key_time = time if self._key_time is None else self._key_time
            assert self._events[0] is not None
            self._put(self._events[0], self._key_time, key, marker=first)

    def _put(self, payload_type: int, time: int, payload: bytes, *, marker: bool) -> None:
        if self._transport is not None and not self._transport.is_closing():
            packet = rtp.build(payload_type, self.sent, time, self._ssrc, payload, marker=marker)
            self._transport.sendto(packet, self._remote)
            self.sent += 1

    # -- in ---------------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            packet = rtp.parse(data)
        except rtp.BadRtp:
            self.foreign += 1
            return
        now = self._loop.time()
        if self._remote is None:  # sound may come before the answer that says what it is (RFC 3264 5.1)
            codec = _BEFORE_ANSWER.get(packet.payload_type)
        else:
            codec = self._codec if packet.payload_type == self._payload else None
        if codec is not None:
            self.received += 1
            self.sources.add((addr[0], addr[1]))
            self.ear.hear(packet, g711.decode(codec, packet.payload), now)
        elif packet.payload_type == self._events[1]:
            for pressed in self._pressed.receive(packet.timestamp, packet.payload, now):
                self.digits += pressed.digit
        else:
            self.foreign += 1

    def error_received(self, exc: Exception) -> None:
        """The other side's port is not open yet, or no more (ICMP): RTP goes on regardless."""
