"""The people of a session. A person's number is taken and never shown: its place has what they are displayed as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from masking import joining, sids
from masking.api.twilio import phone_numbers
from masking.api.twilio.asked import Answer, Asked
from masking.api.twilio.errors import BAD_REQUEST, NOT_IN_SERVICE, Trouble
from masking.api.twilio.found import participant_of, session_of, url_of
from masking.api.twilio.paging import listed
from masking.callbacks import at
from masking.refusals import InvalidPhoneNumber, NumberPoolExhausted
from masking.sessions import NewParticipant, Participant, Session
from pools.inventory import CALLABLE, PhoneNumber

if TYPE_CHECKING:
    from masking.services import Service


class ParticipantForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"):
    """`POST` of a participant: `identifier` is a phone number. Its repr does not show it."""

    identifier: Annotated[str, Meta(max_length=191)] = ""
    friendly_name: Annotated[str, Meta(max_length=255)] = ""
    proxy_identifier: Annotated[str, Meta(max_length=191)] = ""
    proxy_identifier_sid: Annotated[str, Meta(max_length=34)] = ""
    fail_on_participant_conflict: bool = True  # as is always done

    def __repr__(self) -> str:
        return "<ParticipantForm>"

    @property
    def person(self) -> NewParticipant:
        if not self.identifier.startswith("+") or len(self.identifier) > 32:
            raise InvalidPhoneNumber("Identifier: expected a person's phone number in E.164.")
        return NewParticipant(identifier=self.identifier, friendly_name=self.friendly_name or None)


def given(text: str) -> ParticipantForm:
    """A participant as a session's form has it: JSON, whose names Twilio's libraries spell in three ways."""
    try:
        fields = msgspec.json.decode(text, type=dict[str, str])
        known = {field.encode_name.lower(): field.encode_name for field in msgspec.structs.fields(ParticipantForm)}
        spelled = {known[name.replace("_", "").lower()]: value for name, value in fields.items()}
        return msgspec.convert(spelled, ParticipantForm, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        raise Trouble(
            BAD_REQUEST, "Participants: expected JSON objects with Identifier, FriendlyName, ProxyIdentifier."
        ) from None


async def create(asked: Asked) -> Answer:
    service = await asked.service()
    session = await session_of(asked, service)
    return Answer(201, _shown(asked, service, *await joined(asked, service, session.id, asked.form)))


async def joined(asked: Asked, service: Service, session: str, form: ParticipantForm) -> tuple[Session, Participant]:
    """The session with one participant more, and that one."""
    wish: PhoneNumber | Literal["", "sticky"] = "sticky" if service.number_selection == "prefer_sticky" else ""
    named = form.proxy_identifier_sid or form.proxy_identifier
    if named:
        number = await phone_numbers.in_service(asked, service.id, named)
        if number is None or number.state not in CALLABLE:
            raise Trouble(NOT_IN_SERVICE, "The proxy identifier is no number of the service.")
        wish = number
    try:
        return await joining.join(asked.house, asked.access, session, form.person, wish=wish)
    except NumberPoolExhausted as short:
        raise NumberPoolExhausted(
            "The service has no number that this participant could dial: all are held or resting.",
            needed=short.needed,
            retry_after=short.retry_after,
        ) from short


async def fetch(asked: Asked) -> Answer:
    service, session, participant = await participant_of(asked)
    return Answer(200, _shown(asked, service, session, participant))


async def read(asked: Asked) -> Answer:
    service = await asked.service()
    session = await session_of(asked, service)
    shown = [_shown(asked, service, session, one) for one in session.participants]
    return listed(asked, "participants", f"{url_of(asked, service, session)}/Participants", shown)


async def delete(asked: Asked) -> Answer:
    _, session, participant = await participant_of(asked)
    await joining.leave(asked.house, asked.access, session.id, participant.id)
    return Answer(204)


def _shown(asked: Asked, service: Service, session: Session, person: Participant) -> dict[str, Any]:
    number = person.proxies[0].number if person.proxies else None
    url = f"{url_of(asked, service, session)}/Participants/{sids.participant(person.id)}"
    return {
        "sid": sids.participant(person.id),
        "session_sid": sids.session(session.id),
        "service_sid": sids.service(service.id),
        "account_sid": asked.account,
        "friendly_name": person.friendly_name,
        "identifier": person.display,
        "proxy_identifier": number,
        "proxy_identifier_sid": sids.number(number) if number is not None else None,
        "date_deleted": None,
        "date_created": at(session.created_at),
        "date_updated": at(session.created_at),
        "url": url,
        "links": {"message_interactions": f"{url}/MessageInteractions"},
    }
