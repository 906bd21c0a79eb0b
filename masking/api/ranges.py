"""Byte ranges (RFC 9110, 14): the one range a request may ask for, and what it comes to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from masking.api.problems import Declined

_ONE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `start` to `end` (exclusive); `partial` when the request asked for a range and gets it."""

    start: int
    end: int
    partial: bool

    @property
    def size(self) -> int:
        return self.end - self.start


def part_of(headers: Mapping[str, str], size: int, etag: str) -> Part:
    """What a request gets of `size` bytes named `etag`.

    A Range we do not read (another unit, several ranges) is ignored, as 14.2 allows. If-Range holds for our strong
    ETag only (13.1.5); else the whole file goes out. `Declined(range_not_satisfiable)` when nothing lies in the range.
    """
    whole = Part(0, size, False)
    match = _ONE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return whole
    first, last = match.groups()
    if not first and not last:
        return whole
    if first and last and int(last) < int(first):
        return whole  # 14.1.1: an invalid range set, as if there were none
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:  # the last n bytes
        start, end = max(0, size - int(last)), size
    if start >= size or start >= end:
        raise Declined(
            "range_not_satisfiable", f"There are {size} bytes.", headers={"Content-Range": f"bytes */{size}"}
        )
    return Part(start, end, True)
