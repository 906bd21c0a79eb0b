"""G.711 A-law and µ-law by table: between the two laws with `bytes.translate`, to and from 16-bit linear PCM.

PCM is little-endian 16-bit signed mono at 8 kHz everywhere in this house; one coded byte is one sample.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from sipedge.media.plane import CodecName

RATE: Final = 8000
FRAME: Final = 160  # samples, and coded bytes, of 20 ms
SILENCE: Final[Mapping[CodecName, int]] = {"PCMA": 0xD5, "PCMU": 0xFF}  # the code of sample 0 (A-law: 8)


def _alaw_sample(code: int) -> int:
    """G.711 table 1: even bits inverted, 3 bits segment, 4 bits step; the sign bit says positive."""
    code ^= 0x55
    segment, step = code >> 4 & 7, code & 15
    size = step * 16 + 8 if segment == 0 else (step * 16 + 0x108) << segment - 1
    return size if code & 0x80 else -size


def _ulaw_sample(code: int) -> int:
    """G.711 table 2: all bits inverted, steps biased by 33 (132 at 16 bits); the sign bit says negative."""
    code ^= 0xFF
    size = ((code & 15) * 8 + 0x84 << (code >> 4 & 7)) - 0x84
    return -size if code & 0x80 else size


SAMPLES: Final[Mapping[CodecName, tuple[int, ...]]] = {
    "PCMA": tuple(map(_alaw_sample, range(256))),
    "PCMU": tuple(map(_ulaw_sample, range(256))),
}


@lru_cache(maxsize=2)
def _coder(codec: CodecName) -> bytes:
    """PCM sample, as an unsigned 16-bit index, -> the code whose sample lies nearest."""
    ordered = sorted((sample, code) for code, sample in enumerate(SAMPLES[codec]))
    table = bytearray()
    for (sample, code), (following, _) in zip(ordered, [*ordered[1:], (65_536, 0)], strict=True):
        last = min((sample + following) // 2, 32_767)  # the last sample that is nearer to this code
        table += bytes((code,)) * (last + 32_768 + 1 - len(table))
    table[32_768] = SILENCE[codec]  # µ-law has two zeros, A-law none: digital silence is one code, always
    return bytes(table[32_768:] + table[:32_768])


def _translation(source: CodecName, target: CodecName) -> bytes:
    coder = _coder(target)
    return bytes(coder[sample & 0xFFFF] for sample in SAMPLES[source])


@lru_cache(maxsize=4)
def translation(source: CodecName, target: CodecName) -> bytes | None:
    """The table for `bytes.translate` from one law to the other, None when they are the same."""
    return None if source == target else _translation(source, target)


_LOW: Final = {name: bytes(sample & 0xFF for sample in samples) for name, samples in SAMPLES.items()}
_HIGH: Final = {name: bytes(sample >> 8 & 0xFF for sample in samples) for name, samples in SAMPLES.items()}


def decode(codec: CodecName, coded: bytes) -> bytes:
    """Coded bytes -> PCM, two bytes a sample."""
    pcm = bytearray(2 * len(coded))
    pcm[0::2] = coded.translate(_LOW[codec])
    pcm[1::2] = coded.translate(_HIGH[codec])
    return bytes(pcm)


def encode(codec: CodecName, pcm: bytes) -> bytes:
    """PCM -> coded bytes; an odd last byte is dropped."""
    samples = array("H", pcm[: len(pcm) & ~1])
    if sys.byteorder == "big":
        samples.byteswap()
    return bytes(map(_coder(codec).__getitem__, samples))
