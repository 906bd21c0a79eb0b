"""Sealed recordings: only the tenant's private key opens them, in any part, and nothing is changed unseen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recordings import capture, chunks
from recordings.capture import CaptureBroken, Keep, Packets, begun_of, open_for_reading, wipe
from recordings.chunks import CHUNK, FULL, HEAD, Altered, SealedFile, plain_size, sealed, sealed_size
from recordings.seals import Lock, NotOpened, seal, unseal
from recordings.store import ObjectStore, open_store
from tests.recordings.phones import LOCK, PRIVATE, Phone, begin, hear, opened, play, record
from tests.recordings.test_capture import facts, files_no_longer_than

KEY = bytes(range(100, 132))
SALT = bytes(16)
SOUND = Random(3).randbytes(3 * CHUNK + 1234)


def file_of(sound: bytes, recording: str = "rec_1", key: bytes = KEY, salt: bytes = SALT) -> bytes:
    pieces = iter([sound[at : at + 10_000] for at in range(0, len(sound), 10_000)])
    return b"".join(sealed(pieces, key, recording, salt))


class Shelf:
    """Files in a store, each under a new name."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._names = (f"file-{number}" for number in count())

    async def read(self, file: bytes, start: int = 0, end: int | None = None, *, recording: str = "rec_1") -> bytes:
        async def pieces() -> AsyncIterator[bytes]:
            yield file

        name = next(self._names)
        await self.store.put(name, pieces())
        found = SealedFile(self.store, name, KEY, recording)
        return b"".join([piece async for piece in found.get(start, end)])


@pytest.fixture
async def shelf(tmp_path: Path) -> Shelf:
    return Shelf(await open_store("memory:///", lambda: "beside"))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_every_size_comes_back_and_tells_itself(shelf: Shelf, size: int) -> None:
    file = file_of(SOUND[:size])
    assert len(file) == sealed_size(size) and plain_size(len(file)) == size
    assert await shelf.read(file) == SOUND[:size]


async def test_any_part_is_read_alone_from_the_chunks_it_lies_in(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    file, dice = file_of(SOUND), Random(5)
    edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, len(SOUND) - 1, len(SOUND)]
    spans = [(a, b) for a in edges for b in edges] + [
        (dice.randrange(len(SOUND)), dice.randrange(len(SOUND) + 99)) for _ in range(60)
    ]
    for start, end in spans:
        assert await shelf.read(file, start, end) == SOUND[start:end]
    fetched = 0
    get = shelf.store.get

    async def counted(key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        nonlocal fetched
        async for piece in get(key, start, end):
            fetched += len(piece)
            yield piece

    monkeypatch.setattr(shelf.store, "get", counted)
    assert await shelf.read(file, 2 * CHUNK + 5, 2 * CHUNK + 50) == SOUND[2 * CHUNK + 5 : 2 * CHUNK + 50]
    assert fetched == HEAD + FULL


async def test_flipped_dropped_moved_swapped_and_cut_files_are_found(shelf: Shelf) -> None:
    file, dice = file_of(SOUND), Random(11)
    head, parts = file[:HEAD], [file[at : at + FULL] for at in range(HEAD, len(file), FULL)]
    other = file_of(SOUND[::-1], "rec_2", salt=bytes([1]) * 16)
    bent = [file[:at] + bytes([file[at] ^ 1 << at % 8]) + file[at + 1 :] for at in dice.sample(range(len(file)), 200)]
    bent += [file[:size] for size in (0, HEAD, HEAD + 5, HEAD + FULL, HEAD + 2 * FULL, HEAD + 3 * FULL, len(file) - 1)]
    bent += [file + b"x", file + parts[-1], head + b"".join(parts[1:]), head + b"".join(parts[:1] + parts[2:])]
    bent += [head + b"".join([parts[1], parts[0], *parts[2:]]), head + b"".join([parts[0], parts[0], *parts[2:]])]
    bent += [head + other[HEAD : HEAD + FULL] + b"".join(parts[1:]), other, other[:HEAD] + file[HEAD:]]
    for one in bent:
        with pytest.raises(Altered):
            await shelf.read(one)
    with pytest.raises(Altered):
        await shelf.read(file, recording="rec_2")


def test_a_data_key_opens_for_its_tenant_its_pair_and_its_recording_alone() -> None:
    box = seal(LOCK, "rec_1", KEY)
    assert len(box) == 80 and box != seal(LOCK, "rec_1", KEY)
    assert unseal(PRIVATE, "t", "k1", "rec_1", box) == KEY
    bent = box[:40] + bytes([box[40] ^ 1]) + box[41:]
    wrong = [
        (PRIVATE, "u", "k1", "rec_1", box),
        (PRIVATE, "t", "k2", "rec_1", box),
        (PRIVATE, "t", "k1", "rec_2", box),
        (os.urandom(32), "t", "k1", "rec_1", box),
        (PRIVATE, "t", "k1", "rec_1", bent),
        (PRIVATE, "t", "k1", "rec_1", box[:20]),
        (b"short", "t", "k1", "rec_1", box),
    ]
    for one in wrong:
        with pytest.raises(NotOpened):
            unseal(*one)


def test_a_lock_that_is_no_key_begins_no_capture(tmp_path: Path) -> None:
    for public in (b"", bytes(31), bytes(32)):  # all zeros: a point of small order
        with pytest.raises(ValueError):
            capture.Capture.create(tmp_path, "rec_1", ({}, {}), 0.0, Lock("t", "k1", public), KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_capture_tells_nobody_else_a_byte_of_what_was_said(tmp_path: Path) -> None:
    said = Phone(voice=lambda n: bytes([n % 7, 42, 43]) * 50)
    path = record(tmp_path, said.says(1.0, Random(1)), length=1.0)
    assert begun_of(path).key == LOCK.key
    file = path.read_bytes()
    assert not any(said.voice(n)[:9] in file for n in range(7))
    with pytest.raises(CaptureBroken, match="altered"):
        open_for_reading(path, os.urandom(32))


def records_of(path: Path) -> list[bytes]:
    file, at, found = path.read_bytes(), 0, []
    while at < len(file):
        size = capture.HEAD.size + capture.HEAD.unpack_from(file, at)[0]
        found.append(file[at : at + size])
        at += size
    return found


def test_records_dropped_moved_or_of_another_capture_end_the_reading(tmp_path: Path) -> None:
    path = record(tmp_path, Phone().says(1.0, Random(1)), Phone(source=2).says(1.0, Random(2)), length=1.0)
    other = records_of(record(tmp_path, Phone().says(1.0, Random(3)), length=1.0, name="rec_2"))
    parts, everything, bent = records_of(path), facts(path), tmp_path / "bent.capture"
    assert len(parts) == len(everything) + 1
    for at in range(1, len(parts) - 1):
        for changed in (
            parts[:at] + parts[at + 1 :],
            [*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]],
            [*parts[: at + 1], parts[at], *parts[at + 1 :]],
            [*parts[:at], other[min(at, len(other) - 1)], *parts[at + 1 :]],
        ):
            bent.write_bytes(b"".join(changed))
            read = facts(bent)
            assert read == everything[: len(read)] and len(read) < len(everything)
    bent.write_bytes(b"".join([other[0], *parts[1:]]))
    assert facts(bent) == []


def test_no_nonce_is_used_twice_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bytes] = []

    class Watched:
        def __init__(self, key: bytes) -> None:
            self._box = AESGCM(key)
            self.decrypt = self._box.decrypt

        def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
            used.append(nonce)
            return self._box.encrypt(nonce, data, aad)

    monkeypatch.setattr("recordings.seals.AESGCM", Watched)
    written = begin(tmp_path)
    written.keep(0)
    for more in (0, 30, 100):
        with files_no_longer_than(written.size + more), pytest.raises(OSError):
            written.append_tapes(0, [(0, bytes(500)), (1, bytes(500))])
    written.append(0, [5], [b"\x80" + bytes(20)])
    written.close(9)
    assert len(set(used)) == len(used) == 10
    assert [type(one) for one in opened(written.path)] == [Keep, Packets, capture.Closed]


def test_a_wiped_capture_leaves_no_key_behind(tmp_path: Path) -> None:
    written = begin(tmp_path)
    hear(written, 0, Phone().says(1.0, Random(1)))
    written.abandon()
    kept = os.open(written.path, os.O_RDONLY)  # what the disk has of it once its name is gone
    try:
        wipe(written.path)
        wipe(written.path)
        assert not written.path.exists()
        left = os.pread(kept, 1 << 20, 0)
        assert len(left) == capture.LONGEST_BEGIN and not any(left)
    finally:
        os.close(kept)


def test_a_cut_capture_plays_what_was_before_the_cut(tmp_path: Path) -> None:
    path = record(tmp_path, Phone().says(2.0, Random(1)), length=2.0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    played = play(path, 2.0)
    assert played.rendering.gaps and played.rendering.duration == 2.0 and any(played.left[:4000])


def test_sizes_that_no_file_has_are_refused() -> None:
    for size in (0, HEAD, HEAD + 15, HEAD + FULL + 15):
        with pytest.raises(Altered):
            plain_size(size)
    assert chunks.sealed_size(0) == HEAD + 16
