"""What a recording sounds like, without listening: how loud each side speaks, how much is silence, how often both talk
at once, and the wave as a player draws it.

A side speaks in a window of 20 ms whose mean power is over SPEECH; a pause within words (up to HANG windows) belongs
to them.
"""

from __future__ import annotations

from array import array
from operator import mul
from typing import Final

import msgspec

from recordings.clocks import RATE
from recordings.render import CHANNELS, QUIETEST, dbfs

WINDOW: Final = RATE // 50
SPEECH: Final = 32768**2 * 10 ** (-45 / 10)
"""-45 dBFS: a phone's noise lies under it, quiet speech over it."""
HANG: Final = 10
POINTS: Final = 200


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """`loudness`: each channel's mean level in dBFS while it speaks (full scale 0; -96.3: it never does); `silence`
    and `talk_over`: the part of the time in which nobody, and both, speak; `peaks`: each channel's wave, at most 200
    points evenly over its length, 0..100 of full scale."""

    loudness: tuple[float, ...]
    silence: float
    talk_over: float
    peaks: tuple[tuple[int, ...], ...]


class Listener:
    """Hears stereo PCM16, piece by piece, each of whole samples."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._powers: tuple[list[float], ...] = ([], [])
        self._tops: tuple[list[int], ...] = ([], [])

    def hear(self, pcm: bytes) -> None:
        self._held += pcm
        size = WINDOW * 2 * CHANNELS
        whole = len(self._held) // size * size
        if whole:
            self._take(array("h", bytes(self._held[:whole])))
            del self._held[:whole]

    def _take(self, both: array[int]) -> None:
        for channel in range(CHANNELS):
            samples = both[channel::CHANNELS]
            powers, tops = self._powers[channel], self._tops[channel]
            for at in range(0, len(samples), WINDOW):
                window = samples[at : at + WINDOW]
                every_other = window[::2]  # is enough for a level, at half the work
                powers.append(sum(map(mul, every_other, every_other)) / len(every_other))
                tops.append(max(max(window), -min(window)))

    def heard(self) -> Analysis:
        """What it was; call it once, at the end."""
        rest = len(self._held) // (2 * CHANNELS) * 2 * CHANNELS
        if rest:
            self._take(array("h", bytes(self._held[:rest])))
        speaking = [_speaks(powers) for powers in self._powers]
        windows = len(speaking[0]) or 1
        return Analysis(
            loudness=tuple(_level(powers) for powers in self._powers),
            silence=round(sum(not any(sides) for sides in zip(*speaking, strict=True)) / windows, 3),
            talk_over=round(sum(all(sides) for sides in zip(*speaking, strict=True)) / windows, 3),
            peaks=tuple(_drawn(tops) for tops in self._tops),
        )


def _speaks(powers: list[float]) -> list[bool]:
    found, left = [], 0
    for power in powers:
        left = HANG if power > SPEECH else left - 1
        found.append(left > 0)
    return found


def _level(powers: list[float]) -> float:
    loud = [power for power in powers if power > SPEECH]
    return dbfs(sum(loud) / len(loud)) if loud else QUIETEST


def _drawn(tops: list[int]) -> tuple[int, ...]:
    count = min(POINTS, len(tops))
    edges = [len(tops) * point // count for point in range(count + 1)] if count else []
    return tuple(min(100, round(max(tops[start:end]) / 327.68)) for start, end in zip(edges, edges[1:], strict=False))
