"""RFC 9110, 14: the part a request asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking.api.problems import Declined
from masking.api.ranges import Part, part_of

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=90-1000", 90, 100),
        ("bytes=99-", 99, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-1000", 0, 100),
        ("Bytes = 5-6", 5, 7),
    ],
)
def test_a_range_is_cut_to_what_there_is(asked: str, start: int, end: int) -> None:
    assert part_of({"range": asked}, 100, ETAG) == Part(start, end, True)


@pytest.mark.parametrize("asked", ["", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,4-5", "lines=0-1", "bytes=a-b"])
def test_a_range_we_do_not_read_is_the_whole(asked: str) -> None:
    assert part_of({"range": asked}, 100, ETAG) == Part(0, 100, False)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_is_not_satisfiable(asked: str) -> None:
    with pytest.raises(Declined) as caught:
        part_of({"range": asked}, 100, ETAG)
    assert (caught.value.status, caught.value.headers["Content-Range"]) == (416, "bytes */100")


def test_rfc_9110_13_1_5_if_range_holds_for_the_same_bytes_alone() -> None:
    assert part_of({"range": "bytes=0-0", "if-range": ETAG}, 100, ETAG).partial
    for other in ('"abd"', 'W/"abc"', "Sun, 22 Nov 2026 12:00:00 GMT"):
        assert part_of({"range": "bytes=0-0", "if-range": other}, 100, ETAG) == Part(0, 100, False)


@given(asked=st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True), size=st.integers(0, 1000))
def test_whatever_is_asked_the_part_lies_inside(asked: str, size: int) -> None:
    try:
        part = part_of({"range": asked}, size, ETAG)
    except Declined as declined:
        assert declined.status == 416
    else:
        assert 0 <= part.start <= part.end <= size
        assert not part.partial or part.size > 0
