"""Twilio's lists: one member with the records, one (`meta`) that says where the next page is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec

from masking.api.twilio.asked import Answer
from masking.api.twilio.errors import BAD_REQUEST, Trouble

if TYPE_CHECKING:
    from masking.api.twilio.asked import Asked

DEFAULT: Final = 50
MOST: Final = 1000  # asked for; a page has `FULL` at most, as Twilio's
FULL: Final = 100
LAST: Final = 1_000_000


class Wanted(msgspec.Struct, frozen=True):
    """Which page: `token` leads to it where there is one, else its number."""

    size: int
    page: int
    token: str | None


def wanted(asked: Asked) -> Wanted:
    unknown = asked.query.keys() - {"PageSize", "Page", "PageToken"}
    if unknown:
        raise Trouble(BAD_REQUEST, "A query parameter is not known; expected PageSize, Page and PageToken.")
    size = _whole(asked, "PageSize", DEFAULT, 1, MOST)
    return Wanted(min(size, FULL), _whole(asked, "Page", 0, 0, LAST), asked.query.get("PageToken") or None)


def _whole(asked: Asked, name: str, default: int, least: int, most: int) -> int:
    text = asked.query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise Trouble(BAD_REQUEST, f"{name}: expected {least}..{most}.")
    return int(text[:9])


def listed(asked: Asked, key: str, url: str, rows: Sequence[Any]) -> Answer:
    """The page of a list that is whole in memory."""
    page = wanted(asked)
    start = page.page * page.size
    more = start + page.size < len(rows)
    return _answer(key, url, page, rows[start : start + page.size], more, None)


def led(key: str, url: str, page: Wanted, rows: Sequence[Any], following: str | None) -> Answer:
    """The page of a list that goes on where the token `following` says."""
    return _answer(key, url, page, rows, following is not None, following)


def _answer(key: str, url: str, page: Wanted, rows: Sequence[Any], more: bool, following: str | None) -> Answer:
    def where(number: int, token: str | None) -> str:
        said: dict[str, str | int] = {"PageSize": page.size, "Page": number}
        return f"{url}?{urlencode(said | ({'PageToken': token} if token is not None else {}))}"

    # A list that tokens lead through is read forwards.
    back = where(page.page - 1, None) if page.page > 0 and page.token is None else None
    meta = {
        "page": page.page,
        "page_size": page.size,
        "first_page_url": where(0, None),
        "previous_page_url": back,
        "url": where(page.page, page.token),
        "next_page_url": where(page.page + 1, following) if more else None,
        "key": key,
    }
    return Answer(200, {key: list(rows), "meta": meta})
