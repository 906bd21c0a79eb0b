"""What Twilio's face asks of the archive, answered by either database."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from masking import archive, sids
from pools.grants import holder_in

NUMBER, NOW = "+842471000001", 1000.0


async def test_the_face_asks_for_its_own_sessions_their_calls_and_what_a_number_carries(archived: AsyncEngine) -> None:
    letters = sids.session_letters("svc_rides")
    mine = [holder_in("abc123", letters(bytes([place]) * 17)) for place in range(3)]
    other = holder_in("abc123", "0" * 6 + "zz" + "0" * 14)
    rows = [
        {
            "id": name, "tenant": "acme", "unique_name": None, "status": "closed" if place == 2 else "open",
            "created_at": float(place), "expires_at": NOW + place - 1, "seq": 1, "body": name,
        }
        for place, name in enumerate([*mine, other])
    ]  # fmt: skip
    calls = [
        {"id": f"int_{at}", "tenant": "acme", "session": mine[0], "started_at": at, "body": "{}"}
        for at in (5.0, 7.0, 6.0)
    ]
    async with archived.begin() as connection:
        await connection.execute(archive.sessions.insert(), rows)
        await connection.execute(archive.interactions.insert(), calls)
        held = [
            {"session": row["id"], "number": NUMBER, "tenant": "acme", "created_at": row["created_at"]} for row in rows
        ]
        await connection.execute(archive.session_numbers.insert(), held)
    async with archived.connect() as connection:
        page = await archive.session_page(
            connection, "acme", unique_name=None, status=None, number=None, at=NOW, before=None, limit=9,
            letters=sids.letters_prefix("svc_rides"),
        )  # fmt: skip
        assert page == mine[::-1]
        assert await archive.first_and_last_calls(connection, mine) == {mine[0]: (5.0, 7.0)}
        assert await archive.first_and_last_calls(connection, []) == {}
        assert await archive.open_sessions_on(connection, "acme", NUMBER, NOW - 2) == 3, "one is closed"
        assert await archive.open_sessions_on(connection, "acme", NUMBER, NOW) == 1, "two have ended"
        assert await archive.open_sessions_on(connection, "other", NUMBER, NOW) == 0
