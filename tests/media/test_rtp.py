"""RTP packets: every optional part is checked and taken off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.media import rtp
from sipedge.media.rtp import BadRtp, Packet

PLAIN = rtp.build(8, 7, 160, 0xABCD, b"\xd5" * 160)


def test_a_packet_reads_back_as_it_was_built() -> None:
    data = rtp.build(101, 65_537, 1 << 32, 5, b"abc", marker=True)
    assert rtp.parse(data) == Packet(101, 1, 0, 5, b"abc", True)


def test_extension_csrc_list_and_padding_are_taken_off() -> None:
    head = bytes((0x80 | 0x20 | 0x10 | 2, 8)) + PLAIN[2:12]
    data = head + b"csr1csr2" + b"\xbe\xde\x00\x01EXT!" + b"voice" + b"\0\0\x03"
    assert rtp.parse(data).payload == b"voice"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:11],
        b"\x40" + PLAIN[1:],
        b"\x8f" + PLAIN[1:40],
        b"\x90" + PLAIN[1:12],
        b"\x90" + PLAIN[1:12] + b"\0\0\xff\xff",
        b"\xa0" + PLAIN[1:12] + b"\0",
        b"\xa0" + PLAIN[1:12] + b"\xff",
    ],
)
def test_lengths_that_lie_are_refused(data: bytes) -> None:
    with pytest.raises(BadRtp):
        rtp.parse(data)


@given(
    st.binary(max_size=64) | st.tuples(st.binary(max_size=3), st.binary(max_size=64)).map(lambda p: p[0] + PLAIN + p[1])
)
def test_whatever_comes_is_a_packet_or_refused(data: bytes) -> None:
    try:
        packet = rtp.parse(data)
    except BadRtp:
        return
    assert len(packet.payload) <= len(data) - 12


@given(
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=200),
)
def test_building_and_parsing_are_inverse(kind: int, sequence: int, timestamp: int, ssrc: int, payload: bytes) -> None:
    assert rtp.parse(rtp.build(kind, sequence, timestamp, ssrc, payload)) == Packet(
        kind, sequence, timestamp, ssrc, payload
    )
