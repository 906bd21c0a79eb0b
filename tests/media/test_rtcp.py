"""RTCP: our reports read back, theirs are bounded, and no CNAME but ours is ever written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sipedge.media import rtcp
from sipedge.media.rtcp import BadRtcp, Block, Report, Sent

BLOCK = Block(ssrc=9, fraction=0.25, lost=-2, highest=70_000, jitter=12, last_report=0x1234, delay=655)


def test_a_report_reads_back_as_it_was_built() -> None:
    data = rtcp.build(5, "c0ffee", Sent(1_800_000_000.5, 160, 3, 480), [BLOCK])
    assert rtcp.parse(data) == Report(5, rtcp.middle(1_800_000_000.5), (BLOCK,))
    assert len(data) % 4 == 0 and b"c0ffee" in data


def test_who_sent_nothing_sends_a_receiver_report() -> None:
    data = rtcp.build(5, "abc", None, [BLOCK])
    assert data[1] == rtcp.RECEIVER_REPORT
    assert rtcp.parse(data) == Report(5, 0, (BLOCK,))


def test_a_goodbye_is_heard() -> None:
    assert rtcp.parse(rtcp.build(5, "abcd", None) + rtcp.goodbye(5)).goodbye


def test_the_whole_of_a_name_fits_every_length() -> None:
    for length in range(1, 40):
        assert len(rtcp.build(1, "x" * length, None)) % 4 == 0
        rtcp.parse(rtcp.build(1, "x" * length, None))


def test_counts_beyond_their_field_are_written_as_the_field_can() -> None:
    written = rtcp.build(
        5, "abc", Sent(1.0, 1 << 40, 1 << 40, 1 << 40), [Block(9, 1.5, 1 << 30, 1 << 33, 1, 2, 1 << 40)]
    )
    (block,) = rtcp.parse(written).blocks
    assert (block.fraction, block.lost, block.highest, block.delay) == (255 / 256, 0x7FFFFF, 0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xc9",
        b"\x40\xc9\x00\x01\0\0\0\1",
        b"\x80\xca\x00\x01\0\0\0\1",  # SDES first
        b"\x80\xc9\x00\x00",
        b"\x80\xc9\xff\xff\0\0\0\1",
        b"\x81\xc9\x00\x01\0\0\0\1",  # one block announced, none there
        b"\x80\xc9\x00\x01\0\0\0\1" * 20,
    ],
)
def test_a_compound_that_lies_is_refused(data: bytes) -> None:
    with pytest.raises(BadRtcp):
        rtcp.parse(data)


@given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda tail: rtcp.build(5, "abc", None, [BLOCK]) + tail))
def test_whatever_comes_is_a_report_or_refused(data: bytes) -> None:
    try:
        report = rtcp.parse(data)
    except BadRtcp:
        return
    assert len(report.blocks) <= rtcp.MAX_PACKETS * 31
