"""`python -m masking.courier.verification --config FILE [--heads FILE]`: is the evidence what it was?

Walks every tenant's chain and every stored recording, and names what does not fit: an entry or an event that was
flipped, deleted, put in or moved; a signed head that the chain no longer leads to; a recording whose file or row is not
what its `recording.available` said. `--heads`: `evidence.checkpoint` events as a webhook receiver kept them, one JSON
object a line: the one thing that somebody who can rewrite this whole database cannot reach.

Prints one JSON object a line: progress, the faults, and last a summary. Exit code 1 when there is a fault, 2 when the
evidence could not be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from masking import archive, evidence
from masking.config import BadConfig, load
from masking.evidence import Checkpoint
from masking.logs import configure
from pools.keyring import Keyring, KeyringError
from recordings import catalogue
from recordings.chunks import Altered
from recordings.providers import KeyRefused, KeysAway
from recordings.seals import NotOpened
from recordings.store import NotStored, StoreFailed, open_store
from recordings.vault import Vault, fingerprint, open_vault

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

PAGE: Final = 500


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="fault"):
    """Something that is not as it was. `kind` says what, `tenant`, `seq` and `recording` where."""

    kind: str
    tenant: str
    seq: int | None = None
    recording: str | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="verified"):
    """What was looked at, and how much of it was wrong."""

    entries: int
    recordings: int
    heads: int
    faults: int


class Head(msgspec.Struct, frozen=True):
    """A checkpoint and whose chain it is of; `tenant` None: whichever chain its signature fits."""

    checkpoint: Checkpoint
    tenant: str | None = None


class Progress(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """How far the walk is."""

    what: str
    done: int
    total: int


class Verification:
    """One walk. `key`: the public key that checkpoints must carry; `heads`: those that were kept elsewhere; `tell`
    hears how far it is, about a hundred times."""

    def __init__(
        self,
        engine: AsyncEngine,
        vault: Vault,
        key: str,
        heads: Iterable[Head] = (),
        tell: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._engine = engine
        self._vault = vault
        self._key = key
        self._heads = list(heads)
        self._said: dict[str, dict[str, Any]] = {}  # recording -> what recording.available said of it
        self._erased: set[str] = set()
        self._holds: dict[str, str] = {}  # recording -> the reason of its hold
        self.entries = 0
        self.recordings = 0
        self.faults = 0

    async def run(self) -> AsyncIterator[Fault]:
        """Every fault, chains first, each in its order."""
        async for fault in self._all():
            self.faults += 1
            yield fault

    @property
    def summary(self) -> Summary:
        return Summary(entries=self.entries, recordings=self.recordings, heads=len(self._heads), faults=self.faults)

    async def _all(self) -> AsyncIterator[Fault]:
        for tenant in await self._tenants():
            async for fault in self._chain(tenant):
                yield fault
        async for fault in self._unsealed():
            yield fault
        async for fault in self._files():
            yield fault

    async def _tenants(self) -> list[str]:
        async with self._engine.connect() as connection:
            chained = set((await connection.execute(sql.select(archive.evidence.c.tenant).distinct())).scalars())
            sealed = sql.select(archive.events.c.tenant).where(archive.events.c.type.in_(evidence.EVIDENT)).distinct()
            known = chained | set((await connection.execute(sealed)).scalars())
        return sorted(known | {head.tenant for head in self._heads if head.tenant is not None})

    async def _chain(self, tenant: str) -> AsyncIterator[Fault]:
        """The tenant's entries, from the first, and the signed heads that must lie on their way."""
        signed: dict[int, list[Checkpoint]] = {}
        for checkpoint, holds in await self._checkpoints(tenant):
            if holds:
                signed.setdefault(checkpoint.seq, []).append(checkpoint)
            else:
                yield Fault(kind="head_altered", tenant=tenant, seq=checkpoint.seq)
        head, seq = evidence.beginning(tenant), 0
        while True:
            async with self._engine.connect() as connection:
                page = await archive.sealed_rows(connection, tenant, seq, PAGE)
            for entry in page:
                self.entries += 1
                if entry.seq != seq + 1:
                    yield Fault(kind="entry_missing", tenant=tenant, seq=seq + 1)
                seq = entry.seq
                if entry.told_id is None:
                    yield Fault(kind="event_missing", tenant=tenant, seq=seq)
                elif not self._fits(head, entry):
                    yield Fault(kind="entry_altered", tenant=tenant, seq=seq)
                head = entry.hash
                for checkpoint in signed.pop(seq, ()):
                    if checkpoint.hash != head:
                        yield Fault(kind="chain_rewritten", tenant=tenant, seq=seq)
            if len(page) < PAGE:
                break
        for missing in sorted(signed):
            yield Fault(kind="chain_cut_short", tenant=tenant, seq=missing)

    async def _checkpoints(self, tenant: str) -> list[tuple[Checkpoint, bool]]:
        """The tenant's heads, those in the archive and those kept elsewhere, and whether our key signed them. One kept
        elsewhere that is not signed proves nothing and is left out; one in the archive was altered there."""
        query = sql.select(archive.events.c.body)
        query = query.where(archive.events.c.tenant == tenant, archive.events.c.type == "evidence.checkpoint")
        async with self._engine.connect() as connection:
            bodies = list((await connection.execute(query)).scalars())
        found = []
        for body in bodies:
            checkpoint = _checkpoint_in(body)
            found.append((checkpoint, evidence.is_signed(checkpoint, tenant, self._key)))
        kept = [head.checkpoint for head in self._heads if head.tenant in (None, tenant)]
        return found + [(one, True) for one in kept if evidence.is_signed(one, tenant, self._key)]

    def _fits(self, head: str, entry: sql.Row[Any]) -> bool:
        """Does the entry follow from the one before, and its event's row from its event's text?"""
        if evidence.after(head, entry.seq, entry.event, entry.told_body).hash != entry.hash:
            return False
        event = msgspec.json.decode(entry.told_body)
        columns = (entry.told_tenant, entry.told_session, entry.told_seq, entry.told_type)
        if columns != (entry.tenant, event["session"], event["seq"], event["type"]):
            return False
        self._learn(event)
        return True

    def _learn(self, event: dict[str, Any]) -> None:
        data = event["data"]
        match event["type"]:
            case "recording.available":
                self._said[data["recording"]] = data | {"session": event["session"] or data.get("of_session")}
            case "recording.erased":
                self._erased.add(data["recording"])
            case "recording.held":
                self._holds[data["recording"]] = data["hold"]["reason"]
            case "recording.released":
                self._holds.pop(data["recording"], None)

    async def _unsealed(self) -> AsyncIterator[Fault]:
        """Events that tell of recordings and stand in no chain: put in beside it, or cut out of it."""
        events, sealed = archive.events, archive.evidence
        query = sql.select(events.c.tenant, events.c.body).outerjoin(sealed, sealed.c.event == events.c.id)
        query = query.where(events.c.type.in_(evidence.EVIDENT), sealed.c.event.is_(None))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        for row in rows:
            with contextlib.suppress(msgspec.MsgspecError, KeyError, TypeError, AttributeError):
                recording = msgspec.json.decode(row.body)["data"].get("recording")
                yield Fault(kind="event_unsealed", tenant=row.tenant, recording=recording)
                continue
            yield Fault(kind="event_unsealed", tenant=row.tenant)

    async def _files(self) -> AsyncIterator[Fault]:
        """Every recording the chain calls available has its row and its file, and they are what it said."""
        last, seen = "", set()
        async with self._engine.connect() as connection:
            total = await catalogue.count_stored(connection)
        while True:
            async with self._engine.connect() as connection:
                names = await catalogue.stored(connection, last, PAGE)
            for tenant, last in names:
                seen.add(last)
                self.recordings += 1
                if self.recordings % (total // 100 + 1) == 0:
                    self._tell(Progress("recordings", self.recordings, total))
                kind = await self._wrong_with(tenant, last)
                if kind is not None:
                    yield Fault(kind=kind, tenant=tenant, recording=last)
            if len(names) < PAGE:
                break
        for name in sorted(self._said.keys() - seen - self._erased):
            yield Fault(kind="recording_missing", tenant="", recording=name)

    async def _wrong_with(self, tenant: str, name: str) -> str | None:
        """What is wrong with this recording's row or file."""
        try:
            async with self._engine.connect() as connection:
                row = await catalogue.get(connection, tenant, name)
        except msgspec.MsgspecError:
            return "row_altered"
        assert row is not None and row.key is not None, "asked for by its key"
        if name in self._said and not self._as_said(row.recording, self._said[name]):
            return "row_altered"
        if row.recording.status != "available":
            return None
        try:
            found = await fingerprint(row.key, await self._vault.original(row))
        except NotStored:
            return "file_missing"
        except (Altered, NotOpened):
            return "file_altered"
        kept = row.recording.original or row.recording
        return None if (found.sha256, found.bytes) == (kept.sha256, kept.bytes) else "file_altered"

    def _as_said(self, recording: catalogue.Recording, said: dict[str, Any]) -> bool:
        """Is the row what the chain makes of it?"""
        shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(recording))
        told = said | {"id": said["recording"], "hold": self._holds.get(recording.id)}
        if shown["hold"] is not None:
            shown["hold"] = shown["hold"]["reason"]
        if recording.id not in self._erased:
            told["status"] = "available"
        return all(shown[name] == told[name] for name in shown.keys() & told.keys())


def _checkpoint_in(body: str) -> Checkpoint:
    """The head that an event of the archive tells; one that nobody signed where there is none to be read."""
    try:
        return msgspec.convert(msgspec.json.decode(body)["data"], Checkpoint)
    except (msgspec.MsgspecError, KeyError, TypeError):
        return Checkpoint(0, "", "", "")


def heads_in(lines: Iterable[str]) -> list[Head]:
    """Checkpoints as a receiver kept them: whole events, or their data alone. ValueError names the line."""
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(line)
            found.append(Head(msgspec.convert(said.get("data", said), Checkpoint)))
        except (msgspec.MsgspecError, AttributeError):
            raise ValueError(f"line {number} is no evidence.checkpoint event") from None
    return found


async def verify(path: Path | None, heads: list[Head]) -> int:
    """Needs the archive, the store and the key file, and no running service: a backup can be verified as well."""
    config = load(path, os.environ)
    keyring = Keyring.load(config.key_path)
    store = await open_store(config.recordings_url, lambda: os.urandom(16).hex(), **config.recordings.place)
    engine = archive.engine(config.archive_url)
    try:
        vault = open_vault(engine, store, config.keys, keyring.derived, os.urandom)
        walk = Verification(engine, vault, evidence.public_key(keyring), heads, _say)
        async for fault in walk.run():
            _say(fault)
        _say(walk.summary)
        return 1 if walk.faults else 0
    finally:
        await engine.dispose()


def _say(line: msgspec.Struct) -> None:
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m masking.courier.verification")
    parser.add_argument("--config", type=Path, help="masking.toml")
    parser.add_argument("--heads", type=Path, help="evidence.checkpoint events kept elsewhere, one a line")
    given = parser.parse_args(arguments)
    configure()
    try:
        heads = heads_in(given.heads.read_text(encoding="utf-8").splitlines()) if given.heads else []
        return asyncio.run(verify(given.config, heads))
    except (BadConfig, KeyringError, KeyRefused, KeysAway, StoreFailed, OSError, ValueError) as trouble:
        sys.stderr.write(f"masking recordings verify: {trouble}\n")
    except SQLAlchemyError as trouble:
        kind = type(getattr(trouble, "orig", None) or trouble).__name__
        sys.stderr.write(f"masking recordings verify: the archive cannot be read: {kind}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
