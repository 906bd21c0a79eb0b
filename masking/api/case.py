"""A case as one archive: sound, timeline, interactions, notices, and the proof that they are what they were.

The ZIP is made as it is read: a case of many hours costs no memory. Events of others are in its chain by their hashes
alone, so the proof tells nothing of them.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any, Final

import msgspec

from masking import archive, disputes, evidence
from masking.api.operations import Answer, Asked
from masking.api.problems import Declined
from masking.api.recordings import told
from masking.events import moment
from recordings import catalogue
from recordings.catalogue import Catalogued, Filter
from recordings.store import NotStored

PAGE: Final = 500
VERIFIER: Final = files("masking.api").joinpath("verify_case.py").read_bytes()
DATE: Final = (1980, 1, 1, 0, 0, 0)  # ZIP's own beginning: when an archive was made is in its manifest


async def export_case(asked: Asked) -> Answer:
    """Every hearing is on the chain before the first byte leaves, one for each recording."""
    dispute = await disputes.get(asked.house, asked.tenant, asked.path["dispute"])
    if dispute.status != "granted":
        raise Declined("grant_refused", f"The dispute is {dispute.status}; a case is exported under its grant.")
    asked.access.demand("recordings")
    rows = [row for session in dispute.sessions for row in await _playable(asked, session)]
    for row in rows:
        why = {"reason": dispute.reason, "dispute": dispute.id, "requested_by": dispute.requested_by, "export": True}
        await told(asked, row.recording, "recording.accessed", why)
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{dispute.id}.zip"',
    }
    return Answer(200, _zip(asked, dispute, rows), headers, "application/zip")


async def _playable(asked: Asked, session: str) -> list[Catalogued]:
    async with asked.archive.connect() as connection:
        found = await catalogue.page(connection, asked.tenant, Filter(session=session), before=None, limit=PAGE)
        rows = [await catalogue.get(connection, asked.tenant, recording.id) for recording in found]
    return [row for row in rows if row is not None and row.recording.status == "available" and row.key is not None]


class _Sink:
    """Where `zipfile` writes; what it wrote is taken away after each piece."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes, /) -> int:
        self._written += data
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


class _Case:
    """The archive under way, and the digest of each file in it."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)
        self.digests: dict[str, str] = {}

    def put(self, name: str, data: bytes) -> bytes:
        """A whole file; the bytes of the archive it makes."""
        self._zip.writestr(zipfile.ZipInfo(name, DATE), data)
        self.digests[name] = hashlib.sha256(data).hexdigest()
        return self._sink.take()

    async def stream(self, name: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A file in pieces."""
        digest = hashlib.sha256()
        with self._zip.open(zipfile.ZipInfo(name, DATE), "w", force_zip64=True) as entry:
            async for chunk in chunks:
                digest.update(chunk)
                entry.write(chunk)
                yield self._sink.take()
        self.digests[name] = digest.hexdigest()

    def close(self) -> bytes:
        self._zip.close()
        return self._sink.take()


async def _zip(asked: Asked, dispute: disputes.Dispute, rows: list[Catalogued]) -> AsyncIterator[bytes]:
    case = _Case()
    sounds = []
    for row in rows:
        files = {"file": (f"recordings/{row.recording.id}.wav", asked.desk.vault.sound)}
        if row.recording.original is not None and row.recording.original.format != "wav":
            name = f"recordings/{row.recording.id}.{row.recording.original.format}"
            files["original"] = (name, asked.desk.vault.original)
        try:
            for name, opened in files.values():
                async for piece in case.stream(name, (await opened(row)).get()):
                    yield piece
        except NotStored:  # its file is gone: the manifest says what was there, and the chain what it was
            continue
        names = {what: name for what, (name, _) in files.items()}
        sounds.append({"recording": row.recording.id, "shape": row.recording} | names)
    yield case.put("dispute.json", _json(dispute))
    events, interactions = await _happened(asked, dispute)
    yield case.put("interactions.json", _json(interactions))
    yield case.put("events.jsonl", "".join(body + "\n" for body in events).encode())
    yield case.put("chain.json", _json(await _chain(asked, dispute)))
    yield case.put("verify_case.py", VERIFIER)
    manifest = {
        "dispute": dispute.id,
        "exported_at": moment(asked.house.now()),
        "evident": sorted(evidence.EVIDENT),  # the types of event that the chain seals
        "recordings": sounds,
        "files": case.digests,
    }
    yield case.put("manifest.json", _json(manifest))
    yield case.close()


async def _happened(asked: Asked, dispute: disputes.Dispute) -> tuple[list[str], list[Any]]:
    """The sessions' events, and what was decided about their recordings later; and their interactions."""
    events: list[str] = []
    interactions: list[Any] = []
    async with asked.archive.connect() as connection:
        for session in dispute.sessions:
            events += await archive.events_of(connection, asked.tenant, session)
            bodies = await archive.interactions_of(connection, asked.tenant, session)
            interactions += [msgspec.Raw(body.encode()) for body in bodies]
    return events, interactions


async def _chain(asked: Asked, dispute: disputes.Dispute) -> dict[str, Any]:
    """The tenant's chain from the entry before the case's first to its newest signed head, all but hashes left out."""
    async with asked.archive.connect() as connection:
        first = await archive.first_evidence_of(connection, asked.tenant, dispute.sessions)
        head = await archive.newest_checkpoint(connection, asked.tenant)
        last = head.seq if head is not None else None
        entries: list[dict[str, object]] = []
        before, seq = evidence.beginning(asked.tenant), first - 1
        if seq > 0:
            ((entry, _),) = await archive.evidence_page(connection, asked.tenant, seq - 1, 1)
            before = entry.hash
        while last is None or seq < last:
            page = await archive.evidence_page(connection, asked.tenant, seq, PAGE)
            for entry, body in page:
                if last is not None and entry.seq > last:
                    break
                sealed = hashlib.sha256((body or "").encode()).hexdigest()
                entries.append({"seq": entry.seq, "event": entry.event, "hash": entry.hash, "body_sha256": sealed})
                seq = entry.seq
            if len(page) < PAGE:
                break
    return {"tenant": asked.tenant, "first": first, "before": before, "entries": entries, "head": head}


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"
