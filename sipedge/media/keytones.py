"""Keys heard in the audio: two tones at once (ITU-T Q.23), found by Goertzel's sums over blocks of 20 ms.

A key is told when two blocks in a row hold it, so tones of 60 ms and more are always heard; it is over when two blocks
do not. What is asked of a block (after Q.24): nearly all of its power lies in one low and one high frequency, of nearly
the same strength, and none of their neighbours comes near. Speech seldom does that for 40 ms.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from operator import mul
from typing import Final

from sipedge.media import g711
from sipedge.media.plane import CodecName

LOW: Final = (697, 770, 852, 941)
HIGH: Final = (1209, 1336, 1477, 1633)
KEYS: Final = ("123A", "456B", "789C", "*0#D")

BLOCK: Final = g711.FRAME
SURE: Final = 2  # blocks in a row that hold a key before it is told, or hold none before it is over
FAINTEST: Final = 200.0**2  # mean power of a block worth looking at: about -40 dBm0 a tone
PURITY: Final = 0.7  # of a block's power in the two tones
TWIST: Final = 10.0  # power of one tone over the other's, 10 dB
APART: Final = 5.0  # a tone's power over its neighbours', 7 dB

Waves = tuple[tuple[float, ...], tuple[float, ...]]


def _waves(frequency: int) -> Waves:
    steps = [2 * math.pi * frequency * n / g711.RATE for n in range(BLOCK)]
    return tuple(map(math.cos, steps)), tuple(map(math.sin, steps))


_LOW: Final = [_waves(frequency) for frequency in LOW]
_HIGH: Final = [_waves(frequency) for frequency in HIGH]


def key_in(block: Sequence[int]) -> str:
    """The key that a block of `BLOCK` samples holds; "" for none."""
    power = sum(map(mul, block, block))
    if power < FAINTEST * BLOCK:
        return ""
    low, row = _strongest(block, _LOW)
    high, column = _strongest(block, _HIGH)
    if min(low, high) * TWIST < max(low, high) or (low + high) * 2 / BLOCK < PURITY * power:
        return ""
    return KEYS[row][column] if row >= 0 and column >= 0 else ""


def _strongest(block: Sequence[int], group: Sequence[Waves]) -> tuple[float, int]:
    """The strongest frequency's power and place; -1 when another comes near it."""
    powers = [sum(map(mul, block, cosine)) ** 2 + sum(map(mul, block, sine)) ** 2 for cosine, sine in group]
    best = max(powers)
    near = [power for power in powers if power * APART > best]
    return best, powers.index(best) if len(near) == 1 else -1


class Detector:
    """Hears one stream of G.711; `hear` gives each key once."""

    def __init__(self) -> None:
        self._samples = array("h")
        self._key = ""  # told, and still held
        self._candidate = ""
        self._seen = 0

    def hear(self, codec: CodecName, coded: bytes) -> str:
        """Takes the next packet's payload; the keys that became sure with it."""
        self._samples.frombytes(g711.decode(codec, coded))
        found = ""
        while len(self._samples) >= BLOCK:
            found += self._take(key_in(self._samples[:BLOCK]))
            del self._samples[:BLOCK]
        return found

    def _take(self, key: str) -> str:
        if key == self._candidate:
            self._seen += 1
        else:
            self._candidate, self._seen = key, 1
        if self._seen < SURE or key == self._key:
            return ""
        self._key = key
        return key
