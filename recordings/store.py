"""Where finished recordings lie: a folder by default, object storage by URL. Nothing that lies there is ever
overwritten.

`Store` is the promise, `ObjectStore` keeps it on obstore (beta: its API stays behind this file). Nothing here blocks
the event loop.

Errors: `AlreadyStored` and `NotStored` say what the caller did; everything else obstore raises
(`obstore.exceptions.BaseError`, or OSError for a folder) becomes `StoreFailed`, which may pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store, from_url
from obstore.store import ObjectStore as Backend

if TYPE_CHECKING:
    from obstore import AsyncWritableFile
    from obstore.store import ClientConfig, RetryConfig, S3Config

ONE_PIECE: Final = 8 << 20
"""Bytes up to which an object is written in one go; what is longer is written beside its name and moved there when
whole."""
CHUNK: Final = 256 << 10
UNFINISHED: Final = "unfinished/"


class StoreFailed(Exception):
    """The storage did not do what it was asked; asking again may help."""


class AlreadyStored(Exception):
    """There is an object of that name; it was left as it is."""


class NotStored(Exception):
    """There is no object of that name."""


class Stored(msgspec.Struct, frozen=True):
    """An object as it lies there: its size in bytes and the SHA-256 of exactly these bytes, in hex."""

    key: str
    bytes: int
    sha256: str


class Store(Protocol):
    """What the finisher and the API ask of a storage. Keys are paths with `/`; `unfinished/` is the store's own."""

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Writes a new object; it is whole or not there. `AlreadyStored`."""

    def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `start` to `end` (exclusive; None: to the last), in chunks. `NotStored`."""

    async def size(self, key: str) -> int:
        """`NotStored`."""

    async def stored(self, key: str) -> Stored:
        """Reads the whole object and says what it is. `NotStored`."""

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """The keys under a folder, in no order."""

    async def delete(self, key: str) -> None:
        """Deleting what is not there is no error."""

    async def tidy(self) -> None:
        """Deletes what uploads left that a crash cut short. Only while nobody uploads: the writer calls it first."""


@contextmanager
def _translated(key: str, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except AlreadyExistsError as error:
        raise AlreadyStored(key) from error
    except FileNotFoundError as error:
        if writing:  # not the object is missing: the bucket is
            raise StoreFailed(f"there is no place for {key}") from error
        raise NotStored(key) from error
    except (BaseError, OSError) as error:
        raise StoreFailed(f"{type(error).__name__} for {key}") from error


class ObjectStore:
    """A `Store` on obstore. `random_name()` gives names for objects that are not whole yet."""

    def __init__(self, backend: Backend, random_name: Callable[[], str], folder: Path | None = None) -> None:
        self._backend = backend
        self._random_name = random_name
        self._folder = folder

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        digest, size = hashlib.sha256(), 0
        head: list[bytes] = []
        rest = aiter(chunks)
        async for chunk in rest:
            digest.update(chunk)
            size += len(chunk)
            head.append(chunk)
            if size > ONE_PIECE:
                size = await self._put_in_pieces(key, head, rest, digest.update)
                break
        else:
            with _translated(key, writing=True):
                await obstore.put_async(self._backend, key, b"".join(head), mode="create", use_multipart=False)
        return Stored(key, size, digest.hexdigest())

    async def _put_in_pieces(
        self, key: str, head: list[bytes], rest: AsyncIterator[bytes], update: Callable[[bytes], None]
    ) -> int:
        beside, size = UNFINISHED + self._random_name(), 0
        try:
            with _translated(key, writing=True):
                async with obstore.open_writer_async(self._backend, beside, buffer_size=ONE_PIECE) as writer:
                    for chunk in head:
                        size += await _write(writer, chunk)
                    head.clear()
                    async for chunk in rest:
                        update(chunk)
                        size += await _write(writer, chunk)
                await obstore.rename_async(self._backend, beside, key, overwrite=False)
        except Exception:
            await self.delete(beside)
            raise
        return size

    async def get(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        size = await self.size(key)
        end = size if end is None else min(end, size)
        if start >= end:
            return
        with _translated(key):
            found = await obstore.get_async(self._backend, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    async def size(self, key: str) -> int:
        with _translated(key):
            return (await obstore.head_async(self._backend, key))["size"]

    async def stored(self, key: str) -> Stored:
        digest, size = hashlib.sha256(), 0
        async for chunk in self.get(key):
            digest.update(chunk)
            size += len(chunk)
        return Stored(key, size, digest.hexdigest())

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        with _translated(prefix):
            async for page in obstore.list(self._backend, prefix=prefix or None):
                for found in page:
                    yield found["path"]

    async def delete(self, key: str) -> None:
        with suppress(NotStored), _translated(key):
            await obstore.delete_async(self._backend, key)

    async def tidy(self) -> None:
        """Deletes what uploads left that a crash cut short. Only while nobody uploads: the one writer calls it
        first."""
        async for key in self.list(UNFINISHED):
            await self.delete(key)
        if self._folder is not None:
            await anyio.to_thread.run_sync(_forget_staged, self._folder)


async def _write(writer: AsyncWritableFile, chunk: bytes) -> int:
    await writer.write(chunk)
    return len(chunk)


def _forget_staged(folder: Path) -> None:
    # A folder's uploads are staged as `<name>#<number>` beside their place, and no listing shows them.
    for path in folder.rglob("*#*"):
        path.unlink(missing_ok=True)


async def open_store(url: str, random_name: Callable[[], str], region: str = "", endpoint: str = "") -> ObjectStore:
    """The store at `file:///…` (made when missing), `memory:///`, or `s3://bucket/prefix`, there in `region` and at
    another `endpoint` than AWS's own; credentials come from where AWS's tools look. Whether it answers is seen later.

    `random_name` gives names for objects that are not whole yet. ValueError when the URL names no storage.
    """
    if url.startswith("file://"):
        folder = Path(url2pathname(urlsplit(url).path))
        await anyio.to_thread.run_sync(partial(folder.mkdir, mode=0o700, parents=True, exist_ok=True))
        return ObjectStore(LocalStore(prefix=folder), random_name, folder)
    try:
        return ObjectStore(_s3(url, region, endpoint) if url.startswith("s3://") else from_url(url), random_name)
    except (BaseError, OSError, ValueError) as error:
        raise ValueError("recordings.url names no storage we know") from error


def _s3(url: str, region: str, endpoint: str) -> Backend:
    """A bucket: every write carries its SHA-256, none goes over another; the caller tries again, not the client."""
    config: S3Config = {"checksum_algorithm": "sha256", "copy_if_not_exists": "multipart"}
    if region:
        config["region"] = region
    if endpoint:
        config["endpoint"] = endpoint
    patience: ClientConfig = {"connect_timeout": "3s", "read_timeout": "10s", "timeout": "120s"}
    if endpoint.startswith("http://"):
        patience["allow_http"] = True
    again: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
    return S3Store.from_url(url, config=config, client_options=patience, retry_config=again)
