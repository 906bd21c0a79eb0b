"""One leg of a call: its sockets, what it hears and what it says.

A packet comes in on the connected socket, is checked against the leg's terms, copied for the recording, given our own
SSRC, sequence and timestamp, and leaves on the other leg's socket: `Leg._read`, which every packet of every call runs
through. Everything unusual is a method of its own, off that path.

Our outgoing stream is one stream for as long as the call lasts, whoever feeds it (RFC 3550 5.1: one SSRC, sequence
numbers without a jump, timestamps that follow the clock): prompts and the other leg take turns through `emit` and
`_join`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from recordings.capture import STAMP
from sipedge.media import g711, rtcp, rtp, sdp
from sipedge.media.plane import Leg as LegNumber
from sipedge.media.plane import LegStatistics, Terms
from sipedge.media.telephone_events import Pressed, Receiver
from sipedge.relay.ear import Ear
from sipedge.relay.listener import Listener
from sipedge.relay.loop import SECOND, Loop
from sipedge.relay.reports import Heard, Reports
from sipedge.relay.sockets import Address
from sipedge.relay.tap import STAMPS, TAPE, Track

# Why a packet that reached one of our ports went nowhere.
#   spray      a leg that has no peer yet
#   outside    its source is outside the trunk's media networks
#   wrong_port its source is inside them, but not the peer's address and port
#   bad_version not RTP version 2, or lengths that lie
#   payload    a payload type that was not agreed
#   flood      over `FLOOD` packets a second from one peer
#   late       out of order across a change of source
#   rtcp       RTCP that is malformed or not from the peer
DROP_REASONS: Final = ("spray", "outside", "wrong_port", "bad_version", "payload", "flood", "late", "rtcp")

FLOOD: Final = 400  # packets a second; ptime 10 ms and a burst after a stall are well under it
MAX_DROPOUT: Final = 3000  # RFC 3550 A.1
MAX_MISORDER: Final = 100
UNIT: Final = SECOND // g711.RATE  # ns of one timestamp unit
FRAME_NS: Final = g711.FRAME * UNIT
BEGINS: Final = g711.FRAME.to_bytes(2, "big")  # the duration in the first packet of a key press

BUFFER: Final = bytearray(2048)
_VIEW: Final = memoryview(BUFFER)
VIEWS: Final = tuple(_VIEW[:size] for size in range(len(BUFFER) + 1))
STAMP_SIZE: Final = STAMP.size
_unpack: Final = rtp.HEADER.unpack_from
_pack: Final = rtp.HEADER.pack_into


class Leg:
    """One side of a call. `hears` is set by the call: the leg that hears what this one says."""

    # More attributes than an instance dictionary shares: slots are what makes the packet path's loads and stores cheap.
    __slots__ = (
        "_audio", "_ceiling", "_connected", "_cycles", "_events", "_expected", "_hears", "_joined", "_known",
        "_listener", "_loop", "_other_audio", "_receive", "_receiver", "_reports", "_send", "_shift", "_source",
        "_time_shift", "_transit", "_translate", "_wrapped", "audio_out", "dropped", "events_out", "heard_at",
        "jitter", "lost", "number", "octets", "on_digit", "out_at", "out_sequence", "out_timestamp", "port",
        "received", "sent", "ssrc", "terms", "track",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        number: LegNumber,
        rtp_socket: socket.socket,
        rtcp_socket: socket.socket,
        ssrc: int,
        cname: str,
    ) -> None:
        self.number = number
        self.ssrc = ssrc
        self.terms: Terms | None = None
        self.track: Track | None = None
        self.on_digit: Callable[[Pressed], None] = lambda pressed: None
        self.received = 0
        self.sent = 0
        self.octets = 0
        self.lost = 0
        self.jitter = 0.0
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self.heard_at = loop.now
        self._loop = loop
        self._listener = Listener(loop, rtp_socket, self.dropped)
        self._reports = Reports(loop, rtcp_socket, ssrc, cname, self.dropped)
        self._connected: socket.socket | None = None
        self.port = self._listener.port
        self._hears: Leg | Ear | None = None
        self._send: Callable[[memoryview | bytes], int] = len
        # what the peer says
        self._audio = -1
        self._other_audio = -1
        self._events: tuple[int, ...] = ()
        self._receiver = Receiver()
        self._source = -1  # the SSRC in step; -1: the next packet must join our outgoing stream
        self._known = -1  # the SSRC last heard
        self._expected = 0
        self._cycles = 0  # RFC 3550 A.1: what the 16 bits have wrapped
        self._wrapped = 0
        self._joined: int | None = None
        self._shift = 0
        self._time_shift = 0
        self._transit = 0
        self._translate: bytes | None = None
        self._ceiling = FLOOD
        # what we say
        self.audio_out = 0
        self.events_out: int | None = None
        self.out_sequence = ssrc >> 3 & 0x7FFF
        self.out_timestamp = ssrc & 0x7FFFFFFF
        self.out_at = loop.now

    # ---- terms ----

    def connect(self, terms: Terms) -> None:
        """Takes a peer. Raises `OSError` when the kernel finds no way to it; the leg is then without a peer."""
        self._disconnect()
        static = sdp.STATIC[terms.codec]
        self.audio_out = static if terms.payload is None else terms.payload
        self._audio, self._other_audio = self.audio_out, static
        self.events_out = terms.dtmf
        self._events = tuple({one for one in (terms.dtmf, terms.dtmf_in) if one is not None})
        self._source = self._known = -1
        peer: Address = (terms.host, terms.port)
        if not terms.symmetric:
            self._latch(peer)
        self._listener.expect(terms)
        self._reports.towards(terms.host, terms.rtcp_port or terms.port + 1)
        if terms.symmetric:
            self._send = lambda packet: self._listener.sendto(packet, peer)
            self._listener.learn((self._audio, self._other_audio, *self._events), self._learned)
        self.terms = terms
        self.heard_at = self._loop.now

    def _learned(self, peer: Address) -> None:
        self._latch(peer)
        self._reports.towards(peer[0], peer[1] + 1)

    def _latch(self, peer: Address) -> None:
        """From here on only the peer is heard."""
        connected = self._listener.connect(peer)
        self._connected = connected
        self._send = connected.send
        self._receive = connected.recv_into
        self._loop.watch(connected.fileno(), self._read)

    def _disconnect(self) -> None:
        self.terms = None
        self._send = len
        self._listener.expect(None)
        self._reports.peer = None
        if self._connected is not None:
            self._loop.unwatch(self._connected.fileno())
            self._connected.close()
            self._connected = None

    def close(self) -> None:
        """Closes the sockets. The port is the caller's to give back."""
        self._disconnect()
        self.hears = None
        self._listener.close()
        self._reports.close()

    @property
    def hears(self) -> Leg | Ear | None:
        """The leg, or the ear, that hears this one; None while nobody does."""
        return self._hears

    @hears.setter
    def hears(self, other: Leg | Ear | None) -> None:
        if other is not self._hears:
            self._hears = other
            self._source = -1
        if other is not None and self.terms is not None and other.terms is not None:
            self._translate = g711.translation(self.terms.codec, other.terms.codec)

    @property
    def may_send(self) -> bool:
        """Has a peer that wants to hear us."""
        return self.terms is not None and self.terms.direction in ("sendrecv", "sendonly")

    @property
    def may_receive(self) -> bool:
        """Has a peer that may talk."""
        return self.terms is not None and self.terms.direction in ("sendrecv", "recvonly")

    # ---- the packet path ----

    def _read(self, now: int) -> None:
        """One packet of the peer's. All of a relay's time is spent here: keep it flat."""
        try:
            size = self._receive(BUFFER)
        except OSError:  # nothing there, or the peer's port answered with ICMP
            return
        if BUFFER[0] != 0x80 or not 12 < size <= 1500:
            size = self._straighten(size)
            if not size:
                return
        _, second, sequence, timestamp, ssrc = _unpack(BUFFER)
        self.received += 1
        if self.received > self._ceiling:
            self._flood()
            return
        if sequence == self._expected and ssrc == self._source:
            self._expected = sequence + 1 & 0xFFFF
        else:
            mark = self._out_of_step(sequence, timestamp, ssrc, now)
            if mark < 0:
                return
            second |= mark
        if second & 0x7F != self._audio:
            self._not_audio(size, second, sequence, timestamp, now)
            return
        if not sequence & 7:  # RFC 3550 A.8, on every eighth packet
            transit = now // UNIT - timestamp
            drift = abs(transit - self._transit)
            self._transit = transit
            if drift < 8000:
                self.jitter += (drift - self.jitter) / 16
        track = self.track
        if track is not None:
            if track.at > TAPE:
                track.turn()
            STAMPS[size](track.tape, track.at, now, size, BUFFER)
            track.at += STAMP_SIZE + size
            track.count += 1
        other = self._hears
        if other is None:
            return
        if self._translate is not None:
            BUFFER[12:size] = BUFFER[12:size].translate(self._translate)
        sequence = sequence + self._shift & 0xFFFF
        timestamp = timestamp + self._time_shift & 0xFFFFFFFF
        _pack(BUFFER, 0, 0x80, other.audio_out | second & 0x80, sequence, timestamp, other.ssrc)
        other.out_sequence = sequence
        other.out_timestamp = timestamp
        other.out_at = now
        other.sent += 1
        other.octets += size - 12
        try:
            other._send(VIEWS[size])
        except OSError:  # its queue is full or its peer is gone: as good as lost on the way
            pass

    def _straighten(self, size: int) -> int:
        """Takes extension, CSRC list and padding off the packet in the buffer; its new size, 0 when it is dropped."""
        try:
            if size > rtp.MAX_BYTES:
                raise rtp.BadRtp("too long")
            begin, end = rtp.bounds(BUFFER, size)
        except rtp.BadRtp:
            self.dropped["bad_version"] += 1
            return 0
        payload = BUFFER[begin:end]
        size = 12 + len(payload)
        BUFFER[12:size] = payload
        BUFFER[0] = 0x80
        return size

    def _flood(self) -> None:
        self.received -= 1
        self.dropped["flood"] += 1

    def _out_of_step(self, sequence: int, timestamp: int, ssrc: int, now: int) -> int:
        """A gap, a late packet, a new source, or the first packet after a switch.

        Answers the marker bit to set (0x80 where our outgoing stream is joined anew), or -1 to drop the packet.
        """
        join = self._source < 0
        if ssrc != self._known:
            self._known, self._expected, join = ssrc, sequence, True
            self._cycles, self._wrapped = 0, sequence
        self._source = ssrc
        ahead = sequence - self._expected & 0xFFFF
        if ahead < MAX_DROPOUT:
            self.lost += ahead
            self._expected = sequence + 1 & 0xFFFF
        elif ahead >= 0x10000 - MAX_MISORDER:
            self.lost = max(0, self.lost - 1)
            if join or (self._joined is not None and sequence - self._joined & 0x8000):
                self.dropped["late"] += 1
                if join:
                    self._source = -1
                return -1
            return 0
        else:  # the source began anew without saying so
            self._expected, join = sequence + 1 & 0xFFFF, True
        if join:
            self._join(sequence, timestamp, now)
        return 0x80 if join else 0

    def _join(self, sequence: int, timestamp: int, now: int) -> None:
        """From this packet on the peer's numbers, shifted, continue what the other leg heard last."""
        self._joined = sequence
        other = self._hears
        if other is not None:
            self._shift = other.out_sequence + 1 - sequence
            self._time_shift = other.next_timestamp(now) - timestamp

    def next_timestamp(self, now: int) -> int:
        """The timestamp of a packet that leaves now: one frame on, or as much later as it is."""
        return self.out_timestamp + max(g711.FRAME, (now - self.out_at) // UNIT)

    def _not_audio(self, size: int, second: int, sequence: int, timestamp: int, now: int) -> None:
        """A key press, the codec under its other number, or what was never agreed."""
        payload_type = second & 0x7F
        if payload_type == self._other_audio:
            # The peer writes the number of its own description: from now on that is the expected one.
            self._audio, self._other_audio = payload_type, self._audio
            self._shift -= 1
            return
        if payload_type not in self._events:
            self.dropped["payload"] += 1
            self._shift -= 1
            return
        for pressed in self._receiver.receive(timestamp, bytes(BUFFER[12:size]), now):
            self.on_digit(pressed)
        other = self._hears
        if other is None or other.events_out is None:
            self._shift -= 1
            return
        sequence = sequence + self._shift & 0xFFFF
        timestamp = timestamp + self._time_shift & 0xFFFFFFFF
        payload = bytes(BUFFER[12:size])
        other._push(other.events_out | second & 0x80, sequence, timestamp, payload, now)

    # ---- what we say ourselves ----

    def emit(self, payload: bytes, now: int, *, first: bool = False) -> None:
        """Sends one coded frame of a prompt. `first`: it begins after a pause."""
        timestamp = self.next_timestamp(now) if first else self.out_timestamp + g711.FRAME
        second = self.audio_out | 0x80 if first else self.audio_out
        self._push(second, self.out_sequence + 1 & 0xFFFF, timestamp & 0xFFFFFFFF, payload, now)

    def press(self, payload: bytes, now: int, *, first: bool = False) -> None:
        """Sends one packet of a key press. All of one carry the timestamp of its beginning, and only that one the
        marker (RFC 4733 2.5.1.1); `first` says nothing here, since presses follow each other."""
        assert self.events_out is not None
        second, timestamp, at = self.events_out, self.out_timestamp, self.out_at
        if payload[1:] == payload[1:2] + BEGINS and payload[1] < 0x80:
            second, timestamp, at = second | 0x80, self.next_timestamp(now) & 0xFFFFFFFF, now
        self._push(second, self.out_sequence + 1 & 0xFFFF, timestamp, payload, at)

    def _push(self, second: int, sequence: int, timestamp: int, payload: bytes, now: int) -> None:
        self.out_sequence, self.out_timestamp, self.out_at = sequence, timestamp, now
        self.sent += 1
        self.octets += len(payload)
        try:
            self._send(rtp.HEADER.pack(0x80, second, sequence, timestamp, self.ssrc) + payload)
        except OSError:
            pass

    # ---- once a while ----

    def refresh(self, now: int) -> None:
        """Once a second: new budgets against floods, and the end of the time in which late packets would collide."""
        if self.received > self._ceiling - FLOOD:
            self.heard_at = now
        self._ceiling = self.received + FLOOD
        self._joined = None
        if self._expected < self._wrapped:
            self._cycles += 0x10000
        self._wrapped = self._expected
        self._listener.refresh()

    def lapse(self, now: int) -> None:
        """A key press whose end was lost."""
        for pressed in self._receiver.lapse(now):
            self.on_digit(pressed)

    def report(self, now: int, wall: float) -> None:
        """Sends our RTCP; silent without a peer."""
        sent = heard = None
        if self.sent:
            timestamp = self.out_timestamp + (now - self.out_at) // UNIT
            sent = rtcp.Sent(wall, timestamp, self.sent, self.octets)
        if self._known >= 0:
            highest = self._cycles + (self._expected - 1 & 0xFFFF)
            heard = Heard(self._known, self.received, self.lost, highest, self.jitter)
        self._reports.send(now, wall, sent, heard)

    def statistics(self) -> LegStatistics:
        """What became of this leg's packets."""
        return LegStatistics(
            leg=self.number,
            codec=self.terms.codec if self.terms else None,
            received=self.received,
            sent=self.sent,
            lost=self.lost,
            jitter=self.jitter / g711.RATE,
            dropped={reason: count for reason, count in self.dropped.items() if count},
            reported_loss=self._reports.loss,
            round_trip=self._reports.round_trip,
        )
