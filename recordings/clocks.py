"""When each packet was: a phone's own clock laid on the recording's clock.

A phone stamps its packets by its own crystal (RTP time, 8,000 ticks a second, give or take 0.03 %) and the network
delays each by some jitter. Neither clock alone is right: arrival times wobble, RTP time wanders off by seconds in an
hour and starts anew where a phone changes its source. So a channel is cut into **segments** in which RTP time runs on
unbroken, and in each segment the difference `arrival - RTP time` is followed along its lower edge, where the packets
are that met no queue:

    position of a sample = its RTP time + offset(its RTP time)

`offset` is a line through one minimum per window of 5 s, bent at most by SLOPE (no crystal is worse) and only when it
is off by more than DEADBAND: a phone whose clock agrees with ours is copied sample for sample. It is a function of
RTP time alone, so packets that follow each other still do, in whatever order and however late they came.

A segment ends where the source changes (RFC 3550 8: another SSRC has another RTP clock) or where RTP time jumps
against the time of arrival. A jump that turns out to have been the network standing still (the packets behind it fit
the old line again) is undone.

All this is thought after the call, in a first pass over the capture, so a late beginning can be judged by what
followed it.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Final

RATE: Final = 8000
"""Samples a second: of G.711, of its RTP clock and of a recording."""

WINDOW: Final = 5 * RATE
ENOUGH: Final = RATE
SLOPE: Final = 0.005
DEADBAND: Final = 8
LATE: Final = RATE // 2
"""A packet this far behind the line is no jitter."""
EARLY: Final = RATE // 4
"""A packet this far before the line came from a jump of RTP time, unless it follows its predecessor without one ..."""
QUEUED: Final = RATE // 2
"""... then what came before had waited, by no more than this."""
STRAY: Final = 10
"""Fewer packets than this from another source, between packets of one line, are not a source."""
LOOK_BACK: Final = 8
LONGEST: Final = RATE // 4
"""Samples in a packet (RFC 3551 4.2 speaks of 200 ms); more is nothing a phone sends."""

FIXED = struct.Struct("!BBHII")


def samples_at(ns: int) -> int:
    """The sample that a time in nanoseconds falls on."""
    return (ns * RATE + 500_000_000) // 1_000_000_000


class Packet:
    """What a datagram says (RFC 3550 5.1): payload type, sequence number, timestamp, source, audio."""

    __slots__ = ("kind", "payload", "sequence", "source", "timestamp")

    def __init__(self, kind: int, sequence: int, timestamp: int, source: int, payload: bytes) -> None:
        self.kind = kind
        self.sequence = sequence
        self.timestamp = timestamp
        self.source = source
        self.payload = payload


def read_packet(datagram: memoryview) -> Packet | None:
    """The RTP packet in a datagram, or None if it is none, or has no audio or too much of it."""
    if len(datagram) <= FIXED.size:
        return None
    flags, kind, sequence, timestamp, source = FIXED.unpack_from(datagram)
    start, end = FIXED.size, len(datagram)
    if flags != 0x80:
        if flags >> 6 != 2:
            return None
        start += 4 * (flags & 0x0F)
        if flags & 0x10:
            if start + 4 > end:
                return None
            start += 4 + 4 * int.from_bytes(datagram[start + 2 : start + 4])
        if flags & 0x20:
            end -= datagram[-1]
    if not start < end <= start + LONGEST:
        return None
    return Packet(kind & 0x7F, sequence, timestamp, source, bytes(datagram[start:end]))


def signed(difference: int) -> int:
    """A difference of 32-bit timestamps as the shorter way round."""
    return ((difference + 0x80000000) & 0xFFFFFFFF) - 0x80000000


class Ticker:
    """RTP time unrolled: however often the 32 bits wrap, ticks count from the first packet."""

    __slots__ = ("_stamp", "_tick")

    def __init__(self, stamp: int) -> None:
        self._stamp = stamp
        self._tick = 0

    def tick(self, stamp: int) -> int:
        return self._tick + signed(stamp - self._stamp)

    def move(self, stamp: int) -> int:
        self._tick += signed(stamp - self._stamp)
        self._stamp = stamp
        return self._tick


class Line:
    """A finished segment: packets numbered from `first` on, of `source`, and where their samples belong."""

    __slots__ = ("first", "knots", "offsets", "source", "stamp")

    def __init__(self, first: int, source: int, stamp: int, knots: list[int], offsets: list[int]) -> None:
        self.first = first
        self.source = source
        self.stamp = stamp
        self.knots = knots
        self.offsets = offsets

    def position(self, tick: int) -> int:
        """The sample of the recording on which an RTP tick falls."""
        right = bisect_right(self.knots, tick)
        if right == 0:
            return tick + self.offsets[0]
        left = self.offsets[right - 1]
        if right == len(self.knots) or left == self.offsets[right]:
            return tick + left
        start, end = self.knots[right - 1], self.knots[right]
        return tick + left + (self.offsets[right] - left) * (tick - start) // (end - start)


class Segment:
    """A stretch of one channel in which RTP time runs unbroken, while it is being read."""

    def __init__(self, first: int, packet: Packet, arrival: int) -> None:
        self.first = first
        self.source = packet.source
        self.packets = 0
        self._stamp = packet.timestamp
        self._ticker = Ticker(packet.timestamp)
        self._sequence = packet.sequence
        self._span = len(packet.payload)
        self._minima: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        # The line's level now is that of the last two windows of arrival: an older minimum would be drift.
        self._window = arrival
        self._before = self._within = arrival
        self._last = 0

    def offset(self, packet: Packet, arrival: int) -> int:
        return arrival - self._ticker.tick(packet.timestamp)

    def lag(self, packet: Packet, arrival: int) -> int:
        """How far behind the line a packet came, in samples; negative: before it."""
        return self.offset(packet, arrival) - min(self._before, self._within)

    def goes_on(self, packet: Packet, arrival: int) -> bool:
        """Whether a packet of this source lies on the line: no jump of RTP time between the last one and it."""
        lag = self.lag(packet, arrival)
        if lag > LATE or self.offset(packet, arrival) < self._before - QUEUED:
            return False
        # What was sent in one go behind packets that had waited comes early against them: no jump, RTP time went on.
        follows = (packet.sequence - self._sequence & 0xFFFF) * self._span
        return lag >= -EARLY or self._ticker.tick(packet.timestamp) - self._last <= 2 * follows

    def add(self, packet: Packet, arrival: int) -> None:
        tick = self._last = self._ticker.move(packet.timestamp)
        offset, window = arrival - tick, tick // WINDOW
        if arrival >= self._window + WINDOW:
            self._before, self._within, self._window = self._within, offset, arrival
        self._within = min(self._within, offset)
        self._minima[window] = min(self._minima.get(window, offset), offset)
        self._sequence, self._span = packet.sequence, len(packet.payload)
        self._heard[window] = self._heard.get(window, 0) + self._span
        self.packets += 1

    def line(self) -> Line:
        """The lower edge of `arrival - RTP time`: no steeper than SLOPE, and straight where it may be."""
        # A minimum of few packets is mostly jitter: where there are fuller windows, they speak for it.
        enough = min(ENOUGH, max(self._heard.values()) // 2)
        windows = sorted(window for window, heard in self._heard.items() if heard >= enough)
        edge = [self._minima[window] for window in windows]
        for order in (range(1, len(edge)), range(len(edge) - 2, -1, -1)):
            step = -1 if order.step > 0 else 1
            for i in order:
                bend = int(SLOPE * WINDOW * abs(windows[i] - windows[i + step]))
                edge[i] = min(edge[i], edge[i + step] + bend)
        for i in range(1, len(edge)):
            if abs(edge[i] - edge[i - 1]) <= DEADBAND:
                edge[i] = edge[i - 1]
        knots = [window * WINDOW + WINDOW // 2 for window in windows]
        return Line(self.first, self.source, self._stamp, knots, edge)


class Clock:
    """One channel's segments, found packet by packet in the order of arrival."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._count = 0

    def add(self, packet: Packet, arrival: int) -> None:
        """`arrival`: the sample of the recording at which the packet came."""
        segment = self._segment_of(packet, arrival)
        segment.add(packet, arrival)
        self._count += 1

    def _segment_of(self, packet: Packet, arrival: int) -> Segment:
        segments = self._segments
        if len(segments) > 1 and (home := self._home(packet, arrival)) is not None:
            del segments[home + 1 :]
        elif not segments or segments[-1].source != packet.source or not segments[-1].goes_on(packet, arrival):
            segments.append(Segment(self._count, packet, arrival))
        return segments[-1]

    def _home(self, packet: Packet, arrival: int) -> int | None:
        """An earlier segment whose line the packet is back on, if what came since were waiting or stray packets."""
        for i in range(len(self._segments) - 1, max(-1, len(self._segments) - 1 - LOOK_BACK), -1):
            segment = self._segments[i]
            if segment.source != packet.source:
                if segment.packets >= STRAY:
                    return None
            elif i < len(self._segments) - 1 and -DEADBAND * 20 <= segment.lag(packet, arrival) <= EARLY:
                return i
        return None

    def lines(self) -> list[Line]:
        return [segment.line() for segment in self._segments]
