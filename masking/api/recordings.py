"""Recordings over HTTP: which there are, and their sound, never without a reason and never without a trace."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from masking import disputes, searches
from masking.api.identifiers import number_filter
from masking.api.operations import Answer, Asked
from masking.api.paging import Page, Paged, cursor_for, position_in
from masking.api.problems import Declined, bad_field, unavailable
from masking.api.ranges import part_of
from masking.events import EventType, append_loose, fact
from masking.numbering import spells_a_number
from masking.refusals import FieldError, NotFound
from recordings import catalogue
from recordings.catalogue import Catalogued, Filter
from recordings.catalogue import Recording as Recording
from recordings.chunks import Altered
from recordings.providers import KeyRefused, KeysAway
from recordings.seals import NotOpened
from recordings.store import NotStored
from recordings.waves import Form, Original, Sound, encode

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
REASON_LIMIT = 255
MEDIA_TYPES: dict[Form, str] = {"wav": "audio/wav", "opus": "audio/ogg"}


class RecordingQuery(Paged, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which recordings: all of the tenant's, newest first, or those that match everything said."""

    session: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    unique_name: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    number: Annotated[str, msgspec.Meta(max_length=32, description="A virtual number of yours, E.164.")] | None = None
    participant: Annotated[str, msgspec.Meta(max_length=64, description="`par_…`")] | None = None
    since: Annotated[Moment | None, msgspec.Meta(description="Started then or later.")] = msgspec.field(
        name="from", default=None
    )
    until: Annotated[Moment | None, msgspec.Meta(description="Started before.")] = msgspec.field(
        name="to", default=None
    )


class MediaQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to have the sound."""

    format: Form = "wav"
    grant: Annotated[str, msgspec.Meta(max_length=255)] | None = None


async def list_recordings(asked: Asked) -> Answer:
    query: RecordingQuery = asked.query
    narrowed = Filter(
        session=query.session,
        unique_name=query.unique_name,
        number=number_filter(query.number),
        participant=query.participant,
        since=query.since.timestamp() if query.since is not None else None,
        until=query.until.timestamp() if query.until is not None else None,
    )
    return Answer(200, await _page(asked, narrowed, "recordings", query))


async def search_recordings(asked: Asked) -> Answer:
    query: Paged = asked.query
    wish: searches.PersonSearch = asked.body
    who = searches.wanted(asked.house, wish)
    page = await _page(asked, Filter(person=who.party, since=who.since, until=who.until), "recordings", query)
    found = {"recordings": [recording.id for recording in page.data]}
    await searches.trace(asked.house, asked.access, wish, "recording.searched", found)
    return Answer(200, page)


async def _page(asked: Asked, narrowed: Filter, listed: str, query: Paged) -> Page[Recording]:
    before = position_in(listed, query.cursor, tuple[float, str])
    async with asked.archive.connect() as connection:
        rows = await catalogue.page(connection, asked.tenant, narrowed, before=before, limit=query.limit + 1)
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    return Page(shown, cursor_for(listed, catalogue.position(shown[-1])) if more else None)


async def get_recording(asked: Asked) -> Answer:
    return Answer(200, (await found(asked)).recording)


async def get_media(asked: Asked) -> Answer:
    """The sound, whole or in part. The access is on record before the first byte leaves; no record, no sound."""
    query: MediaQuery = asked.query
    row = await found(asked)
    recording = row.recording
    why = await _why(asked, query.grant, recording)
    if recording.status != "available" or row.key is None:
        raise Declined(
            "recording_not_available", f"The recording is {recording.status}; it can be played when available."
        )
    sound, size, digest = await _sound(asked, row, query.format)
    etag = f'"{digest}"'
    part = part_of(asked.headers, size, etag)
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": "no-store",
        "Content-Disposition": f'inline; filename="{recording.id}.{query.format}"',
        "Content-Length": str(part.size),
    }
    if part.partial:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    status, kind = 206 if part.partial else 200, MEDIA_TYPES[query.format]
    if asked.method == "HEAD":
        return Answer(status, b"", headers, kind)
    await told(asked, recording, "recording.accessed", why | {"bytes": [part.start, part.end - 1]})
    return Answer(status, sound.get(part.start, part.end), headers, kind)


async def _sound(asked: Asked, row: Catalogued, form: Form) -> tuple[Sound, int, str]:
    """The sound in this form, its size and SHA-256. What is stored is as long as the catalogue says, or not heard."""
    recording, vault = row.recording, asked.desk.vault
    kept = recording.original or Original("wav", recording.sha256 or "", recording.bytes or 0)
    try:
        if await (await vault.original(row)).size() != kept.bytes:
            raise Altered("not of its size")
        if form == kept.format:
            return await vault.original(row), kept.bytes, kept.sha256
        if form == "wav":
            return await vault.sound(row), recording.bytes or 0, recording.sha256 or ""
        encoded = await encode(await vault.original(row))
    except ModuleNotFoundError:
        raise bad_field(
            "not_implemented", "format", "needs the extra `media` where the service runs", kept.format, status=422
        ) from None
    except NotStored:
        raise Declined("recording_not_available", "The recording's file is not in the storage.") from None
    except (Altered, NotOpened, KeyRefused):
        raise Declined("recording_not_available", "The recording's file is not what was stored.") from None
    except KeysAway:
        raise unavailable(5) from None
    return encoded, len(encoded.data), hashlib.sha256(encoded.data).hexdigest()


async def found(asked: Asked) -> Catalogued:
    async with asked.archive.connect() as connection:
        row = await catalogue.get(connection, asked.tenant, asked.path["recording"])
    if row is None:
        raise NotFound("No such recording.")
    return row


async def _why(asked: Asked, grant: str | None, recording: Recording) -> dict[str, object]:
    """What entitles the asker to hear it: a share link, a dispute's grant, or else a reason of his own."""
    if asked.access.key.startswith("shr_"):
        return {"reason": "shared link", "share": asked.access.key}
    if grant is None:
        return {"reason": reason_of(asked)}
    dispute = await disputes.granted(asked.house, asked.tenant, grant, recording.session)
    if dispute is None:
        raise Declined("grant_refused", "The grant has ended, or does not cover this recording.")
    return {"reason": dispute.reason, "dispute": dispute.id, "requested_by": dispute.requested_by}


def reason_of(asked: Asked) -> str:
    """The header X-Reason, in UTF-8."""
    raw = asked.headers.get("x-reason", "").encode("latin-1")
    reason = raw.decode("utf-8", "replace").strip()
    if not reason:
        raise Declined(
            "reason_required",
            "Say in the header X-Reason why the recording is listened to.",
            errors=[FieldError("X-Reason", "is missing", f"a text of 1..{REASON_LIMIT} characters")],
        )
    check_reason(asked, "X-Reason", reason)
    return reason


def check_reason(asked: Asked, field: str, reason: str) -> None:
    """Raises `Declined` for a reason that cannot be kept."""
    if not reason.strip() or len(reason) > REASON_LIMIT or not reason.isprintable():
        raise bad_field("invalid_parameter", field, "cannot be used", f"up to {REASON_LIMIT} printable characters")
    if spells_a_number(reason, asked.house.config.countries):
        raise bad_field("contains_phone_number", field, "contains a phone number", "a text without one")


async def told(asked: Asked, recording: Recording, kind: EventType, said: Mapping[str, object]) -> None:
    """One event on the session's own stream, or, when Redis has forgotten it, on the tenant's."""
    at = asked.house.now()
    data = {"recording": recording.id, "interaction": recording.interaction, "key": asked.access.key, **said}
    appended = await asked.house.leases.append(recording.session, [fact(kind, at, data)])
    if appended.outcome == "gone":
        await append_loose(asked.house, asked.tenant, kind, at, data | {"of_session": recording.session})
