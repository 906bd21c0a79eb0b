"""RTCP (RFC 3550 6): our own reports with our own CNAME, and what a peer's reports say about our stream.

Nothing of a peer's RTCP passes: it is read here and ends here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, GOODBYE = 200, 201, 202, 203
MAX_PACKETS: Final = 8  # in one compound
_NTP_EPOCH: Final = 2_208_988_800  # seconds from 1900 to 1970
_BLOCK: Final = struct.Struct("!IIIIII")


class BadRtcp(ValueError):
    """Not an RTCP compound packet, or one whose lengths lie."""


class Block(msgspec.Struct, frozen=True):
    """What one side says about the stream it receives (RFC 3550 6.4.1).

    `ssrc`: the stream's source; `fraction` 0..1 lost since the last report; `lost` in all; `highest` extended sequence
    number; `jitter` in timestamp units; `last_report`/`delay`: LSR and DLSR, 1/65536 s.
    """

    ssrc: int
    fraction: float
    lost: int
    highest: int
    jitter: int
    last_report: int
    delay: int

    def bytes(self) -> bytes:
        """As it stands in a packet; what is beyond a field's size stops at its end or wraps, as the field does."""
        lost = min(max(self.lost, -0x800000), 0x7FFFFF) & 0xFFFFFF
        word = min(int(self.fraction * 256), 255) << 24 | lost
        delay = min(self.delay, 0xFFFFFFFF)  # a report of 18 hours ago
        return _BLOCK.pack(self.ssrc, word, self.highest & 0xFFFFFFFF, self.jitter, self.last_report, delay)


class Sent(msgspec.Struct, frozen=True):
    """What we sent so far: the sender's part of a report."""

    wall: float
    timestamp: int
    packets: int
    octets: int


class Report(msgspec.Struct, frozen=True):
    """A peer's compound packet, as far as we care: who sent it, its middle NTP bits (0: no SR), what it heard."""

    ssrc: int
    middle: int
    blocks: tuple[Block, ...]
    goodbye: bool = False


def middle(wall: float) -> int:
    """The middle 32 bits of an NTP time stamp (RFC 3550 4); `wall` is seconds since 1970."""
    return int((wall + _NTP_EPOCH) * 65_536) & 0xFFFFFFFF


def build(ssrc: int, cname: str, sent: Sent | None, blocks: Sequence[Block] = ()) -> bytes:
    """SR (RR when nothing was sent) and SDES with our CNAME: the smallest lawful compound (RFC 3550 6.1)."""
    if sent is None:
        body, kind = b"", RECEIVER_REPORT
    else:
        whole = int((sent.wall + _NTP_EPOCH) * 0x1_0000_0000) & 0xFFFF_FFFF_FFFF_FFFF
        counts = (sent.timestamp & 0xFFFFFFFF, sent.packets & 0xFFFFFFFF, sent.octets & 0xFFFFFFFF)
        body, kind = struct.pack("!QIII", whole, *counts), SENDER_REPORT
    body += b"".join(block.bytes() for block in blocks)
    report = _packet(kind, len(blocks), ssrc.to_bytes(4, "big") + body)
    name = cname.encode("ascii")
    item = ssrc.to_bytes(4, "big") + bytes((1, len(name))) + name
    return report + _packet(DESCRIPTION, 1, item + b"\0" * (4 - len(item) % 4))


def goodbye(ssrc: int) -> bytes:
    """BYE, to follow a report in its compound."""
    return _packet(GOODBYE, 1, ssrc.to_bytes(4, "big"))


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def parse(data: bytes) -> Report:
    """Reads a compound packet. Raises `BadRtcp`, never anything else."""
    ssrc, middle_bits, goodbye_seen = 0, 0, False
    blocks: list[Block] = []
    at = 0
    for index in range(MAX_PACKETS):
        if at == len(data) and index:
            return Report(ssrc, middle_bits, tuple(blocks), goodbye_seen)
        if len(data) - at < 4 or data[at] >> 6 != 2:
            raise BadRtcp("not a header")
        count, kind = data[at] & 31, data[at + 1]
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise BadRtcp("longer than its datagram")
        body = data[at + 4 : end]
        if index == 0:  # RFC 3550 A.2: a compound begins with a report
            if kind not in (SENDER_REPORT, RECEIVER_REPORT) or len(body) < 4:
                raise BadRtcp("does not begin with a report")
            ssrc = int.from_bytes(body[:4], "big")
        if kind in (SENDER_REPORT, RECEIVER_REPORT):
            skip = 24 if kind == SENDER_REPORT else 4
            if len(body) < skip + 24 * count:
                raise BadRtcp("report blocks cut short")
            if kind == SENDER_REPORT:
                middle_bits = int.from_bytes(body[6:10], "big")
            blocks += [_block(body, skip + 24 * number) for number in range(count)]
        goodbye_seen |= kind == GOODBYE
        at = end
    if at == len(data):
        return Report(ssrc, middle_bits, tuple(blocks), goodbye_seen)
    raise BadRtcp("too many packets")


def _block(body: bytes, at: int) -> Block:
    ssrc, word, highest, jitter, last, delay = _BLOCK.unpack_from(body, at)
    lost = word & 0xFFFFFF
    return Block(ssrc, (word >> 24) / 256, lost - 0x1000000 if lost & 0x800000 else lost, highest, jitter, last, delay)
