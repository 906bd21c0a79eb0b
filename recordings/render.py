"""A capture as a recording: stereo PCM16 WAV at 8 kHz, exactly as long as the call, in bounded memory.

    rendering = survey(capture, known_end)        # first pass: how long, what is missing, where packets belong
    for chunk in wav(capture, rendering): ...     # second pass: the file, head first, a second of sound a chunk

Left (channel 1) is what the caller's phone sent, right (channel 2) what the callee's sent. Silence is what was not
sent, what the network lost, and everything before the notice was over; a **gap** is audio that we had and lost:
packets the recorder had to drop, and the end of a capture whose writer died. The same capture and `known_end` give
the same bytes, always.
"""

from __future__ import annotations

import math
import struct
import wave
from array import array
from collections import deque
from collections.abc import Iterator
from operator import mul
from pathlib import Path
from typing import IO, Final

import msgspec

from recordings.capture import CaptureReader, Closed, Dropped, End, Keep, Packets, Record
from recordings.clocks import RATE, Clock, Line, Packet, Ticker, read_packet, samples_at
from recordings.g711 import pcm16
from recordings.keytones import silenced

BLOCK: Final = RATE
HOLD: Final = RATE
"""Samples kept open for packets that come late; one later than a second against its line is dropped."""
SHORTEST_GAP: Final = RATE // 50
CHANNELS: Final = 2
HEAD: Final = 44
LONGEST: Final = 24 * 3600 * RATE
QUIETEST: Final = -96.3
"""dBFS of half a step of 16 bits: what silence is called."""


class Gap(msgspec.Struct, frozen=True):
    """Audio of a channel (1 or 2) that was lost by us, in seconds from the recording's start."""

    from_: float = msgspec.field(name="from")
    to: float
    channel: int


class Rendering(msgspec.Struct, frozen=True):
    """What the first pass found. `playable`: something can be heard, or the call ended in order and nothing was
    said."""

    samples: int
    kept: int
    gaps: tuple[Gap, ...]
    playable: bool
    lines: tuple[list[Line], ...]

    @property
    def duration(self) -> float:
        return self.samples / RATE


class _Survey:
    """The facts of a capture, gathered record by record."""

    def __init__(self, codecs: tuple[dict[int, str], ...]) -> None:
        self.codecs = codecs
        self.clocks = tuple(Clock() for _ in range(CHANNELS))
        self.kept: int | None = None
        self.end: int | None = None
        self.latest = 0
        self.closed = False
        self.heard = False
        self.lost: list[tuple[int, int, int]] = []

    def read(self, record: Record) -> None:
        match record:
            case Packets():
                self._packets(record)
            case Keep(at=at):
                self._reach(at)
                self.kept = samples_at(at) if self.kept is None else self.kept
            case Dropped(channel=channel, since=since, until=until):
                self._reach(until)
                self.lost.append((channel, samples_at(since), samples_at(until) + SHORTEST_GAP))
            case End(at=at):
                self._reach(at)
                self.end = samples_at(at) if self.end is None else self.end
            case Closed(at=at):
                self._reach(at)
                self.closed = True

    def _packets(self, record: Packets) -> None:
        for arrival, _, packet in audio(record, self.codecs):
            self.clocks[record.channel].add(packet, arrival)
            self.heard = self.heard or (self.kept is not None and arrival >= self.kept)
        for arrival_ns in record.arrivals[-1:]:
            self._reach(arrival_ns)

    def _reach(self, ns: int) -> None:
        self.latest = max(self.latest, samples_at(ns))

    def rendering(self, known_end: float | None) -> Rendering:
        length = self.end
        if length is None:
            length = self.latest if known_end is None else round(known_end * RATE)
        length = min(max(length, 0), LONGEST)
        kept = length if self.kept is None else min(max(self.kept, 0), length)
        lost = list(self.lost)
        if self.end is None:
            lost += [(channel, self.latest, length) for channel in range(CHANNELS)]
        # Nothing was to be kept before `kept`, so nothing is missing there; an end that came before it is missing
        # whole.
        since = kept if self.kept is not None else 0
        gaps = tuple(sorted(_merged(lost, since, length), key=lambda gap: (gap.from_, gap.channel)))
        lines = tuple(clock.lines() for clock in self.clocks)
        return Rendering(length, kept, gaps, self.heard or self.end is not None, lines)


def _merged(lost: list[tuple[int, int, int]], since: int, length: int) -> Iterator[Gap]:
    """The lost stretches of each channel within the recording, joined where they touch."""
    for channel in range(CHANNELS):
        spans: list[list[int]] = []
        for start, end in sorted((max(s, since), min(e, length)) for c, s, e in lost if c == channel):
            if spans and start <= spans[-1][1] + SHORTEST_GAP:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([start, end])
        yield from (Gap(s / RATE, e / RATE, channel + 1) for s, e in spans if e - s >= SHORTEST_GAP)


def audio(record: Packets, codecs: tuple[dict[int, str], ...]) -> Iterator[tuple[int, str, Packet]]:
    """(arrival in samples, codec, packet) of what is audio in a batch."""
    spoken = codecs[record.channel]
    for arrival, datagram in zip(record.arrivals, record.datagrams, strict=True):
        packet = read_packet(datagram)
        if packet is not None and packet.kind in spoken:
            yield samples_at(arrival), spoken[packet.kind], packet


def survey(capture: CaptureReader, known_end: float | None = None) -> Rendering:
    """Reads a capture once. `known_end`: seconds after its beginning at which the call is known to have ended; it
    counts only where the capture itself does not know, because its writer died before the first BYE."""
    facts = _Survey(capture.begun.channels)
    for record in capture:
        facts.read(record)
    return facts.rendering(known_end)


def wav(capture: CaptureReader, rendering: Rendering) -> Iterator[bytes]:
    """Reads a capture again and yields the WAV file: its head, then second after second."""
    yield wav_head(rendering.samples)
    yield from pcm(capture, rendering)


def wav_head(samples: int) -> bytes:
    """The head of a WAV file of so many samples in each channel."""
    size = samples * 2 * CHANNELS
    form = struct.pack("<HHIIHH", 1, CHANNELS, RATE, RATE * 2 * CHANNELS, 2 * CHANNELS, 16)
    return (
        b"RIFF" + struct.pack("<I", HEAD - 8 + size) + b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size)
    )


def pcm(capture: CaptureReader, rendering: Rendering) -> Iterator[bytes]:
    """Reads a capture again and yields its sound alone, stereo PCM16, a second at a time, without pressed keys."""
    left, right = (silenced(_Channel(capture, rendering, channel).blocks()) for channel in range(CHANNELS))
    for one, other in zip(left, right, strict=True):
        both = array("h", bytes(len(one) + len(other)))
        both[0::2], both[1::2] = array("h", one), array("h", other)
        yield both.tobytes()


def duration_of(size: int) -> float:
    """Seconds in a WAV of ours of so many bytes."""
    return (size - HEAD) / (2 * CHANNELS * RATE)


class _Channel:
    """One channel's second pass: samples put where they belong, in a buffer that moves on with them."""

    def __init__(self, capture: CaptureReader, rendering: Rendering, channel: int) -> None:
        self._capture = capture
        self._channel = channel
        self._lines = rendering.lines[channel]
        self._length = rendering.samples
        self._base = 0
        self._samples = bytearray()
        # Nothing may be written before this sample: first the notice, later what an earlier source has said.
        self._open_from = rendering.kept
        self._high = rendering.kept

    def blocks(self) -> Iterator[bytes]:
        """PCM16, BLOCK samples at a time, the last block shorter; `length` samples in all."""
        for position, samples in self._placed():
            while position - self._base > HOLD + BLOCK:
                yield self._take(BLOCK)
            self._write(position, samples)
        while self._base < self._length:
            yield self._take(min(BLOCK, self._length - self._base))

    def _take(self, count: int) -> bytes:
        self._base += count
        block = bytes(self._samples[: 2 * count])
        del self._samples[: 2 * count]
        return block.ljust(2 * count, b"\0")

    def _write(self, position: int, samples: bytearray) -> None:
        start = 2 * (position - self._base)
        if start > len(self._samples):
            self._samples += bytes(start - len(self._samples))
        self._samples[start : start + len(samples)] = samples
        self._high = max(self._high, position + len(samples) // 2)

    def _placed(self) -> Iterator[tuple[int, bytearray]]:
        """(first sample, samples) of every packet that has a place, cut to what is still open and to the call's end."""
        lines = iter([*self._lines, None])
        following = next(lines)
        number = 0
        recent: deque[int] = deque(maxlen=64)
        newest = -1
        line: Line
        ticker: Ticker
        for record in self._capture:
            if type(record) is not Packets or record.channel != self._channel:
                continue
            for _, codec, packet in audio(record, self._capture.begun.channels):
                if following is not None and number == following.first:
                    line, following = following, next(lines)
                    ticker = Ticker(line.stamp)
                    recent.clear()
                    newest = -1
                    self._open_from = self._high
                number += 1
                if packet.source != line.source:
                    continue
                tick = ticker.move(packet.timestamp)
                if tick <= newest and tick in recent:
                    continue  # a packet that came twice: the first copy counts
                recent.append(tick)
                newest = max(newest, tick)
                start, end = line.position(tick), line.position(tick + len(packet.payload))
                first, last = max(start, self._open_from, self._base), min(end, self._length)
                if first < last:
                    samples = fitted(pcm16(codec, packet.payload), end - start)
                    yield first, samples[2 * (first - start) : 2 * (last - start)]


def fitted(samples: bytearray, count: int) -> bytearray:
    """A packet made longer or shorter by the few samples its clock is off, one by one where the sound is flattest."""
    while (have := len(samples) // 2) != count and have > 1:
        values = array("h", bytes(samples))
        flattest = min(range(1, have), key=lambda i: abs(values[i] - values[i - 1]))
        if have < count:
            samples[2 * flattest : 2 * flattest] = samples[2 * flattest - 2 : 2 * flattest]
        else:
            del samples[2 * flattest : 2 * flattest + 2]
    return samples


def levels(file: Path | IO[bytes]) -> list[float]:
    """Each channel's mean power in dBFS (a full-scale square wave is 0, silence QUIETEST). `file`: a PCM16 WAV."""
    with wave.open(str(file) if isinstance(file, Path) else file, "rb") as sound:
        channels, frames = sound.getnchannels(), sound.getnframes()
        powers = [0] * channels
        while block := array("h", sound.readframes(BLOCK)):
            for channel in range(channels):
                values = block[channel::channels]
                powers[channel] += sum(map(mul, values, values))
    return [dbfs(power / frames) if power else QUIETEST for power in powers]


def dbfs(power: float) -> float:
    """A mean power of 16-bit samples as a level: full scale is 0."""
    return round(10 * math.log10(power / 32768**2), 1)
