"""`python -m masking.courier.moving export FILE` and `… import FILE`: an installation leaves as one file, and arrives.

An export wants a service that is stopped: then Redis and the archive say the same, and go on saying it. What it holds
of people's numbers stays as it lay, sealed and indexed by keys that are not in it; whoever imports it brings the key
file another way. An import wants stores that are empty. It checks the whole file first, then writes recordings, the
archive in one transaction, and Redis; until all is there a mark in the data folder keeps a service from starting, and
the same import, asked again, begins anew.

Prints one JSON object a line: progress, and last what was moved.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import SQLAlchemyError

from masking import archive
from masking.children import NotReady
from masking.config import BadConfig, Config, load
from masking.courier import keyspace, schema, tables
from masking.courier.lease import LASTS_MS, Lease
from masking.courier.parcel import Manifest, NoParcel, Packing, Parcel
from masking.house import House, open_house
from masking.logs import configure
from masking.serve import UNFINISHED_IMPORT, stores
from pools.keyring import FINGERPRINT_KEY, Keyring, KeyringError
from pools.redis import RedisError
from recordings.store import UNFINISHED, AlreadyStored, Store, StoreFailed, open_store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

PATIENCE: Final = 60.0  # seconds until Redis counts as gone: nobody waits for this
REDIS: Final = "redis.jsonl"
OURS: Final = {FINGERPRINT_KEY, "courier"}  # keys that a Redis has which nobody has used yet


class Refused(Exception):
    """Why nothing was moved, and what to do about it."""


async def pack(config: Config, path: Path, with_recordings: bool) -> Manifest:
    """Writes the installation to `path`; `Refused` while it is served, or when `path` is there."""
    await asyncio.to_thread(_check_place, config, path)
    async with _alone(config) as (house, engine, store):
        packing = Packing(path)
        try:
            with packing.lines(REDIS) as lines:
                total = await house.redis.command("DBSIZE")
                async for line in keyspace.lines_of(house.redis):
                    if line.key != "courier":
                        lines.add(line)
                        _progress("keys of Redis", 1, total)
            async with engine.connect() as connection:
                revision = await tables.revision(connection)
                if revision is None:
                    raise Refused(f"the archive {archive.described(config.archive_url)} has no tables of ours")
                await _pack_tables(packing, connection)
            if with_recordings:
                names = [name async for name in store.list() if not name.startswith(UNFINISHED)]
                for name in sorted(names):
                    with packing.file(f"recordings/{name}") as written:
                        async for chunk in store.get(name):
                            written.raw(chunk)
                    _progress("recordings", 1, len(names))
            for capture in await asyncio.to_thread(_files, config.spool_dir):
                with packing.file(f"spool/{capture.relative_to(config.spool_dir)}") as written:
                    written.raw(await anyio.Path(capture).read_bytes())
            return packing.close(
                made_at=house.now(), keys=house.keyring.fingerprint, revision=revision, recordings=with_recordings
            )
        except BaseException:
            packing.forget()
            raise


def _check_place(config: Config, path: Path) -> None:
    if path.exists():
        raise Refused(f"{path} is there already; it is not overwritten")
    if not config.key_path.exists():
        raise Refused(f"{config.key_path} is not there: nothing was ever served with this configuration")


async def _pack_tables(packing: Packing, connection: AsyncConnection) -> None:
    for table in await tables.described(connection):
        total = await tables.count(connection, table)
        with packing.lines(f"archive/{table.name}.jsonl") as lines:
            async for row in tables.rows(connection, table):
                lines.add(row)
                _progress(f"rows of {table.name}", 1, total + 1)


async def unpack(config: Config, path: Path, keys: Path | None, revisions: ScriptDirectory) -> Manifest:
    """Puts the installation of `path` into the empty stores of this configuration; `Refused`, `NoParcel`."""
    parcel = Parcel(path)
    try:
        manifest = parcel.manifest
        for _ in parcel.check():
            _progress("parts checked", 1, len(manifest.members))
        try:
            revisions.get_revision(manifest.revision)
        except CommandError:
            raise Refused(f"the export is of a newer version (tables {manifest.revision}): upgrade this one") from None
        _bring_keys(config, manifest, keys)
        mark = config.data_dir / UNFINISHED_IMPORT
        async with _alone(config) as (house, engine, store):
            again = mark.exists() and mark.read_text() == manifest.name
            if not again:
                await _check_empty(house, engine)
            mark.write_text(manifest.name)
            await _unpack_files(parcel, store, config.spool_dir)
            await _unpack_tables(parcel, engine, revisions, again)
            await _unpack_redis(parcel, house)
            mark.unlink()
        return manifest
    finally:
        parcel.close()


def _bring_keys(config: Config, manifest: Manifest, keys: Path | None) -> None:
    """The key file that the data was made with must be there, or is put there now."""
    try:
        if not config.key_path.exists():
            if keys is None:
                raise Refused(
                    f"the export was made with the keys {manifest.keys}, which are never in it: bring that"
                    " installation's keys.json and name it with --keys"
                )
            Keyring.load(keys)
            config.key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(config.key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(keys.read_bytes())
        here = Keyring.load(config.key_path).fingerprint
    except FileNotFoundError as error:
        raise Refused(f"{error.filename} is not there") from None
    if here != manifest.keys:
        raise Refused(f"{config.key_path} holds the keys {here}, the export was made with {manifest.keys}")


async def _check_empty(house: House, engine: AsyncEngine) -> None:
    size = await house.redis.command("DBSIZE")
    if size > await house.redis.command("EXISTS", *OURS):
        raise Refused(f"Redis is not empty ({size} keys): an import wants a new data_dir, or a Redis without data")
    async with engine.connect() as connection:
        for table in await tables.described(connection):
            if await tables.count(connection, table):
                raise Refused(f"the archive is not empty ({table.name}): an import wants a new data_dir, or a new one")


async def _unpack_files(parcel: Parcel, store: Store, spool: Path) -> None:
    names = parcel.under("recordings/")
    for name in names:
        key = name.removeprefix("recordings/")
        try:
            await store.put(key, _slowly(parcel.chunks(name)))
        except AlreadyStored:
            if (await store.stored(key)).sha256 != parcel.manifest.members[name].sha256:
                raise Refused(f"another recording lies at {key}: an import wants an empty store") from None
        _progress("recordings", 1, len(names))
    await asyncio.to_thread(_unpack_spool, parcel, spool)


def _unpack_spool(parcel: Parcel, spool: Path) -> None:
    for name in parcel.under("spool/"):
        file = spool / name.removeprefix("spool/")
        if not file.resolve().is_relative_to(spool.resolve()):
            raise NoParcel(f"{name} in the export leads elsewhere")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(b"".join(parcel.chunks(name)))


async def _unpack_tables(parcel: Parcel, engine: AsyncEngine, revisions: ScriptDirectory, again: bool) -> None:
    async with engine.connect() as connection:
        there = await tables.revision(connection)
    wanted = parcel.manifest.revision
    if there is None:
        await schema.upgrade(engine, revisions, wanted)
    elif there != wanted:
        raise Refused(f"the archive's tables are at {there}, the export's at {wanted}: begin with a new archive")
    async with engine.begin() as connection:
        for table in await tables.described(connection):
            name = f"archive/{table.name}.jsonl"
            if again and await tables.count(connection, table):
                return  # they were all written by the import that did not end
            total = parcel.manifest.members[name].lines - 1
            async for written in tables.fill(connection, table, parcel.lines(name)):
                _progress(f"rows of {table.name}", written, total)


async def _unpack_redis(parcel: Parcel, house: House) -> None:
    total, some = parcel.manifest.members[REDIS].lines, []
    for line in parcel.lines(REDIS):
        some.append(msgspec.json.decode(line, type=keyspace.Line))
        _progress("keys of Redis", 1, total)
        if len(some) == keyspace.PAGE:
            await keyspace.write(house.redis, some, house.now_ms)
            some.clear()
    await keyspace.write(house.redis, some, house.now_ms)


@asynccontextmanager
async def _alone(config: Config) -> AsyncIterator[tuple[House, AsyncEngine, Store]]:
    """The stores, while no service works on them, on this machine or on another one."""
    async with (
        stores(config),
        open_house(config, now=time.time, random=os.urandom, budget=PATIENCE) as house,
    ):
        assert house.archive is not None, "opened with the archive"
        lease = Lease(house, house.token("moving-"))
        for _ in range(LASTS_MS // 100 + 10):  # one that was killed has held it for that long at most
            if await lease.hold():
                break
            await asyncio.sleep(0.1)
        else:
            raise Refused("a service works on this Redis; stop it first, on every machine")
        keeping = asyncio.create_task(_keep(lease))
        try:
            yield (
                house,
                house.archive,
                await open_store(config.recordings_url, lambda: os.urandom(16).hex(), **config.recordings.place),
            )
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            await lease.leave()


async def _keep(lease: Lease) -> None:
    while True:
        await asyncio.sleep(1)
        await lease.hold()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def _slowly(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


_done: dict[str, int] = {}


def _progress(what: str, more: int, total: int) -> None:
    """Tells of every hundredth part, and of the end."""
    before = _done.get(what, 0)
    done = _done[what] = before + more
    if done >= total or done * 100 // total > before * 100 // total:
        _say({"event": "progress", "what": what, "done": done, "total": total})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def moved(event: str, path: Path, manifest: Manifest) -> dict[str, Any]:
    """The last line: what is in the file, by kind."""
    members = manifest.members
    counts = {
        "keys": members[REDIS].lines,
        "rows": sum(member.lines - 1 for name, member in members.items() if name.startswith("archive/")),
        "recordings": sum(name.startswith("recordings/") for name in members) if manifest.recordings else None,
        "bytes": sum(member.bytes for member in members.values()),
    }
    return {"event": event, "file": str(path), "keyring": manifest.keys, **counts}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m masking.courier.moving")
    parser.add_argument("work", choices=["export", "import"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--config", type=Path, help="masking.toml")
    parser.add_argument("--without-recordings", action="store_true", help="export: they stay where they lie")
    parser.add_argument("--keys", type=Path, help="import: the key file the data was made with")
    given = parser.parse_args(arguments)
    configure()
    try:
        config = load(given.config, os.environ)
        if given.work == "export":
            manifest = asyncio.run(pack(config, given.file, not given.without_recordings))
        else:
            manifest = asyncio.run(unpack(config, given.file, given.keys, schema.revisions()))
        _say(moved(given.work + "ed", given.file, manifest))
        return 0
    except (BadConfig, KeyringError, NoParcel, NotReady, RedisError, Refused, StoreFailed, ValueError) as trouble:
        sys.stderr.write(f"{trouble}\n")
    except SQLAlchemyError as trouble:
        kind = type(getattr(trouble, "orig", None) or trouble).__name__
        sys.stderr.write(f"the archive cannot be used: {kind}\n")
    except OSError as trouble:
        sys.stderr.write(f"{trouble.filename or given.file}: {trouble.strerror}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
