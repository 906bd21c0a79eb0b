"""What a batch of events adds to its tenants' usage, in the transaction that takes the events in.

An interaction adds what it is after an event less what it was before, so that a call's facts, in any order, told once
or again, add up to what the archive's interactions say. A recording is counted in once, when it becomes available, and
out once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from masking import archive, services
from masking.access import tenants
from masking.courier.rows import insert
from masking.events import seconds
from masking.usage import DAY, day_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from masking.events import Event
    from masking.house import House
    from masking.interactions import Interaction
    from masking.tenants import Rounding

Where = tuple[str, int, str]  # tenant, day, service
CHANGES: Final = frozenset({"recording.available", "recording.erased"})


class Meter:
    """Of one batch. `call`, `opened` and `recording` note, `write` adds up."""

    def __init__(self, house: House) -> None:
        self._config = house.config
        self._roundings: dict[tuple[str, str], Rounding] = {}
        self._used: dict[Where, Counter[str]] = defaultdict(Counter)
        self._kept: dict[str, tuple[str, str, int, int, int]] = {}  # tenant, service, when, bytes, ms
        self._gone: dict[str, int] = {}

    def opened(self, tenant: str, service: str, at: float) -> None:
        """A session of the service was opened."""
        self._used[tenant, day_of(at), service]["sessions"] += 1

    def call(self, tenant: str, service: str, before: Interaction | None, after: Interaction) -> None:
        """An interaction is another one than it was."""
        if after.ended_at is None:  # an end is never taken back: it has not added anything, and does not yet
            return
        rounding = self._rounding(tenant, service)
        for one, sign in ((before, -1), (after, 1)):
            if one is not None and one.ended_at is not None and (used := _of_call(one, rounding)):
                here = self._used[tenant, day_of(seconds(one.ended_at)), service]
                here.update({name: sign * count for name, count in used.items()})

    def recording(self, tenant: str, service: str, event: Event) -> None:
        """A recording became available, or was erased (`CHANGES`)."""
        name, at = str(event.data["recording"]), int(seconds(event.occurred_at))
        if event.type == "recording.erased":
            self._gone.setdefault(name, at)
        else:
            length = round(float(event.data["duration"]) * 1000)
            self._kept.setdefault(name, (tenant, service, at, int(event.data["bytes"]), length))

    async def write(self, connection: AsyncConnection) -> None:
        """Adds it all to the tables."""
        names = sorted({*self._kept, *self._gone})
        if names:
            await self._count_recordings(connection, names)
        await _upsert(connection, self._rows(), lambda old, new: old + new)

    async def _count_recordings(self, connection: AsyncConnection, names: list[str]) -> None:
        table = archive.usage_stored
        query = sql.select(table).where(table.c.recording.in_(names))
        known = {row.recording: dict(row._mapping) for row in await connection.execute(query)}
        new = {name: one for name, one in self._kept.items() if name not in known}
        for name, (tenant, service, at, size, length) in new.items():
            known[name] = {"recording": name, "tenant": tenant, "service": service, "bytes": size, "since": at}
            used = self._used[tenant, day_of(at), service]
            used.update({"recordings": 1, "recorded_ms": length})
            self._count_bytes(tenant, service, at, size)
        gone = {name: at for name, at in self._gone.items() if name in known and known[name].get("until") is None}
        for name, at in gone.items():
            self._count_bytes(known[name]["tenant"], known[name]["service"], at, -int(known[name]["bytes"]))
        rows = [known[name] | {"until": gone.get(name)} for name in sorted({*new, *gone})]
        await insert(connection, table, rows, ["until"])

    def _count_bytes(self, tenant: str, service: str, at: int, size: int) -> None:
        used = self._used[tenant, day_of(at), service]
        used["stored_bytes"] += size
        used["stored_byte_seconds"] += size * (at % DAY)

    def _rounding(self, tenant: str, service: str) -> Rounding:
        known = self._roundings.get((tenant, service))
        if known is None:
            known = self._roundings[tenant, service] = self._config.tenant_named(tenant).rounding_of(service)
        return known

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"tenant": tenant, "day": day, "service": service} | {name: used[name] for name in archive.USED}
            for (tenant, day, service), used in sorted(self._used.items())
            if any(used.values())
        ]


def _of_call(one: Interaction, rounding: Rounding) -> dict[str, int]:
    """What an ended interaction uses; one that cost nothing uses nothing."""
    length = round(one.billable * 1000)
    if not length:
        return {}
    return {"calls": 1, "call_ms": length, "billed_seconds": rounding.billed(length)}


async def _upsert(connection: AsyncConnection, rows: list[dict[str, Any]], both: Callable[[Any, Any], Any]) -> None:
    """INSERT, or where the row is there, `both(what is there, what comes)` of each count."""
    if not rows:
        return
    table = archive.usage
    statement = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    counts = [name for name in archive.USED if name in rows[0]]
    changed = {name: both(table.c[name], statement.excluded[name]) for name in counts}
    key = [column.name for column in table.primary_key]
    await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


class NumberDays:
    """Notes, looking every ten minutes, how many virtual numbers each service holds; of a day the most count."""

    def __init__(self, house: House, engine: AsyncEngine) -> None:
        self._house = house
        self._engine = engine

    async def round(self) -> int:
        """One look at every service; how many hold numbers."""
        now = self._house.now()
        rows = []
        for tenant in await tenants(self._house):
            for service in await services.listing(self._house, tenant):
                found = await self._house.inventory.figures(tenant, service.id, self._house.now_ms)
                held = sum(one.open + sum(n for state, n in one.closed.items() if state != "retired") for one in found)
                if held:
                    rows.append({"tenant": tenant, "day": day_of(now), "service": service.name, "numbers": held})
        async with self._engine.begin() as connection:
            await _upsert(connection, rows, _greater)
        return len(rows)


def _greater(old: Any, new: Any) -> Any:
    return sql.case((old > new, old), else_=new)
