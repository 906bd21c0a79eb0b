"""A stored original as everybody hears it: a WAV, whatever form it lies in.

An original is a WAV already, or Ogg/Opus, which is decoded from its beginning whenever it is heard, since a codec
remembers; the same file gives the same WAV. The encoded original of one recording is held in memory meanwhile (21 MB
for an hour), its sound never is.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any, Final, Literal, Protocol

import msgspec
from anyio.to_thread import run_sync

from recordings import opus
from recordings.analysis import Analysis, Listener
from recordings.clocks import RATE
from recordings.render import HEAD, duration_of, wav_head

Form = Literal["wav", "opus"]
PIECES_AT_ONCE: Final = 64
OGG: Final = b"OggS"
SECOND: Final = RATE * opus.FRAME


class Sound(Protocol):
    """Stored bytes, opened."""

    async def size(self) -> int:
        """In bytes. `NotStored`, `Altered`."""

    def get(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `start` to `end` (exclusive; None: to the last). `NotStored`, `Altered`."""


class Decoded:
    """The WAV of an Ogg/Opus original, `size` bytes long."""

    def __init__(self, original: Sound, size: int) -> None:
        self._original = original
        self._size = size

    async def size(self) -> int:
        return self._size

    async def get(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        at, last = 0, self._size if end is None else min(end, self._size)
        file = io.BytesIO(await whole(self._original))
        async for piece in in_a_thread(opus.decoded(file, (self._size - HEAD) // opus.FRAME)):
            wanted = piece[max(start - at, 0) : max(last - at, 0)]
            at += len(piece)
            if wanted:
                yield wanted
            if at >= last:
                return


class Original(msgspec.Struct, frozen=True):
    """The form a recording is kept in, and the SHA-256 and size of exactly these bytes, opened: what evidence is."""

    format: Form
    sha256: str
    bytes: int


class Examined(msgspec.Struct, frozen=True):
    """What an original was found to be and to hold: the WAV's size, SHA-256 and seconds, and what it sounds like."""

    original: Original
    bytes: int
    sha256: str
    duration: float
    analysis: Analysis


async def examine(original: Sound) -> Examined:
    """Reads all of an original, in whichever form. `NotStored`, `Altered`, `recordings.opus.NotDecoded`."""
    ear = _Ear()
    start = b"".join([piece async for piece in original.get(0, len(OGG))])
    if start != OGG:
        async for piece in original.get():
            await run_sync(ear.take, piece)
        return await run_sync(ear.found, None)
    data = await whole(original)
    async for piece in in_a_thread(opus.decoded(io.BytesIO(data), opus.length(data))):
        await run_sync(ear.take, piece)
    return await run_sync(ear.found, Original("opus", hashlib.sha256(data).hexdigest(), len(data)))


class _Ear:
    """A WAV's pieces, hashed and listened to."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._size = 0
        self._listener = Listener()

    def take(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._listener.hear(piece[max(HEAD - self._size, 0) :])
        self._size += len(piece)

    def found(self, original: Original | None) -> Examined:
        """`original`: None where it is the WAV itself."""
        size, digest = self._size, self._digest.hexdigest()
        kept = original or Original("wav", digest, size)
        return Examined(kept, size, digest, duration_of(size), self._listener.heard())


def encoded(form: Form, pieces: Iterator[bytes], samples: int, kept: int) -> Iterator[bytes]:
    """An original of a sound (stereo PCM16), `samples` long of which the first `kept` are silence. What is shorter than
    a second stays a WAV: a codec needs some sound before it keeps count."""
    if form == "opus" and samples >= RATE:
        yield from opus.encoded(pieces, kept)
    else:
        yield wav_head(samples)
        yield from pieces


class Encoded:
    """Ogg/Opus made of a WAV when it was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def size(self) -> int:
        return len(self.data)

    async def get(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        yield self.data[start:end]


async def encode(wav: Sound) -> Encoded:
    """A WAV of ours as Ogg/Opus. `NotStored`, `Altered`."""
    sound = io.BytesIO(await whole(wav))
    sound.seek(HEAD)
    pieces = iter(lambda: sound.read(SECOND), b"")
    return Encoded(b"".join([piece async for piece in in_a_thread(opus.encoded(pieces, 0))]))


async def whole(sound: Sound) -> bytes:
    return b"".join([piece async for piece in sound.get()])


async def in_a_thread(pieces: Iterator[Any]) -> AsyncIterator[bytes]:
    """The pieces, made in a worker thread, some at a time: the loop stays free and memory small."""
    while some := await run_sync(lambda: list(islice(pieces, PIECES_AT_ONCE))):
        yield b"".join(some)
