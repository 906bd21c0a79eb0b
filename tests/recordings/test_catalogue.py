"""The catalogue: each recording found by what a dispute knows of it, its status moving one way."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from recordings import catalogue
from recordings.catalogue import Channel, Filter, Notice, Recording
from recordings.render import Gap
from tests.recordings import drafts
from tests.recordings.vaults import whole_of

X, Y = "+842400000001", "+842400000002"
CHANNELS = (Channel(1, "par_c", "customer"), Channel(2, "par_d", "driver"))
SOUND = bytes(319_404)
DIGEST = hashlib.sha256(SOUND).hexdigest()
START = 1_700_000_000.1234


async def begun(connection: AsyncConnection, number: int = 1, **changes: object) -> None:
    facts: dict[str, object] = {
        "tenant": "t",
        "recording": f"rec_{number:03}",
        "session": "ses_1",
        "interaction": f"int_{number:03}",
        "unique_name": "order-1",
        "started_at": START + number,
        "channels": CHANNELS,
        "words": (X, Y),
    }
    await drafts.begun(connection, **(facts | changes))


async def finished(connection: AsyncConnection, number: int = 1) -> None:
    whole = whole_of(f"t/rec_{number:03}.wav", SOUND, duration=9.98)
    gaps = (Gap(1.0, 1.5, 2),)
    await catalogue.finished(connection, f"rec_{number:03}", msgspec.structs.replace(whole, gaps=gaps))


async def only(connection: AsyncConnection) -> Recording:
    found = await catalogue.get(connection, "t", "rec_001")
    assert found is not None
    return found.recording


async def ids(connection: AsyncConnection, tenant: str = "t", **narrowed: object) -> list[str]:
    asked = msgspec.convert(narrowed, Filter)
    return [one.id for one in await catalogue.page(connection, tenant, asked, before=None, limit=500)]


async def test_a_recording_has_the_shape_of_the_contract(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await begun(connection, started_at=START)
        await drafts.noticed(connection, "int_001", [Notice("en/recording_notice", "cd" * 32, 1, 0.02, 3.4)])
        await drafts.call_ended(connection, "int_001", START + 9.98)
        await finished(connection)
        assert msgspec.json.decode(msgspec.json.encode(await only(connection))) == {
            "id": "rec_001",
            "session": "ses_1",
            "interaction": "int_001",
            "unique_name": "order-1",
            "status": "available",
            "hold": None,
            "started_at": "2023-11-14T22:13:20.123000Z",
            "duration": 9.98,
            "sha256": DIGEST,
            "bytes": 319_404,
            "original": {"format": "wav", "sha256": DIGEST, "bytes": 319_404},
            "loudness": [-20.5, -96.3],
            "silence": 0.25,
            "talk_over": 0.0,
            "peaks": [[1, 50], [0, 0]],
            "pauses": [],
            "gaps": [{"from": 1.0, "to": 1.5, "channel": 2}],
            "channels": [
                {"index": 1, "participant": "par_c", "role": "customer"},
                {"index": 2, "participant": "par_d", "role": "driver"},
            ],
            "notices": [{"asset": "en/recording_notice", "sha256": "cd" * 32, "leg": 1, "at": 0.02, "to": 3.4}],
            "retain_until": None,
        }


async def test_a_status_moves_one_way_whatever_comes_again(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await begun(connection)
        await finished(connection)
        assert (await only(connection)).status == "recording"
        await drafts.call_ended(connection, "int_001", START + 10)
        assert (await only(connection)).status == "processing"
        await finished(connection)
        available = await only(connection)
        assert available.status == "available"
        await begun(connection)
        await drafts.call_ended(connection, "int_001", START + 99)
        await catalogue.failed(connection, "rec_001")
        await finished(connection)
        assert await only(connection) == available
        row = await catalogue.get(connection, "t", "rec_001")
        assert row is not None and row.ended_at == START + 10 and row.key == "t/rec_001.wav"


async def test_a_batch_of_many_calls_writes_what_one_by_one_would(engine: AsyncEngine) -> None:
    notices = (Notice("vi/recording_notice", "cd" * 32, 1, 0.02, 3.4),)
    calls = [f"int_{number:03}" for number in range(1, 5)]
    async with engine.begin() as connection:
        await begun(connection, 1)
        await drafts.call_ended(connection, calls[0], START + 9)
        await finished(connection, 1)
    async with engine.begin() as connection:
        draft = catalogue.Draft(connection)
        await draft.load(calls)
        for number, call in enumerate(calls, 1):
            draft.begun(
                tenant="t", recording=f"rec_{number:03}", session="ses_1", interaction=call, unique_name="order-1",
                started_at=START + number, channels=CHANNELS, words=(X, Y),
            )  # fmt: skip
            draft.noticed(call, notices)
        for number in (1, 2, 4):
            draft.call_ended(calls[number - 1], START + 20 + number)
        draft.call_ended("int_of_no_recording", START)
        await draft.write()
    async with engine.begin() as connection:
        rows = [await catalogue.get(connection, "t", f"rec_{number:03}") for number in range(1, 5)]
        assert [(row.recording.status, row.ended_at, row.recording.notices) for row in rows if row] == [
            ("available", START + 9, notices),
            ("processing", START + 22, notices),
            ("recording", None, notices),
            ("processing", START + 24, notices),
        ]
        assert rows[0] is not None and rows[0].key == "t/rec_001.wav", "what the finisher wrote stays"
        assert await ids(connection, number=X) == await ids(connection, participant="par_c")
        assert len(await ids(connection, number=X)) == 4


async def test_a_failed_recording_stays_failed(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await begun(connection)
        await drafts.call_ended(connection, "int_001", START + 10)
        await catalogue.failed(connection, "rec_001")
        await finished(connection)
        failed = await only(connection)
        assert (failed.status, failed.sha256, failed.bytes, failed.duration) == ("failed", None, None, None)


async def test_unfinished_are_those_of_ended_calls_that_nobody_was_told_of(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for number in range(1, 6):
            await begun(connection, number)
        for number, at in ((2, 30.0), (3, 10.0), (4, 20.0), (5, 40.0)):
            await drafts.call_ended(connection, f"int_{number:03}", START + at)
        await finished(connection, 4)
        await catalogue.failed(connection, "rec_005")
        await catalogue.told(connection, "rec_005")
        rows = await catalogue.unfinished(connection)
        assert [(row.recording.id, row.recording.status) for row in rows] == [
            ("rec_003", "processing"),
            ("rec_004", "available"),
            ("rec_002", "processing"),
        ]
        assert [row.recording.id for row in await catalogue.unfinished(connection, limit=1)] == ["rec_003"]


async def test_one_is_found_by_session_order_number_participant_and_time(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await begun(connection, 1)
        await begun(connection, 2, session="ses_2", unique_name=None)
        await begun(connection, 3, words=(Y,), channels=(CHANNELS[0],))
        await begun(connection, 4, words=(X, X), channels=(CHANNELS[0], Channel(2, None)))
        await begun(connection, 5, tenant="other")
        assert await ids(connection) == ["rec_004", "rec_003", "rec_002", "rec_001"]
        assert await ids(connection, session="ses_2") == ["rec_002"]
        assert await ids(connection, unique_name="order-1") == ["rec_004", "rec_003", "rec_001"]
        assert await ids(connection, number=X) == ["rec_004", "rec_002", "rec_001"]
        assert await ids(connection, participant="par_d") == ["rec_002", "rec_001"]
        assert await ids(connection, number=Y, participant="par_d") == ["rec_002", "rec_001"]
        assert await ids(connection, number=X, participant="par_c", unique_name="order-1") == ["rec_004", "rec_001"]
        assert await ids(connection, number="+842499999999") == []
        at = round(START + 2, 3)
        assert await ids(connection, since=at) == ["rec_004", "rec_003", "rec_002"]
        assert await ids(connection, until=at) == ["rec_001"]
        assert await ids(connection, number=X, since=at, until=at + 1) == ["rec_002"]


async def test_tenants_never_see_each_other(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await begun(connection)
        assert await catalogue.get(connection, "other", "rec_001") is None
        for narrowed in ({}, {"number": X}, {"participant": "par_c"}, {"session": "ses_1"}, {"unique_name": "order-1"}):
            assert await ids(connection, "other", **narrowed) == []


@pytest.mark.parametrize("narrowed", [Filter(), Filter(number=X), Filter(unique_name="order-1")])
async def test_pages_meet_without_a_gap_or_a_repeat_even_at_one_instant(engine: AsyncEngine, narrowed: Filter) -> None:
    async with engine.begin() as connection:
        for number in range(1, 24):
            await begun(connection, number, started_at=START + number // 5 / 7)
        seen: list[Recording] = []
        before = None
        while page := await catalogue.page(connection, "t", narrowed, before=before, limit=4):
            seen += page
            before = catalogue.position(page[-1])
        assert len(seen) == len({one.id for one in seen}) == 23
        assert all(catalogue.position(a) > catalogue.position(b) for a, b in pairwise(seen))
