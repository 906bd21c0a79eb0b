"""A block of numbers is taken out of service: every open session on it gets other ones, live.

Asked again it goes on where it stopped: a session that has left is on the number no more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from masking import amending, shelves
from masking.refusals import NotFound, Refused, SessionClosed

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.sessions import Session, SessionStatus

MOST: Final = 500  # sessions at a time
PAGE: Final = 200
OPEN: Final[tuple[SessionStatus, ...]] = ("open", "in_progress")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A session that had to keep its number; `code` and `problem` as `:replace_number` would have answered."""

    session: str
    number: str
    code: str
    problem: str


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """How many sessions have another number, which could get none, and whether some were not looked at yet."""

    replaced: int
    kept: list[Kept]
    more: bool


async def leave(house: House, access: Access, numbers: Iterable[str], overlap: int) -> Replaced:
    """Gives every open session on these numbers (E.164) another one; the old works on for `overlap` seconds, where its
    state lets it. `MOST` sessions at a time."""
    replaced = 0
    kept: list[Kept] = []
    for number in dict.fromkeys(numbers):
        async for session in _on(house, access, number):
            if replaced + len(kept) == MOST:
                return Replaced(replaced=replaced, kept=kept, more=True)
            try:
                await amending.replace_number(house, access, session.id, number, overlap)
                replaced += 1
            except (SessionClosed, NotFound):
                pass  # it ended meanwhile
            except Refused as why:
                kept.append(Kept(session=session.id, number=number, code=why.code, problem=why.detail))
    return Replaced(replaced=replaced, kept=kept, more=False)


async def _on(house: House, access: Access, number: str) -> AsyncIterator[Session]:
    """The open sessions whose people dial the number now."""
    for status in OPEN:
        before: shelves.Position | None = None
        while True:
            page = await shelves.listing(house, access, status=status, number=number, limit=PAGE, before=before)
            for session in page.data:
                if any(proxy.number == number for person in session.participants for proxy in person.proxies):
                    yield session
            before = page.next
            if before is None:
                break
