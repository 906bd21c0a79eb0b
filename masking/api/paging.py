"""Lists: `{"data": […], "next": cursor or null}`, and what a cursor is.

A cursor is the position of the last entry shown (its sort key and id), never an offset: entries that arrive or leave
meanwhile move nothing. It is opaque to the caller, names the list it belongs to, and carries no secret: whose entries
may be seen is decided by the key of each request.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

import msgspec

from masking.api.problems import Declined
from masking.refusals import FieldError

T = TypeVar("T")
P = TypeVar("P")

Limit = Annotated[int, msgspec.Meta(ge=1, le=500, description="Entries per page.")]
Cursor = Annotated[str, msgspec.Meta(max_length=512, description="`next` of the page before.")]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; `next` is null on the last one."""

    data: list[T]
    next: str | None


class Paged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query parameters every list takes."""

    limit: Limit = 50
    cursor: Cursor | None = None


def cursor_for(list_name: str, position: object) -> str:
    """The cursor that continues `list_name` after `position` (anything msgpack can hold)."""
    packed = msgspec.msgpack.encode([list_name, position])
    return "c" + base64.urlsafe_b64encode(packed + zlib.crc32(packed).to_bytes(4)).decode().rstrip("=")


def position_in(list_name: str, cursor: str | None, kind: type[P]) -> P | None:
    """The position a cursor of `list_name` stands for; `Declined(invalid_cursor)` when it is not one of ours."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor[1:] + "=" * (-len(cursor[1:]) % 4), altchars=b"-_", validate=True)
        packed, check = raw[:-4], raw[-4:]
        if cursor[:1] != "c" or zlib.crc32(packed).to_bytes(4) != check:
            raise ValueError
        name, position = msgspec.msgpack.decode(packed, type=tuple[str, msgspec.Raw])
        if name != list_name:
            raise ValueError
        return msgspec.msgpack.decode(position, type=kind)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise Declined(
            "invalid_cursor",
            "The cursor is not one this list gave out.",
            errors=[FieldError("cursor", "is not one this list gave out", "the `next` of a page of this list")],
        ) from None


def page_of(rows: Sequence[T], list_name: str, query: Paged, key: Callable[[T], str]) -> Page[T]:
    """The page that `query` asks for of a list that is whole in memory, grows at its end alone, and has unique keys."""
    start = 0
    last = position_in(list_name, query.cursor, str)
    if last is not None:
        start = next((index + 1 for index, row in enumerate(rows) if key(row) == last), len(rows))
    shown = list(rows[start : start + query.limit])
    more = start + query.limit < len(rows)
    return Page(shown, cursor_for(list_name, key(shown[-1])) if more else None)
