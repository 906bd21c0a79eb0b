"""A file at rest, sealed in chunks: any part of it can be read alone, and nothing about it changed unseen.

    file  = MAGIC · salt (16 random bytes) · chunk+
    chunk = AES-256-GCM of CHUNK bytes (the last: 0..CHUNK) · tag (16 bytes)
    nonce = number u64 · last u32 (1 on the last chunk, else 0)         big endian

The key is derived from the recording's data key with the salt and the recording's id (`recordings.seals.cipher`). So a
flipped byte, a chunk dropped, put twice or in another place, one of another recording, and a file cut short, at a
chunk's border too, all fail to open: `Altered`. Sizes are bytes.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag

from recordings.seals import TAG_SIZE, cipher
from recordings.store import Store

MAGIC: Final = b"MASKREC1"
SALT: Final = 16
HEAD: Final = len(MAGIC) + SALT
CHUNK: Final = 64 << 10
FULL: Final = CHUNK + TAG_SIZE
NONCE: Final = struct.Struct(">QI")
PURPOSE: Final = "stored file"


class Altered(Exception):
    """The file is not what was written under this key for this recording."""


def sealed_size(size: int) -> int:
    """The size of the file that holds so many bytes."""
    return HEAD + size + TAG_SIZE * max(1, -(-size // CHUNK))


def plain_size(size: int) -> int:
    """How many bytes a file of this size holds. `Altered` when no file is so long."""
    chunks = -(-(size - HEAD) // FULL)
    held = size - HEAD - TAG_SIZE * chunks
    if chunks < 1 or held < 0 or sealed_size(held) != size:
        raise Altered("no sealed file has this size")
    return held


def sealed(pieces: Iterator[bytes], data_key: bytes, recording: str, salt: bytes) -> Iterator[bytes]:
    """The file of what the pieces, of any sizes, hold. `salt`: random, never used before under this data key."""
    box = cipher(data_key, recording, PURPOSE, salt)
    yield MAGIC + salt
    held, number = bytearray(), 0
    for piece in pieces:
        held += piece
        while len(held) > CHUNK:
            yield box.encrypt(NONCE.pack(number, 0), bytes(held[:CHUNK]), None)
            del held[:CHUNK]
            number += 1
    yield box.encrypt(NONCE.pack(number, 1), bytes(held), None)


class SealedFile:
    """A sealed file in a store, read by the holder of its data key."""

    def __init__(self, store: Store, key: str, data_key: bytes, recording: str) -> None:
        self._store = store
        self._key = key
        self._data_key = data_key
        self._recording = recording

    async def size(self) -> int:
        """How many bytes it holds. `NotStored`, `Altered`."""
        return plain_size(await self._store.size(self._key))

    async def get(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `start` to `end` (exclusive; None: to the last); only the chunks they lie in are fetched.
        `NotStored`, `Altered`."""
        whole = await self._store.size(self._key)
        size = plain_size(whole)
        end = size if end is None else min(end, size)
        if start >= end > 0:
            return
        last = max(size - 1, 0) // CHUNK
        number, until = start // CHUNK, max(end - 1, 0) // CHUNK
        box = cipher(self._data_key, self._recording, PURPOSE, await self._salt())
        held = bytearray()
        first, beyond = HEAD + number * FULL, min(HEAD + (until + 1) * FULL, whole)
        async for piece in self._store.get(self._key, first, beyond):
            held += piece
            while len(held) >= FULL or (number == last and len(held) == whole - HEAD - last * FULL):
                try:
                    plain = box.decrypt(NONCE.pack(number, number == last), bytes(held[:FULL]), None)
                except InvalidTag:
                    raise Altered(f"chunk {number} does not open") from None
                del held[:FULL]
                at = number * CHUNK
                number += 1
                yield plain[max(start - at, 0) : end - at]
        if number <= until:
            raise Altered("the file ends early")

    async def _salt(self) -> bytes:
        head = b"".join([piece async for piece in self._store.get(self._key, 0, HEAD)])
        if len(head) != HEAD or not head.startswith(MAGIC):
            raise Altered("this is no sealed file")
        return head[len(MAGIC) :]
