"""The finisher: one recording and one event for every call, whenever and however often the courier dies."""

from __future__ import annotations

import hashlib
import io
import os
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from anyio.to_thread import run_sync
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from masking import access, archive, events, services
from masking.config import Config, RecordingsSection
from masking.courier import finisher
from masking.courier.finisher import MISSING, STRAY, Finisher, key_of
from masking.courier.retention import Misplaced, Retention, check_regions
from masking.house import House
from masking.keeping import RecordingStorage
from masking.refusals import Invalid
from masking.services import ServiceChange
from pools.grants import Ask, Entry, holder_id
from pools.inventory import Inventory, Item
from pools.keyring import Keyring
from pools.leases import Leases
from pools.redis import Redis, Unavailable
from recordings import catalogue
from recordings.capture import Capture, path_of
from recordings.catalogue import Catalogued, Channel, Draft, Hold
from recordings.render import Gap
from recordings.store import StoreFailed, open_store
from recordings.vault import Vault
from tests.recordings import drafts
from tests.recordings.aws import CREDENTIALS, Aws
from tests.recordings.phones import Phone, begin, hear, ns, record
from tests.recordings.vaults import vault_of

START = 1_800_000_000.0
ENDED = START + 3.0


class Killed(BaseException):
    """As kill -9: nothing after it runs."""


class Site:
    """A session in Redis, an archive, a store and a spool: what the finisher stands on."""

    def __init__(self, house: House, engine: AsyncEngine, vault: Vault, spool: Path, now: list[float]) -> None:
        self.house, self.engine, self.vault, self.spool = house, engine, vault, spool
        self.store = vault.store
        self._now = now
        self.session = ""

    def at(self, now: float) -> None:
        self._now[0] = now

    def later(self, seconds: float) -> None:
        self._now[0] += seconds

    def finisher(self) -> Finisher:
        return Finisher(self.house, self.engine, self.vault, self.spool)

    async def call(self, name: str = "rec_1", ended: float | None = ENDED) -> None:
        """What the outbox wrote of a recorded call."""
        async with self.engine.begin() as connection:
            await drafts.begun(
                connection,
                tenant="t",
                recording=name,
                session=self.session,
                interaction="int_" + name,
                unique_name="order-1",
                started_at=START,
                channels=[Channel(1, "par_c"), Channel(2, "par_d")],
                words=["+842400000001"],
            )
            if ended is not None:
                await drafts.call_ended(connection, "int_" + name, ended)

    async def talk(self, name: str = "rec_1", seconds: float = 3.0) -> Path:
        """A capture that its relay closed."""
        phone = Phone()
        talks = phone.says(seconds, Random(1)), phone.but(source=2).says(seconds, Random(2))
        return await run_sync(partial(record, self.spool, *talks, length=seconds, name=name))

    async def spooled(self) -> list[str]:
        return await run_sync(os.listdir, self.spool)

    async def row(self, name: str = "rec_1") -> Catalogued:
        async with self.engine.connect() as connection:
            found = await catalogue.get(connection, "t", name)
        assert found is not None
        return found

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """The recording events in the session's stream."""
        entries = await self.house.leases.journal(self.session)
        return [(one.type, msgspec.json.decode(one.data)) for one in entries if one.type.startswith("recording.")]

    async def stored(self) -> dict[str, bytes]:
        """What lies in the store, opened: every file there is a recording's."""
        found: dict[str, bytes] = {}
        async for key in self.store.list():
            sound = await self.vault.sound(await self.row(key.rpartition("/")[2].removesuffix(".sealed")))
            found[key] = b"".join([piece async for piece in sound.get()])
        return found


@pytest.fixture
async def site(
    tmp_path: Path, redis: Redis, keyring: Keyring, engine: AsyncEngine, vault: Vault
) -> AsyncIterator[Site]:
    inventory, leases = Inventory(redis, keyring), Leases(redis)
    now = [ENDED + 1.0]
    house = House(Config(), redis, keyring, inventory, leases, engine, lambda: now[0], os.urandom)
    site = Site(house, engine, vault, tmp_path / "spool", now)
    shard = (await inventory.add("t", "default", [Item("+842400000001", "VN")]))[0].shard
    ask = Ask((Entry("a" * 22, "par_c|par_d"), Entry("b" * 22, "par_d|par_c")))
    bound = await leases.bind(
        shard, holder_id(shard, os.urandom(17)), [ask], ttl_ms=3_600_000, quarantine_ms=0, fields={}, events=[]
    )
    site.session = bound.holder
    yield site


async def test_a_call_s_capture_becomes_its_recording(site: Site) -> None:
    await site.call()
    await site.talk()
    await site.finisher().round()
    row = await site.row()
    recording = row.recording
    [(key, file)] = (await site.stored()).items()
    assert key == row.key == key_of(row) == "t/2027/01/15/rec_1.sealed"
    assert (recording.status, recording.duration, recording.gaps) == ("available", 3.0, ())
    assert (recording.bytes, recording.sha256) == (len(file), hashlib.sha256(file).hexdigest())
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getnchannels(), sound.getnframes()) == (2, 24000)
    assert await site.told() == [
        (
            "recording.available",
            {
                "recording": "rec_1",
                "interaction": "int_rec_1",
                "unique_name": "order-1",
                "started_at": "2027-01-15T08:00:00Z",
                "duration": 3.0,
                "sha256": recording.sha256,
                "bytes": len(file),
                "gaps": [],
                "pauses": [],
                "channels": list(msgspec.to_builtins(recording.channels)),
                "notices": [],
                "original": msgspec.to_builtins(recording.original),
                "retain_until": None,
            },
        )
    ]
    assert await site.spooled() == []
    await site.finisher().round()
    assert len(await site.told()) == 1


STEPS = ["store.put", "store.tidy", "finished", "read", "append", "told", "unlink"]


def dying(work: Callable[..., Awaitable[Any]], when: str, calls: list[str]) -> Callable[..., Awaitable[Any]]:
    """The work, with the courier's death just before it or just after it took effect."""

    async def deadly(*args: Any, **kwargs: Any) -> Any:
        calls.append(when)
        if when == "before":
            raise Killed
        answer = await work(*args, **kwargs)
        raise Killed(answer)

    return deadly


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_there_is_one_recording_and_one_event(
    site: Site, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.call()
    await site.talk()
    reached: list[str] = []
    if step == "unlink":

        def deadly(path: Path, missing_ok: bool = False) -> None:
            reached.append(when)
            if when == "after":
                os.unlink(path)
            raise Killed

        monkeypatch.setattr(Path, "unlink", deadly)
    else:
        where: Any = {"store.put": site.store, "store.tidy": site.store, "finished": catalogue, "told": catalogue}.get(
            step, site.house.leases
        )
        name = step.removeprefix("store.")
        monkeypatch.setattr(where, name, dying(getattr(where, name), when, reached))
    with pytest.RaisesGroup(Killed, allow_unwrapped=True, flatten_subgroups=True):
        await site.finisher().run()
    assert reached == [when]
    monkeypatch.undo()
    await site.finisher().round()
    row = await site.row()
    assert row.told and row.recording.status == "available" and row.recording.duration == 3.0
    [(key, file)] = (await site.stored()).items()
    assert (row.key, row.recording.sha256) == (key, hashlib.sha256(file).hexdigest())
    assert [kind for kind, _ in await site.told()] == ["recording.available"]
    assert await site.spooled() == []


class Tangled:
    """Leases whose append takes effect while its answer is lost, `times` times."""

    def __init__(self, leases: Leases, times: int) -> None:
        self._leases, self.left = leases, times
        self.read = leases.read

    async def append(self, *args: Any, **kwargs: Any) -> Any:
        answer = await self._leases.append(*args, **kwargs)
        if self.left:
            self.left -= 1
            raise Unavailable("no answer within the budget")
        return answer


async def test_an_answer_of_redis_that_is_lost_makes_no_second_event(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.call()
    await site.talk()
    real = site.house.leases
    object.__setattr__(site.house, "leases", Tangled(real, 1))
    working = site.finisher()
    await working.round()
    assert not (await site.row()).told
    await working.round()
    assert not (await site.row()).told, "what failed is put off"
    site.later(1)
    await working.round()
    object.__setattr__(site.house, "leases", real)
    assert (await site.row()).told
    assert [kind for kind, _ in await site.told()] == ["recording.available"]


async def test_another_s_change_of_the_session_in_between_is_no_obstacle(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.call()
    await site.talk()
    read = site.house.leases.read

    async def overtaken(holder: str) -> Any:
        found = await read(holder)
        if found is not None and "city" not in found.fields:
            await site.house.leases.append(holder, [], set_fields={"city": "HAN"})
        return found

    monkeypatch.setattr(site.house.leases, "read", overtaken)
    await site.finisher().round()
    assert [kind for kind, _ in await site.told()] == ["recording.available"]


def cut_off(spool: Path) -> Capture:
    capture = begin(spool)
    capture.keep(0)
    hear(capture, 0, Phone().says(1.0, Random(1)))
    return capture


async def test_a_recording_waits_for_its_call_and_for_its_writer(site: Site) -> None:
    await site.call(ended=None)
    capture = await run_sync(cut_off, site.spool)
    working = site.finisher()
    await working.round()
    assert (await site.row()).recording.status == "recording"
    await site.call()
    async with site.engine.begin() as connection:
        await drafts.call_ended(connection, "int_rec_1", ENDED)
    await working.round()
    assert (await site.row()).recording.status == "processing"
    await run_sync(capture.end, ns(3.0))
    await run_sync(capture.close, ns(3.0))
    await working.round()
    assert (await site.row()).recording.status == "available"


async def test_a_dead_relay_leaves_a_recording_with_a_gap_up_to_the_call_s_end(site: Site) -> None:
    await site.call()
    (await run_sync(cut_off, site.spool)).abandon()
    await site.finisher().round()
    recording = (await site.row()).recording
    assert (recording.status, recording.duration) == ("available", 3.0)
    assert recording.gaps == (Gap(0.98, 3.0, 1), Gap(0.98, 3.0, 2))
    [(_, facts)] = await site.told()
    assert facts["gaps"][0] == {"from": 0.98, "to": 3.0, "channel": 1}


def nothing(spool: Path) -> None:
    begin(spool).abandon()


def rubbish(spool: Path) -> None:
    spool.mkdir()
    path_of(spool, "rec_1").write_bytes(b"no capture at all")


def silence(spool: Path) -> None:
    capture = begin(spool)
    hear(capture, 0, Phone().says(1.0, Random(1)))
    capture.abandon()


@pytest.mark.parametrize("leave", [nothing, rubbish, silence])
async def test_it_has_failed_only_when_nothing_is_playable(site: Site, leave: Callable[[Path], None]) -> None:
    await site.call()
    await run_sync(leave, site.spool)
    await site.finisher().round()
    row = await site.row()
    assert (row.recording.status, row.told, row.key) == ("failed", True, None)
    assert await site.told() == [
        ("recording.failed", {"recording": "rec_1", "interaction": "int_rec_1", "reason": "nothing_playable"})
    ]
    assert await site.stored() == {}
    assert await site.spooled() == []


async def test_a_capture_that_never_came_has_failed_after_a_while(site: Site) -> None:
    await site.call()
    working = site.finisher()
    await working.round()
    assert (await site.row()).recording.status == "processing"
    site.at(ENDED + MISSING)
    await working.round()
    assert (await site.row()).recording.status == "failed"
    assert [kind for kind, _ in await site.told()] == ["recording.failed"]


async def test_a_capture_that_no_row_names_is_forgotten_after_a_week(site: Site) -> None:
    await site.call("rec_known", ended=None)
    for name in ("rec_known", "rec_young", "rec_written", "rec_stray"):
        await site.talk(name)
    writer = await run_sync(begin, site.spool, "rec_live")
    for name in ("rec_known", "rec_written", "rec_stray", "rec_live"):
        await run_sync(os.utime, path_of(site.spool, name), (0, ENDED - STRAY))
    await run_sync(os.utime, path_of(site.spool, "rec_young"), (0, ENDED))
    await run_sync(os.utime, path_of(site.spool, "rec_written"), (0, ENDED + 2))
    working = site.finisher()
    await working.forget_strays()
    left = ["rec_known.capture", "rec_live.capture", "rec_written.capture", "rec_young.capture"]
    assert sorted(await site.spooled()) == left
    await run_sync(os.utime, path_of(site.spool, "rec_young"), (0, 0))
    await working.forget_strays()
    assert sorted(await site.spooled()) == left, "once an hour is enough"
    site.later(3600)
    await working.forget_strays()
    assert sorted(await site.spooled()) == left[:3]
    await run_sync(writer.abandon)


async def test_a_file_whose_row_was_lost_in_a_power_cut_is_found_again(site: Site) -> None:
    await site.call()
    await site.talk()
    await site.finisher().round()
    whole = (await site.row()).recording
    async with site.engine.begin() as connection:
        await connection.execute(catalogue.recordings.delete())
        await connection.execute(catalogue.recording_keys.delete())
    await site.call()
    site.at(ENDED + MISSING)
    await site.finisher().round()
    assert (await site.row()).recording == whole
    assert len(await site.told()) == 1


@pytest.mark.parametrize("left", ["half", "nothing", "another's"])
async def test_an_upload_that_was_cut_short_is_found_and_done_again(site: Site, left: str) -> None:
    await site.call()
    await site.talk()
    part = b"MASKREC1" + bytes(200_000)
    if left != "half":
        part = b"" if left == "nothing" else Random(4).randbytes(100_000)

    async def torn() -> AsyncIterator[bytes]:
        yield part

    await site.store.put(key_of(await site.row()), torn())
    await site.finisher().round()
    recording = (await site.row()).recording
    [(_, file)] = (await site.stored()).items()
    assert (recording.status, recording.sha256) == ("available", hashlib.sha256(file).hexdigest())


async def test_a_bucket_that_is_away_for_an_hour_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, engine: AsyncEngine, tmp_path: Path
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    aws = Aws()  # nobody answers there yet
    store = await open_store("s3://calls/hanoi", lambda: os.urandom(4).hex(), aws.region, aws.url)
    site.vault, site.store = vault_of(engine, store), store
    working = site.finisher()
    for name in ("rec_1", "rec_2"):
        await site.call(name)
        await site.talk(name)
    for _ in range(6):
        await working.round()
        site.later(600)
    assert sorted(await site.spooled()) == ["rec_1.capture", "rec_2.capture"] and not await site.told()
    await run_sync(aws.start)
    try:
        await run_sync(aws.bucket, "calls")
        await working.round()
        rows = [await site.row(name) for name in ("rec_1", "rec_2")]
        assert [(row.recording.status, row.recording.gaps) for row in rows] == [("available", ())] * 2
        assert len(await site.stored()) == 2 and await site.spooled() == []
    finally:
        await run_sync(aws.stop)


async def test_a_recording_ends_with_its_time_unless_somebody_holds_it(site: Site) -> None:
    day = 86_400
    storage = RecordingStorage(retention=30 * day, retention_by_country={"VN": 2 * day, "RU": None})
    await services.change(site.house, "t", "default", ServiceChange(recording_storage=storage))
    names = ["rec_1", "rec_2", "rec_3"]
    for name, dialled in zip(names, ("+842400000001", None, "+842400000001"), strict=True):
        await site.call(name)
        await site.talk(name)
        async with site.engine.begin() as connection:
            body = msgspec.json.encode({"dialled": dialled}).decode()
            row = {"id": f"int_{name}", "tenant": "t", "session": site.session, "started_at": START, "body": body}
            await connection.execute(archive.interactions.insert().values(row))
    await site.finisher().round()
    ends = [(await site.row(name)).recording.retain_until for name in names]
    assert [end and end.timestamp() - ENDED for end in ends] == [2 * day, 30 * day, 2 * day]
    async with site.engine.begin() as connection:
        draft = Draft(connection)
        await draft.load(["int_rec_3"])
        draft.held("rec_3", Hold("case 7", "key_1", events.moment(ENDED)))
        await draft.write()
    sweeper = Retention(site.house, site.engine)
    site.at(ENDED + 2 * day - 1)
    assert await sweeper.round() == 0
    site.at(ENDED + 2 * day)
    assert [await sweeper.round() for _ in range(3)] == [1, 0, 0]
    erased = [facts for kind, facts in await site.told() if kind == "recording.erased"]
    assert [(one["recording"], one["key"], one["reason"]) for one in erased] == [("rec_1", "retention", "retention")]
    async with site.engine.begin() as connection:
        draft = Draft(connection)
        await draft.load(["int_rec_1", "int_rec_3"])
        draft.erased("rec_1")
        draft.held("rec_3", None)
        await draft.write()
    assert await sweeper.round() == 1, "what is let go is looked at again"
    assert [(await site.row(name)).recording.status for name in names] == ["erased", "available", "available"]


async def test_what_is_pinned_to_another_region_is_refused_at_the_change_and_at_the_start(site: Site) -> None:
    hanoi = ServiceChange(recording_storage=RecordingStorage(region="ap-hanoi"))
    with pytest.raises(Invalid, match="recording_storage.region"):
        await services.change(site.house, "t", "default", hanoi)
    here = msgspec.structs.replace(site.house.config, recordings=RecordingsSection(region="ap-hanoi"))
    object.__setattr__(site.house, "config", here)
    await access.create_key(site.house, "t", ["recordings"])
    await services.change(site.house, "t", "default", hanoi)
    await check_regions(site.house)
    moved = msgspec.structs.replace(here, recordings=RecordingsSection(region="eu-west-1"))
    object.__setattr__(site.house, "config", moved)
    with pytest.raises(Misplaced, match="ap-hanoi"):
        await check_regions(site.house)


async def test_a_session_that_is_gone_is_told_nothing_and_the_recording_stands(site: Site) -> None:
    await site.call()
    await site.talk()
    await site.house.redis.command("FLUSHALL")
    await site.finisher().round()
    row = await site.row()
    assert (row.recording.status, row.told) == ("available", True)


async def test_trouble_with_one_recording_holds_up_no_other_and_is_tried_later_and_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rec_1", "rec_2"):
        await site.call(name)
        await site.talk(name)
    put, tries = site.store.put, 0

    async def refusing(key: str, chunks: Any) -> Any:
        nonlocal tries
        if "rec_1" in key:
            tries += 1
            raise StoreFailed("the bucket is away")
        return await put(key, chunks)

    monkeypatch.setattr(site.store, "put", refusing)
    working = site.finisher()
    for _ in range(240):
        await working.round()
        site.later(0.25)
    assert [(await site.row(name)).recording.status for name in ("rec_1", "rec_2")] == ["processing", "available"]
    assert tries == 8  # after 0.25 + 0.5 + … + 32 s
    monkeypatch.undo()
    site.later(60)
    await working.round()
    assert (await site.row("rec_1")).recording.status == "available"
    assert sorted(facts["recording"] for _, facts in await site.told()) == ["rec_1", "rec_2"]


async def test_the_finisher_outlives_the_archive_s_absence(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.call()
    await site.talk()
    unfinished, failures = catalogue.unfinished, 0

    async def away(*args: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures < 3:
            raise OperationalError("SELECT", {}, OSError("connection refused"))
        return await unfinished(*args)

    monkeypatch.setattr(catalogue, "unfinished", away)
    monkeypatch.setattr(finisher, "PAUSE", 0.001)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.finisher().run)
            while not (await site.row()).told:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert [kind for kind, _ in await site.told()] == ["recording.available"]
