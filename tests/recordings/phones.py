"""Phones as a relay hears them: packets with their own clock, over a network with its own mind, into a capture."""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from random import Random

from recordings.capture import G711, Capture, CaptureReader, begun_of, open_for_reading
from recordings.g711 import LINEAR
from recordings.render import Rendering, survey, wav
from recordings.seals import Lock, public_of, unseal

SPAN = 160
"""Samples a packet."""
STEP = 0.02
"""Seconds a packet."""
SECOND = 1_000_000_000


PRIVATE = bytes(range(32))
"""The private half of the tenant's key that these captures are sealed to."""
LOCK = Lock("t", "k1", public_of(PRIVATE))


@cache
def encode(codec: str, value: int) -> int:
    """The code nearest to a 16-bit value."""
    levels = sorted((level, code) for code, level in enumerate(LINEAR[codec]))
    at = bisect_left(levels, (value, 0))
    return min(levels[max(at - 1, 0) : at + 1], key=lambda pair: abs(pair[0] - value))[1]


def tone(hertz: int, codec: str = "PCMA") -> Callable[[int], bytes]:
    """Packets of a tone of whole hertz; packet n sounds as it would in one unbroken tone."""
    second = bytes(encode(codec, round(12000 * math.sin(2 * math.pi * hertz * i / 8000))) for i in range(8000))
    return lambda n: second[n % 50 * SPAN : n % 50 * SPAN + SPAN]


FOREIGN = 0x2A
"""A code that `numbered` never uses."""

NUMBERED = sorted(
    (code for code in range(256) if abs(LINEAR["PCMA"][code]) > 600 and code != FOREIGN), key=LINEAR["PCMA"].__getitem__
)


def numbered(n: int) -> bytes:
    """A packet that says which it is: one code all through, never silence, the same again only after some seconds."""
    return bytes([NUMBERED[n % len(NUMBERED)]]) * SPAN


def value_of(n: int) -> int:
    """The sample that stands for packet n of `numbered`."""
    return LINEAR["PCMA"][NUMBERED[n % len(NUMBERED)]]


class Runs:
    """Where in a channel which packet of `numbered` is heard."""

    def __init__(self, samples: array[int]) -> None:
        self._starts: dict[int, list[int]] = {}
        at = 0
        for value, run in groupby(samples):
            self._starts.setdefault(value, []).append(at)
            at += sum(1 for _ in run)

    def error(self, number: int, left: float) -> float:
        """Seconds between where a packet belongs and where it is heard; infinite when it is not."""
        starts = self._starts.get(value_of(number), [])
        return min((abs(start / 8000 - left) for start in starts), default=math.inf)


@dataclass(frozen=True)
class Sent:
    """A packet: its number, when it left the phone (true seconds) and when it reached us."""

    number: int
    left: float
    came: float
    datagram: bytes


@dataclass(frozen=True)
class Phone:
    """What a phone sends, and what the network does to it."""

    voice: Callable[[int], bytes] = numbered
    kind: int = 8
    source: int = 0x1234
    first_stamp: int = 0
    first_sequence: int = 0
    starts: float = 0.0
    ppm: float = 0.0
    """How much slower than ours the phone's clock runs."""
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    twice: float = 0.0
    swapped: float = 0.0

    def says(self, seconds: float, random: Random) -> list[Sent]:
        """All that reaches us of `seconds` of speech, in the order in which it does."""
        return self.sends(range(round(seconds / STEP)), random)

    def sends(self, numbers: Iterable[int], random: Random) -> list[Sent]:
        found: list[Sent] = []
        for n in numbers:
            left = self.starts + n * STEP * (1 + self.ppm * 1e-6)
            came = left + self.delay + random.random() * self.jitter
            if random.random() < self.swapped:
                came += 1.5 * STEP
            copies = 1 if random.random() >= self.loss else 0
            copies += random.random() < self.twice
            found += [Sent(n, left, came + random.random() * 0.03 * copy, self.datagram(n)) for copy in range(copies)]
        return sorted(found, key=lambda sent: sent.came)

    def datagram(self, n: int) -> bytes:
        stamp, sequence = (self.first_stamp + n * SPAN) & 0xFFFFFFFF, (self.first_sequence + n) & 0xFFFF
        return struct.pack("!BBHII", 0x80, self.kind, sequence, stamp, self.source) + self.voice(n)

    def but(self, **changes: object) -> Phone:
        return replace(self, **changes)  # type: ignore[arg-type]


def batches(sent: list[Sent], seconds: float = 0.2) -> Iterator[list[Sent]]:
    """As a relay's writer thread hands them on."""
    batch: list[Sent] = []
    for one in sent:
        if batch and one.came >= batch[0].came + seconds:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def ns(seconds: float) -> int:
    return round(seconds * SECOND)


def hear(capture: Capture, channel: int, sent: list[Sent]) -> None:
    for batch in batches(sent):
        capture.append(channel, [ns(one.came) for one in batch], [one.datagram for one in batch])


def begin(folder: Path, name: str = "rec_1", started_at: float = 1_700_000_000.0) -> Capture:
    return Capture.create(folder, name, (G711, G711), started_at, LOCK, name.encode().ljust(32, b"."))


def opened(path: Path) -> CaptureReader:
    """A capture, as the holder of the private key reads it."""
    begun = begun_of(path)
    data_key = unseal(PRIVATE, LOCK.tenant, begun.key, begun.recording, begun.box)
    return open_for_reading(path, data_key)


def record(folder: Path, *channels: list[Sent], length: float, kept: float | None = 0.0, name: str = "rec_1") -> Path:
    """A call that went in order, as a capture."""
    capture = begin(folder, name)
    if kept is not None:
        capture.keep(ns(kept))
    for channel, sent in enumerate(channels):
        hear(capture, channel, sent)
    capture.end(ns(length))
    capture.close(ns(length))
    return capture.path


@dataclass(frozen=True)
class Played:
    """A rendered capture: the facts, the file, and each channel's samples."""

    rendering: Rendering
    file: bytes
    left: array[int]
    right: array[int]

    @property
    def both(self) -> tuple[array[int], array[int]]:
        return self.left, self.right


def play(path: Path, known_end: float | None = None) -> Played:
    capture = opened(path)
    rendering = survey(capture, known_end)
    file = b"".join(wav(capture, rendering))
    samples = array("h", file[44:])
    return Played(rendering, file, samples[0::2], samples[1::2])


def power_at(samples: array[int], hertz: int) -> float:
    """How much of a sound is this tone, 0..1 (Goertzel)."""
    turn = 2 * math.pi * hertz / 8000
    real = sum(s * math.cos(turn * i) for i, s in enumerate(samples))
    imaginary = sum(s * math.sin(turn * i) for i, s in enumerate(samples))
    total = sum(s * s for s in samples)
    return 2 * (real * real + imaginary * imaginary) / (len(samples) * total) if total else 0.0
