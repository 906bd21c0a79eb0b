"""Events and interactions of a tenant, as the archive has them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from masking import archive
from masking.events import Event, event_id
from masking.house import House
from tests.api.client import Client

AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


async def happen(house: House, tenant: str, count: int, start: int = 1) -> None:
    """Puts events into the archive, as the courier does."""
    assert house.archive is not None
    rows = []
    for seq in range(start, start + count):
        event = Event(
            id=event_id(tenant, seq), type="session.opened", occurred_at=AT, session="ses_x", seq=seq, data={"n": seq}
        )
        rows.append(
            {
                "id": event.id,
                "tenant": tenant,
                "session": event.session,
                "seq": seq,
                "type": event.type,
                "occurred_at": AT.timestamp(),
                "body": msgspec.json.encode(event).decode(),
            }
        )
    async with house.archive.begin() as connection:
        await connection.execute(archive.events.insert(), rows)


async def test_a_follower_sees_everything_once_and_comes_back_for_more(api: Client, house: House) -> None:
    await happen(house, "acme", 5)
    await happen(house, "other", 3)
    seen, query, last = [], "limit=2", None
    while True:
        page = (await api.get(f"/v1/events?{query}")).json()
        seen += [event["seq"] for event in page["data"]]
        if page["next"] is None:
            break
        last = page["next"]
        query = f"limit=2&cursor={last}"
    assert seen == [1, 2, 3, 4, 5]
    await happen(house, "acme", 2, start=6)
    page = (await api.get(f"/v1/events?cursor={last}")).json()
    assert [event["seq"] for event in page["data"]] == [6, 7]


async def test_events_of_another_tenant_stay_there(api: Client, stranger: Client, house: House) -> None:
    await happen(house, "acme", 2)
    cursor = (await api.get("/v1/events?limit=1")).json()["next"]
    assert (await stranger.get("/v1/events")).json() == {"data": [], "next": None}
    assert (await stranger.get(f"/v1/events?cursor={cursor}")).json()["data"] == []
