"""Sessions of at most two people, who may come one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from masking import archive, joining, opening, reopening, shelves, sids
from masking import sessions as core
from masking.api.paging import cursor_for, position_in
from masking.api.twilio import participants
from masking.api.twilio.asked import Answer, Asked, forget, gone
from masking.api.twilio.errors import BAD_REQUEST, NO_NUMBERS, STATUS_INVALID, Trouble
from masking.api.twilio.found import names_of_others, session_of, url_of
from masking.api.twilio.paging import led, wanted
from masking.api.twilio.services import lifetime
from masking.callbacks import at
from masking.events import moment
from masking.refusals import NumberPoolExhausted, SessionFull, UniqueNameConflict
from masking.services import Service
from masking.sessions import Mode, NewSession, Session, SessionChange

Status = Literal["open", "in-progress", "closed", "failed", "unknown"]
LIST: Final = "twilio sessions"


class SessionForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """`POST` of a session. `participants`: a JSON object each. Its repr does not show them."""

    unique_name: Annotated[str, Meta(max_length=191)] = ""
    date_expiry: datetime | None = None
    ttl: Annotated[int, Meta(ge=0)] | None = None
    mode: Literal["message-only", "voice-only", "voice-and-message"] = "voice-and-message"
    status: Status = "open"
    participants: list[str] = []
    fail_on_participant_conflict: bool = True  # as is always done

    def __repr__(self) -> str:
        return f"<SessionForm of {len(self.participants)}>"


class SessionUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """`POST` to a session."""

    date_expiry: datetime | UnsetType = UNSET
    ttl: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    fail_on_participant_conflict: bool = True


async def create(asked: Asked) -> Answer:
    form: SessionForm = asked.form
    service = await asked.service()
    if form.status not in ("open", "in-progress"):
        raise Trouble(STATUS_INVALID, "A session starts open.")
    people = [participants.given(text) for text in form.participants]
    if len(people) > joining.MOST:
        raise SessionFull(f"A session has {joining.MOST} participants at most.")
    if service.number_model in ("extension", "one_party"):
        raise Trouble(BAD_REQUEST, "The numbers of this service are for other sessions: Twilio's are of two people.")
    chosen = any(person.proxy_identifier or person.proxy_identifier_sid for person in people)
    new = NewSession(
        participants=[] if chosen else [person.person for person in people],
        service=service.id,
        unique_name=form.unique_name or None,
        ttl=lifetime(service.ttl if form.ttl is None else form.ttl),
        ttl_mode="fixed" if form.date_expiry is not None else "sliding",
        expires_at=_zoned(form.date_expiry),
        mode=msgspec.convert(form.mode.replace("-", "_"), Mode),
        number_model="per_party",
    )
    session = await _open(asked, service, new)
    if chosen:
        try:
            for person in people:
                session, _ = await participants.joined(asked, service, session.id, person)
        except Exception:
            await core.close(asked.house, asked.access, session.id)
            raise
    return Answer(201, (await _shown(asked, service, [session]))[0])


async def _open(asked: Asked, service: Service, new: NewSession) -> Session:
    try:
        session, fresh = await opening.open_session(
            asked.house, asked.access, new, letters=sids.session_letters(service.id), fewest=0
        )
    except NumberPoolExhausted as short:
        if await asked.house.inventory.shards(asked.tenant, service.id):
            raise
        raise Trouble(NO_NUMBERS, "The service has no numbers yet.") from short
    if not fresh:
        raise UniqueNameConflict("An open session of the service has this UniqueName.")
    return session


def _zoned(at: datetime | None) -> datetime | None:
    """Twilio's times are GMT, whether or not they say so."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


async def fetch(asked: Asked) -> Answer:
    service = await asked.service()
    return Answer(200, (await _shown(asked, service, [await session_of(asked, service)]))[0])


async def read(asked: Asked) -> Answer:
    service = await asked.service()
    page = wanted(asked)
    before = position_in(LIST, page.token, tuple[float, str])
    found = await shelves.listing(
        asked.house, asked.access, letters=sids.letters_prefix(service.id), limit=page.size, before=before
    )
    others = await names_of_others(asked, service)
    rows = [session for session in found.data if session.service not in others]
    deleted = await gone(asked, [sids.session(session.id) for session in rows])
    rows = [session for session in rows if sids.session(session.id) not in deleted]
    following = cursor_for(LIST, found.next) if found.next is not None else None
    return led("sessions", url_of(asked, service), page, await _shown(asked, service, rows), following)


async def update(asked: Asked) -> Answer:
    form: SessionUpdate = asked.form
    service = await asked.service()
    session = await session_of(asked, service)
    life = _life(form)
    if form.status == "closed":
        session = await core.close(asked.house, asked.access, session.id)
    elif form.status == "in-progress" and session.status == "closed":
        session = await reopening.reopen(asked.house, asked.access, session.id, ttl=session.ttl, expires_at=None)
    elif form.status not in (UNSET, "open", "in-progress") or (form.status == "open" and session.status == "closed"):
        raise Trouble(STATUS_INVALID, "A session goes from open or in-progress to closed, from closed to in-progress.")
    if life is not None and form.status != "closed":
        sliding = life.ttl if isinstance(life.ttl, int) else 0
        session = await core.change(asked.house, asked.access, session.id, life, sliding)
    return Answer(200, (await _shown(asked, service, [session]))[0])


def _life(form: SessionUpdate) -> SessionChange | None:
    if isinstance(form.date_expiry, datetime):
        return SessionChange(expires_at=msgspec.convert(_zoned(form.date_expiry), datetime))
    return SessionChange(ttl=lifetime(form.ttl)) if isinstance(form.ttl, int) else None


async def delete(asked: Asked) -> Answer:
    service = await asked.service()
    session = await session_of(asked, service)
    await core.close(asked.house, asked.access, session.id)
    await forget(asked, sids.session(session.id))
    return Answer(204)


async def _shown(asked: Asked, service: Service, rows: list[Session]) -> list[dict[str, Any]]:
    assert asked.house.archive is not None, "the API's house has an archive"
    async with asked.house.archive.connect() as connection:
        calls = await archive.first_and_last_calls(connection, [session.id for session in rows])
    return [_one(asked, service, session, *calls.get(session.id, (None, None))) for session in rows]


def _one(asked: Asked, service: Service, session: Session, first: float | None, last: float | None) -> dict[str, Any]:
    url = url_of(asked, service, session)
    touched = moment(last) if last is not None else session.created_at
    return {
        "sid": sids.session(session.id),
        "service_sid": sids.service(service.id),
        "account_sid": asked.account,
        "date_started": at(moment(first)) if first is not None else None,
        "date_ended": at(session.closed_at),
        "date_last_interaction": at(moment(last)) if last is not None else None,
        "date_expiry": at(session.expires_at),
        "unique_name": session.unique_name,
        "status": session.status.replace("_", "-"),
        "closed_reason": session.closed_reason,
        "ttl": session.ttl,
        "mode": session.mode.replace("_", "-"),
        "date_created": at(session.created_at),
        "date_updated": at(session.closed_at or touched),
        "url": url,
        "links": {"interactions": f"{url}/Interactions", "participants": f"{url}/Participants"},
    }
