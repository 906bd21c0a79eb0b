"""Disputes over HTTP, and the audit: who heard and decided what, in the order of the chain of evidence."""

from __future__ import annotations

import msgspec

from masking import archive, disputes, evidence, sessions, shelves
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, page_of, position_in
from masking.api.problems import bad_field
from masking.disputes import NewDispute
from masking.events import Event
from masking.refusals import NotFound


class AuditEntry(msgspec.Struct, frozen=True):
    """One link of the chain: `hash` covers the event and, through the entry before, all that came earlier."""

    seq: int
    hash: str
    event: Event


class EvidenceKey(msgspec.Struct, frozen=True):
    """The Ed25519 key, base64, that `evidence.checkpoint` events are signed with: keep it where we cannot reach."""

    public_key: str


async def open_dispute(asked: Asked) -> Answer:
    new: NewDispute = asked.body
    if (new.unique_name is None) == (new.session is None):
        raise bad_field("invalid_request", "unique_name", "is missing, or stands beside `session`", "one of the two")
    return Answer(201, await disputes.open_dispute(asked.house, asked.access, new, await _covered(asked, new)))


async def _covered(asked: Asked, new: NewDispute) -> list[str]:
    """The sessions a dispute is about: one by its id, or every one of the name, open ones too."""
    if new.session is not None:
        return [(await sessions.get(asked.house, asked.access, new.session)).id]
    page = await shelves.listing(asked.house, asked.access, unique_name=new.unique_name, limit=disputes.MOST_SESSIONS)
    if not page.data:
        raise NotFound("No session of this unique_name.")
    return [session.id for session in page.data]


async def get_dispute(asked: Asked) -> Answer:
    return Answer(200, await disputes.get(asked.house, asked.tenant, asked.path["dispute"]))


async def list_disputes(asked: Asked) -> Answer:
    query: Paged = asked.query
    rows = await disputes.listing(asked.house, asked.tenant)
    return Answer(200, page_of(rows, "disputes", query, lambda dispute: dispute.id))


async def approve_dispute(asked: Asked) -> Answer:
    return Answer(200, await disputes.approve(asked.house, asked.access, asked.path["dispute"], asked.body))


async def close_dispute(asked: Asked) -> Answer:
    return Answer(200, await disputes.close(asked.house, asked.access, asked.path["dispute"]))


async def list_audit(asked: Asked) -> Answer:
    """Oldest first; `next` is null only on an empty page, as with events."""
    query: Paged = asked.query
    last = position_in("audit", query.cursor, int) or 0
    async with asked.archive.connect() as connection:
        rows = await archive.evidence_page(connection, asked.tenant, last, query.limit)
    entries = [
        AuditEntry(entry.seq, entry.hash, msgspec.json.decode(body, type=Event))
        for entry, body in rows
        if body is not None
    ]
    return Answer(200, Page(entries, cursor_for("audit", rows[-1][0].seq) if rows else None))


async def evidence_key(asked: Asked) -> Answer:
    return Answer(200, EvidenceKey(evidence.public_key(asked.house.keyring)))
