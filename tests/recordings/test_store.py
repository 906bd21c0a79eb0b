"""The store: whole or not there, never overwritten, and any part of it readable."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from recordings.store import (
    ONE_PIECE,
    UNFINISHED,
    AlreadyStored,
    NotStored,
    ObjectStore,
    Stored,
    StoreFailed,
    open_store,
)
from tests.recordings.aws import Aws

SMALL = os.urandom(100_000)
LARGE = os.urandom(1 << 20) * 20


@pytest.fixture(params=["folder", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return await open_store((tmp_path / "store").as_uri(), lambda: "part-0")
    (tmp_path / "store").mkdir(mode=0o700)
    aws: Aws = request.getfixturevalue("aws")
    bucket = await run_sync(aws.bucket)
    return await open_store(f"s3://{bucket}/calls", lambda: "part-0", aws.region, aws.url)


async def left_in(store: ObjectStore) -> list[str]:
    return sorted([key async for key in store.list()])


async def chunks(content: bytes, size: int = 1 << 20) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(store: ObjectStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.get(key, start, end)])


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_what_is_put_is_there_with_its_hash(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    assert len(LARGE) > ONE_PIECE
    expected = Stored("t/2026/rec_1.wav", len(content), hashlib.sha256(content).hexdigest())
    assert await store.put("t/2026/rec_1.wav", chunks(content)) == expected
    assert await store.stored("t/2026/rec_1.wav") == expected
    assert await store.size("t/2026/rec_1.wav") == len(content)
    assert await read(store, "t/2026/rec_1.wav") == content
    assert await left_in(store) == ["t/2026/rec_1.wav"]
    assert [key async for key in store.list("t")] == ["t/2026/rec_1.wav"]
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
async def test_nothing_is_ever_overwritten(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    await store.put("rec_1.wav", chunks(b"first"))
    with pytest.raises(AlreadyStored):
        await store.put("rec_1.wav", chunks(content))
    assert await read(store, "rec_1.wav") == b"first"
    assert await left_in(store) == ["rec_1.wav"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (0, 44),
        (99_999, 100_000),
        (5, 5),
        (50_000, None),
        (99_990, 200_000),
        (100_000, None),
        (200_000, 300_000),
    ],
)
async def test_any_part_can_be_read(store: ObjectStore, start: int, end: int | None) -> None:
    await store.put("rec_1.wav", chunks(SMALL))
    assert await read(store, "rec_1.wav", start, end) == SMALL[start:end]


async def test_what_is_not_there_says_so(store: ObjectStore) -> None:
    for ask in (store.size, store.stored):
        with pytest.raises(NotStored):
            await ask("rec_1.wav")
    with pytest.raises(NotStored):
        await read(store, "rec_1.wav")
    await store.delete("rec_1.wav")
    await store.put("rec_1.wav", chunks(SMALL))
    await store.delete("rec_1.wav")
    with pytest.raises(NotStored):
        await store.size("rec_1.wav")
    assert [key async for key in store.list()] == []


@pytest.mark.parametrize("good", [1, 15])
async def test_an_upload_that_breaks_off_leaves_nothing(store: ObjectStore, tmp_path: Path, good: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(good):
            yield LARGE[: 1 << 20]
        raise KeyError("the source broke")

    with pytest.raises(KeyError):
        await store.put("rec_1.wav", broken())
    assert await left_in(store) == []
    await store.put("rec_1.wav", chunks(SMALL))


@pytest.mark.parametrize("store", ["folder"], indirect=True)
async def test_what_a_crash_left_is_tidied_away_and_nothing_else(store: ObjectStore, tmp_path: Path) -> None:
    await store.put("t/rec_1.wav", chunks(SMALL))
    folder = tmp_path / "store"
    (folder / UNFINISHED).mkdir()
    for leftover in (UNFINISHED + "part-9", UNFINISHED + "part-8#1", "t/rec_2.wav#1"):
        (folder / leftover).write_bytes(SMALL)
    await store.tidy()
    assert files(folder) == ["t/rec_1.wav"]


async def test_a_bucket_that_is_away_or_not_there_fails_and_may_come_back(aws: Aws) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for url, endpoint in (("s3://calls/x", nobody), ("s3://no-such-bucket/x", aws.url)):
        store = await open_store(url, lambda: "part", aws.region, endpoint)
        with pytest.raises(StoreFailed):
            await store.put("rec_1.wav", chunks(SMALL))
    with pytest.raises(StoreFailed):
        await store.put("rec_1.wav", chunks(LARGE))


async def test_a_store_that_refuses_fails_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file where a folder should be")
    with pytest.raises(OSError):
        await open_store((tmp_path / "store").as_uri(), lambda: "part")
    (tmp_path / "other").mkdir()
    store = await open_store((tmp_path / "other").as_uri(), lambda: "part")
    (tmp_path / "other" / "t").write_bytes(b"a file where a folder should be")
    for content in (SMALL, LARGE):
        with pytest.raises(StoreFailed):
            await store.put("t/rec_1.wav", chunks(content))
    assert files(tmp_path / "other") == ["t"]


async def test_a_url_that_names_no_storage_is_refused() -> None:
    for url in ("gopher://x/y", "nonsense", ""):
        with pytest.raises(ValueError, match="recordings.url"):
            await open_store(url, lambda: "part")


async def test_memory_is_a_store_too() -> None:
    store = await open_store("memory:///", lambda: "part")
    await store.put("rec_1.wav", chunks(LARGE))
    await store.tidy()
    assert await read(store, "rec_1.wav", 5, 50) == LARGE[5:50]
