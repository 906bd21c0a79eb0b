"""Keys pressed as tones (ITU-T Q.23), two at once, found by Goertzel's sums over blocks of 20 ms; and made silent.

What is asked of a block (after Q.24): nearly all of its power lies in one low and one high frequency, of nearly the
same strength, and none of their neighbours comes near. Speech seldom does that for 40 ms: two blocks in a row are a
key. Digits of a card or a PIN that somebody keys while they talk are nobody's to hear later, so a recording has
silence where they were.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import mul
from typing import Final

from recordings.clocks import RATE

LOW: Final = (697, 770, 852, 941)
HIGH: Final = (1209, 1336, 1477, 1633)
KEYS: Final = ("123A", "456B", "789C", "*0#D")

BLOCK: Final = RATE // 50
SURE: Final = 2  # blocks in a row that hold a key before it is one, or hold none before it is over
FAINTEST: Final = 200.0**2  # mean power of a block worth looking at: about -40 dBm0 a tone
PURITY: Final = 0.7  # of a block's power in the two tones
TWIST: Final = 10.0  # power of one tone over the other's, 10 dB
APART: Final = 5.0  # a tone's power over its neighbours', 7 dB
CREST: Final = 5.5  # peak over mean power: two tones have 4 at most, and noise a little more; speech mostly far more

Waves = tuple[tuple[float, ...], tuple[float, ...]]


def _waves(frequency: int) -> Waves:
    steps = [2 * math.pi * frequency * n / RATE for n in range(BLOCK)]
    return tuple(map(math.cos, steps)), tuple(map(math.sin, steps))


_LOW: Final = [_waves(frequency) for frequency in LOW]
_HIGH: Final = [_waves(frequency) for frequency in HIGH]


def key_in(block: Sequence[int]) -> str:
    """The key that a block of `BLOCK` samples holds; "" for none."""
    power = sum(map(mul, block, block))
    if power < FAINTEST * BLOCK or max(max(block), -min(block)) ** 2 * BLOCK > CREST * power:
        return ""
    low, row = _strongest(block, _LOW)
    if row < 0:
        return ""
    high, column = _strongest(block, _HIGH)
    if min(low, high) * TWIST < max(low, high) or (low + high) * 2 / BLOCK < PURITY * power:
        return ""
    return KEYS[row][column] if column >= 0 else ""


def _strongest(block: Sequence[int], group: Sequence[Waves]) -> tuple[float, int]:
    """The strongest frequency's power and place; -1 when another comes near it."""
    powers = [sum(map(mul, block, cosine)) ** 2 + sum(map(mul, block, sine)) ** 2 for cosine, sine in group]
    best = max(powers)
    near = [power for power in powers if power * APART > best]
    return best, powers.index(best) if len(near) == 1 else -1


def silenced(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """One channel's PCM16, whole samples a piece, with silence where keys were pressed and 20 ms around them. What it
    gives is as long in all, and lags by the two blocks that tell a key from a sound like one."""
    held, keys = bytearray(), [""] * SURE  # of the blocks that left last, and then of those that are held
    for piece in pieces:
        held += piece
        judged = (len(keys) - SURE) * BLOCK * 2
        fresh = array("h", bytes(held[judged : len(held) // (2 * BLOCK) * (2 * BLOCK)]))
        keys += [key_in(fresh[at : at + BLOCK]) for at in range(0, len(fresh), BLOCK)]
        ready = len(keys) - 2 * SURE
        if ready > 0:
            yield _silent(held, keys, ready)
            del keys[:ready]
    yield _silent(held, keys, len(keys) - SURE) + bytes(held)


def _silent(held: bytearray, keys: Sequence[str], count: int) -> bytes:
    """The first blocks of `held`, which it loses, without their keys."""
    taken, size = held[: count * BLOCK * 2], BLOCK * 2
    del held[: count * BLOCK * 2]
    around = zip(["", *keys], keys, [*keys[1:], ""], strict=False)
    pressed = [one != "" and one in (before, after) for before, one, after in around]
    for place in range(count):
        if any(pressed[place + SURE - 1 : place + SURE + 2]):
            taken[place * size : (place + 1) * size] = bytes(size)
    return bytes(taken)
