"""What a path names: a session that the face opened in the service, and who takes part in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from masking import services, sessions, shelves, sids
from masking.api.twilio.asked import gone
from masking.refusals import NotFound

if TYPE_CHECKING:
    from masking.api.twilio.asked import Asked
    from masking.services import Service
    from masking.sessions import Participant, Session


async def session_of(asked: Asked, service: Service) -> Session:
    """The session of the path, by SID or by the unique_name of one that is open; `NotFound`."""
    named = asked.path["Sessions"]
    prefix = sids.letters_prefix(service.id)
    own = sids.session_of(named)
    if own is None:
        page = await shelves.listing(asked.house, asked.access, unique_name=named, letters=prefix, limit=5)
        own = next((one.id for one in page.data if one.status != "closed"), None)
    if own is not None and own[10:].startswith(prefix):
        session = await sessions.get(asked.house, asked.access, own)
        if session.service not in await names_of_others(asked, service) and not await gone(asked, [sids.session(own)]):
            return session
    raise NotFound("The session was not found.")


async def names_of_others(asked: Asked, service: Service) -> set[str]:
    """How sessions name those of the tenant's other services whose sessions' ids begin with the same letters."""
    rows = await services.listing(asked.house, asked.tenant)
    same = sids.letters_prefix(service.id)
    return {one.name for one in rows if one.id != service.id and sids.letters_prefix(one.id) == same}


async def participant_of(asked: Asked) -> tuple[Service, Session, Participant]:
    """The participant of the path, and where; `NotFound`."""
    service = await asked.service()
    session = await session_of(asked, service)
    for one in session.participants:
        if sids.participant(one.id) == asked.path["Participants"]:
            return service, session, one
    raise NotFound("The participant was not found.")


def url_of(asked: Asked, service: Service, session: Session | None = None) -> str:
    """Of the session, or of the service's list of them."""
    url = f"{asked.base}/Services/{sids.service(service.id)}/Sessions"
    return f"{url}/{sids.session(session.id)}" if session is not None else url
