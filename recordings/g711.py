"""G.711 at rest: the two laws as look-up tables for whole payloads (ITU-T G.711; the code of silence is the smallest
step)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _alaw(code: int) -> int:
    code ^= 0x55  # even bits travel inverted
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 0x108 << exponent - 1
    return magnitude if code & 0x80 else -magnitude


def _ulaw(code: int) -> int:
    code ^= 0xFF  # all bits travel inverted
    magnitude = ((code & 15) << 3) + 0x84 << (code >> 4 & 7)
    return 0x84 - magnitude if code & 0x80 else magnitude - 0x84


LINEAR: Final[Mapping[str, tuple[int, ...]]] = {
    "PCMA": tuple(map(_alaw, range(256))),
    "PCMU": tuple(map(_ulaw, range(256))),
}
"""Codec -> the 16-bit value of every code."""

_BYTES: Final = {
    codec: (bytes(v & 0xFF for v in values), bytes(v >> 8 & 0xFF for v in values)) for codec, values in LINEAR.items()
}


def pcm16(codec: str, payload: bytes) -> bytearray:
    """The payload as 16-bit little-endian samples. Two translations and two slices: no loop over samples."""
    low, high = _BYTES[codec]
    samples = bytearray(2 * len(payload))
    samples[0::2] = payload.translate(low)
    samples[1::2] = payload.translate(high)
    return samples
