"""Sounds as PCM (16-bit little-endian mono, 8 kHz): made, measured, read and written. For phones and the tests that
listen.

A frequency is found with Goertzel's filter, one frequency at a time, in plain Python: there is no number cruncher here.
"""

from __future__ import annotations

import math
import sys
import wave
from array import array
from collections.abc import Iterable
from pathlib import Path

from sipedge.media.g711 import RATE
from sipedge.media.tones import sound

TONES = (300, 350, 400, 425, 440, 480, 520, 600, 660, 700, 770, 880, 941, 1000, 1209, 1336, 1477, 1633, 2000, 2600)


def tone(frequency: int, seconds: float = 1.0, level: int = 8_000) -> bytes:
    """A sine of that many hertz; `level` is its peak."""
    return _bytes(sound((frequency,), round(seconds * RATE), level))


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


def power(pcm: bytes, frequency: float) -> float:
    """How much of the sound is that frequency: 1.0 for a pure sine of it, near 0.0 for another."""
    samples = _samples(pcm)
    total = sum(sample * sample for sample in samples)
    if not total:
        return 0.0
    factor = 2 * math.cos(2 * math.pi * frequency / RATE)
    last = before = 0.0
    for sample in samples:
        last, before = sample + factor * last - before, last
    energy = last * last + before * before - factor * last * before
    return 2 * energy / (total * len(samples))


def dominant(pcm: bytes, candidates: Iterable[int] = TONES) -> int:
    """The candidate heard most, 0 when none makes up a fifth of the sound (speech, noise, silence)."""
    best = max(candidates, key=lambda frequency: power(pcm, frequency))
    return best if power(pcm, best) >= 0.2 else 0


def level(pcm: bytes) -> float:
    """Mean power in dBFS; -inf for digital silence."""
    samples = _samples(pcm)
    mean = sum(sample * sample for sample in samples) / max(len(samples), 1)
    return 10 * math.log10(mean / 32_768**2) if mean else -math.inf


def read_wav(path: Path) -> bytes:
    """PCM of a WAV file; ValueError unless it is 16-bit mono at 8 kHz. Blocks: not for an event loop."""
    with wave.open(str(path), "rb") as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise ValueError("a clip must be a WAV of 16-bit mono at 8 kHz")
        return file.readframes(file.getnframes())


def write_wav(path: Path, pcm: bytes) -> None:
    """Writes PCM as a WAV file. Blocks: not for an event loop."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes(pcm)


def _samples(pcm: bytes) -> array[int]:
    samples = array("h", pcm)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _bytes(samples: array[int]) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
