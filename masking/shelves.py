"""Lists of sessions: the archive's pages, with what Redis knows better laid over them.

The archive is a moment behind. Sessions that changed in the last seconds (`records.touch`) are read from Redis and win
over their rows, so a list never misses what its asker has just done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from masking import records
from masking.events import seconds
from masking.sessions import Session, SessionStatus, archived_view, live_view

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House
    from masking.records import Record
    from pools.grants import Holder

RECENT_MOST: Final = 500

Position = tuple[float, str]


class Page(msgspec.Struct, frozen=True):
    """Newest first; `next` is what the following page is asked for with (`before`), None on the last one."""

    data: list[Session]
    next: Position | None


class Filter(msgspec.Struct, frozen=True):
    """Which sessions a list shows. `number` is a virtual number, E.164."""

    unique_name: str | None = None
    status: SessionStatus | None = None
    number: str | None = None
    letters: str | None = None  # that an id begins with, behind its shard

    def admits(self, session: Session) -> bool:
        if self.unique_name is not None and session.unique_name != self.unique_name:
            return False
        if self.status is not None and session.status != self.status:
            return False
        if self.letters is not None and not session.id[10:].startswith(self.letters):
            return False
        return self.number is None or any(
            proxy.number == self.number for participant in session.participants for proxy in participant.proxies
        )


async def listing(
    house: House,
    access: Access,
    *,
    unique_name: str | None = None,
    status: SessionStatus | None = None,
    number: str | None = None,
    letters: str | None = None,
    limit: int = 50,
    before: Position | None = None,
) -> Page:
    """The tenant's sessions, newest first. `before` is the `next` of the page before."""
    wanted = Filter(unique_name, status, number, letters)
    rows = await _archived(house, access.tenant, wanted, before, limit + 1)
    last = _position(rows[limit - 1]) if len(rows) > limit else None  # nothing older than this row has been looked at
    found = {row.id: row for row in rows[:limit]}
    for session in await _fresh(house, access.tenant, [row for row in found.values() if row.status != "closed"]):
        found[session.id] = session
    return _page([session for session in found.values() if wanted.admits(session)], limit, before, last)


async def of_person(
    house: House,
    access: Access,
    party: str,
    *,
    since: float | None,
    until: float | None,
    limit: int,
    before: Position | None,
) -> Page:
    """The tenant's sessions of a person (`party`: the blind index), newest first: opened before `until` (seconds since
    1970), to live until `since` or longer."""
    rows: list[Session] = []
    if house.archive is not None:
        from masking import archive

        async with house.archive.connect() as connection:
            bodies = await archive.person_page(
                connection, access.tenant, party, since=since, until=until, before=before, limit=limit + 1
            )
        rows = [archived_view(msgspec.json.decode(body, type=Session), house.now()) for body in bodies]
    last = _position(rows[limit - 1]) if len(rows) > limit else None
    found = {row.id: row for row in rows[:limit]}
    ids = {row.id for row in found.values() if row.status != "closed"} | await _recent(house, access.tenant)
    for holder, record in await _held(house, access.tenant, ids):
        session = live_view(holder, record, house.now_ms)
        if (
            party in record.parties
            and (until is None or seconds(session.created_at) < until)
            and (since is None or seconds(session.expires_at) >= since)
        ):
            found[session.id] = session
    return _page(list(found.values()), limit, before, last)


def _page(sessions: list[Session], limit: int, before: Position | None, last: Position | None) -> Page:
    """Those between `before` and `last` (the oldest that has been looked at), newest first."""
    matching = [
        session
        for session in sessions
        if (before is None or _position(session) < before) and (last is None or _position(session) >= last)
    ]
    matching.sort(key=_position, reverse=True)
    shown = matching[:limit]
    return Page(shown, _position(shown[-1]) if len(matching) > limit else last)


def _position(session: Session) -> Position:
    return seconds(session.created_at), session.id


async def _archived(house: House, tenant: str, wanted: Filter, before: Position | None, limit: int) -> list[Session]:
    if house.archive is None:
        return []
    from masking import archive

    async with house.archive.connect() as connection:
        bodies = await archive.session_page(
            connection,
            tenant,
            unique_name=wanted.unique_name,
            status=wanted.status,
            number=wanted.number,
            letters=wanted.letters,
            at=house.now(),
            before=before,
            limit=limit,
        )
    return [archived_view(msgspec.json.decode(body, type=Session), house.now()) for body in bodies]


async def _fresh(house: House, tenant: str, rows: list[Session]) -> list[Session]:
    """As Redis has them now: these open rows, and whatever changed in the last seconds."""
    ids = {row.id for row in rows} | await _recent(house, tenant)
    return [live_view(*one, house.now_ms) for one in await _held(house, tenant, ids)]


async def _recent(house: House, tenant: str) -> set[str]:
    """The sessions that changed in the last seconds."""
    since = house.now_ms - records.RECENT_MS
    names = await house.redis.command(
        "ZREVRANGEBYSCORE", records.recent(tenant), "+inf", since, "LIMIT", 0, RECENT_MOST
    )
    return {name.decode() for name in names}


async def _held(house: House, tenant: str, ids: set[str]) -> list[tuple[Holder, Record]]:
    found = await asyncio.gather(*(records.held(house, tenant, session) for session in ids))
    return [one for one in found if one is not None]
