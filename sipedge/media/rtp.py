"""RTP packets (RFC 3550 5.1): read with every optional part checked, written without any.

The relay's packet path uses `HEADER` and `bounds` on its own buffer; everyone else `parse` and `build`.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

HEADER: Final = struct.Struct("!BBHII")  # V P X CC, M PT, sequence, timestamp, SSRC
HEADER_BYTES: Final = 12
PLAIN: Final = 0x80  # first byte of a packet without padding, extension and CSRC
MAX_BYTES: Final = 1500


class BadRtp(ValueError):
    """Not an RTP packet, or one whose lengths lie."""


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet, its extension, CSRC list and padding gone."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False


def bounds(data: bytes | bytearray, size: int) -> tuple[int, int]:
    """Where the payload of the packet in `data[:size]` begins and ends. Raises `BadRtp`."""
    if size < HEADER_BYTES:
        raise BadRtp("shorter than a header")
    first = data[0]
    if first >> 6 != 2:
        raise BadRtp("not version 2")
    begin = HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:  # RFC 3550 5.3.1: 16 bits profile, 16 bits length in words
        if size < begin + 4:
            raise BadRtp("header extension cut short")
        begin += 4 + 4 * int.from_bytes(data[begin + 2 : begin + 4], "big")
    end = size
    if first & 0x20:
        padding = data[size - 1]
        if not padding:
            raise BadRtp("padding of no length")
        end -= padding
    if end < begin:
        raise BadRtp("lengths beyond the packet")
    return begin, end


def parse(data: bytes) -> Packet:
    """Reads a packet. Raises `BadRtp`, never anything else."""
    begin, end = bounds(data, len(data))
    _, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    return Packet(second & 0x7F, sequence, timestamp, ssrc, data[begin:end], second > 0x7F)


def build(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool = False
) -> bytes:
    """Writes a plain packet; sequence and timestamp wrap by themselves."""
    second = payload_type | 0x80 if marker else payload_type
    return HEADER.pack(PLAIN, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload
