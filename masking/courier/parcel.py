"""An installation as one file: a ZIP of JSON lines and of files as they lay, each with its SHA-256 in the manifest.

    redis.jsonl            every key of Redis (`masking.courier.keyspace`)
    archive/<table>.jsonl  every table of the archive (`masking.courier.tables`)
    recordings/<key>       recordings as they lay in their store
    spool/<path>           captures of calls that are not finished recordings yet
    manifest.json          written last: a file without it was cut short

The keys that open people's numbers are never in it, only their fingerprint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import msgspec

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
CHUNK: Final = 256 << 10
OLDEST: Final = (1980, 1, 1, 0, 0, 0)  # the date of every member: ZIP knows none before


class NoParcel(Exception):
    """The file is not what an export made, or not all of it; the message says why."""


class Member(msgspec.Struct, frozen=True):
    """What a member must be: its bytes, their SHA-256, and its lines (of a file that lay there: 0)."""

    bytes: int
    sha256: str
    lines: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds. `keys` is the fingerprint of the keyring that the data was made with, `revision` the
    archive's tables'; `recordings` is false when they were left where they lie."""

    format: int
    made_at: float
    keys: str
    revision: str
    recordings: bool
    members: dict[str, Member]

    @property
    def name(self) -> str:
        """The same for the same content alone."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class Packing:
    """A parcel being made, beside its place until it is whole; only its owner may read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.partial")
        self._members: dict[str, Member] = {}
        descriptor = os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "w+b")
        self._zip = ZipFile(self._file, "w")

    def lines(self, name: str) -> AbstractContextManager[Lines]:
        """A member of JSON lines."""
        return self._member(name, ZIP_DEFLATED)

    def file(self, name: str) -> AbstractContextManager[Lines]:
        """A member that is somebody's bytes."""
        return self._member(name, ZIP_STORED)

    @contextmanager
    def _member(self, name: str, method: int) -> Iterator[Lines]:
        with self._zip.open(_member(name, method), "w", force_zip64=True) as file:
            written = Lines(file)
            yield written
        self._members[name] = written.member

    def close(self, *, made_at: float, keys: str, revision: str, recordings: bool) -> Manifest:
        """Writes the manifest and moves the file to its place, on disk before it is seen there."""
        manifest = Manifest(
            format=FORMAT, made_at=made_at, keys=keys, revision=revision, recordings=recordings, members=self._members
        )
        self._zip.writestr(_member(MANIFEST, ZIP_DEFLATED), msgspec.json.encode(manifest))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._draft, self._path)
        return manifest

    def forget(self) -> None:
        """What was written goes; after `close` there is nothing to forget."""
        self._zip.fp = None  # else it would end the file once more when it is collected
        self._file.close()
        self._draft.unlink(missing_ok=True)


class Lines:
    """A member while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._count = 0

    def add(self, value: object) -> None:
        self.raw(msgspec.json.encode(value) + b"\n")
        self._count += 1

    def raw(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    @property
    def member(self) -> Member:
        return Member(self._bytes, self._digest.hexdigest(), self._count)


class Parcel:
    """A parcel that is read. Everything but `manifest` presumes `check`."""

    def __init__(self, path: Path) -> None:
        """OSError when it cannot be read; `NoParcel`."""
        try:
            self._zip = ZipFile(path)
        except BadZipFile:
            raise NoParcel(f"{path} is no whole export: it has no readable manifest") from None
        try:
            self.manifest = msgspec.json.decode(self._zip.read(MANIFEST), type=Manifest)
        except (BadZipFile, KeyError, msgspec.MsgspecError):
            self._zip.close()
            raise NoParcel(f"{path} is no whole export: it has no readable manifest") from None
        if self.manifest.format != FORMAT:
            self._zip.close()
            raise NoParcel(f"{path} has the format {self.manifest.format}; this version reads {FORMAT}")

    def check(self) -> Iterator[str]:
        """Reads everything, naming each member once it is what the manifest says; `NoParcel` at the first that is
        not."""
        names = {info.filename for info in self._zip.infolist()} - {MANIFEST}
        if names != self.manifest.members.keys():
            raise NoParcel(f"the export lacks, or has besides: {min(names ^ self.manifest.members.keys())}")
        for name, member in self.manifest.members.items():
            digest, size = hashlib.sha256(), 0
            try:
                for chunk in self.chunks(name):
                    digest.update(chunk)
                    size += len(chunk)
            except (BadZipFile, OSError, EOFError, ValueError):
                raise NoParcel(f"{name} in the export cannot be read") from None
            if (size, digest.hexdigest()) != (member.bytes, member.sha256):
                raise NoParcel(f"{name} in the export is not what it was")
            yield name

    def under(self, folder: str) -> list[str]:
        """The names of the members in a folder."""
        return [name for name in self.manifest.members if name.startswith(folder)]

    def lines(self, name: str) -> Iterator[bytes]:
        with self._zip.open(name) as file:
            yield from file

    def chunks(self, name: str) -> Iterator[bytes]:
        with self._zip.open(name) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def close(self) -> None:
        self._zip.close()


def _member(name: str, method: int) -> ZipInfo:
    info = ZipInfo(name, OLDEST)
    info.compress_type = method
    info.external_attr = 0o600 << 16
    return info
