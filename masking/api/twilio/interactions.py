"""Interactions: every attempt on a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from masking import callbacks, interactions, sids
from masking.api.twilio.asked import Answer, Asked, forget, gone
from masking.api.twilio.found import session_of, url_of
from masking.api.twilio.paging import listed
from masking.callbacks import at
from masking.refusals import NotFound

if TYPE_CHECKING:
    from masking.interactions import Interaction
    from masking.services import Service
    from masking.sessions import Session


async def fetch(asked: Asked) -> Answer:
    service, session, found = await _found(asked)
    return Answer(200, _shown(asked, service, session, found))


async def read(asked: Asked) -> Answer:
    service = await asked.service()
    session = await session_of(asked, service)
    rows = await interactions.of_session(asked.house, asked.tenant, session.id)
    deleted = await gone(asked, [sids.interaction(one.id) for one in rows])
    shown = [_shown(asked, service, session, one) for one in rows if sids.interaction(one.id) not in deleted]
    return listed(asked, "interactions", f"{url_of(asked, service, session)}/Interactions", shown)


async def delete(asked: Asked) -> Answer:
    _, _, found = await _found(asked)
    await forget(asked, sids.interaction(found.id))
    return Answer(204)


async def _found(asked: Asked) -> tuple[Service, Session, Interaction]:
    service = await asked.service()
    session = await session_of(asked, service)
    sid = asked.path["Interactions"]
    for one in await interactions.of_session(asked.house, asked.tenant, session.id):
        if sids.interaction(one.id) == sid and not await gone(asked, [sid]):
            return service, session, one
    raise NotFound("The interaction was not found.")


def _shown(asked: Asked, service: Service, session: Session, one: Interaction) -> dict[str, Any]:
    inbound, outbound = callbacks.STATUSES[one.status]
    message = one.type == "message"
    kind = "Message" if message else "Call"
    reached = outbound is not None and one.to is not None
    sid = sids.interaction(one.id)
    return {
        "sid": sid,
        "session_sid": sids.session(session.id),
        "service_sid": sids.service(service.id),
        "account_sid": asked.account,
        "data": callbacks.data_of(one),
        "type": "message" if message else "voice",
        "inbound_participant_sid": sids.participant(one.from_) if one.from_ is not None else None,
        "inbound_resource_sid": sids.leg(one.id, 1),
        "inbound_resource_status": inbound,
        "inbound_resource_type": kind,
        "inbound_resource_url": None,
        "outbound_participant_sid": sids.participant(str(one.to)) if reached else None,
        "outbound_resource_sid": sids.leg(one.id, 2) if reached else None,
        "outbound_resource_status": outbound,
        "outbound_resource_type": kind if reached else None,
        "outbound_resource_url": None,
        "date_created": at(one.started_at),
        "date_updated": at(callbacks.touched(one)),
        "url": f"{url_of(asked, service, session)}/Interactions/{sid}",
    }
