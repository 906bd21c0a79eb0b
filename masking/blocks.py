"""Blocks of virtual numbers, as carriers sell them: `+842471000000-+842471000099` is a hundred of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MOST: Final = 1_000_000  # numbers of one block: nobody means more
_E164: Final = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)


def spread(text: str) -> Iterator[str]:
    """The numbers a text stands for, E.164: itself, or all from the first to the last. ValueError, which does not
    repeat the text, for a block that is none."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        return iter((text.strip(),))
    if not _E164.fullmatch(first) or not _E164.fullmatch(last) or len(first) != len(last):
        raise ValueError("a block is two E.164 numbers of one length with - between")
    low, high = int(first[1:]), int(last[1:])
    if not low <= high < low + MOST:
        raise ValueError(f"a block goes from its lowest number to its highest, {MOST:,} at most")
    return (f"+{number}" for number in range(low, high + 1))
