"""Callers whom nobody is bound to, and whom their app makes known while they wait; and those who dial the one number
of a dispatch, behind which the app says who is (late binding: nothing is leased before).

The app is told the number that was dialled and who calls, in tokens; it may answer with a session to open, in which the
caller takes part by the token, or with one that it has opened meanwhile, and the call goes on over that. Whatever else
it answers, or does not, the caller meets what the service has for strangers, word for word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from masking import callers, extensions, opening, records, routes, sids
from masking.access import Access
from masking.questions import Question
from masking.refusals import Invalid, NotFound, Refused
from masking.sessions import NewSession
from pools.grants import letters_of

if TYPE_CHECKING:
    from masking.house import House
    from masking.questions import Advice, Answer
    from masking.records import Person, Record
    from masking.routes import Known, Refusal, Route, Stranger

log = structlog.get_logger("masking.introductions")

BY_APP = "app"  # in the place of a key's id: whose wish a session was that an answer opened


async def question(house: House, stranger: Stranger) -> Question:
    """What the app is asked; a token for the caller is made, unless it is withheld. Raises `Unavailable`."""
    attempt, number = stranger.attempt, stranger.number
    caller = None
    if stranger.caller is not None:
        caller = {
            "id": callers.handle(house, number.tenant, stranger.caller),
            "token": await callers.token(house, number.tenant, stranger.caller),
        }
    return Question(
        id="req_" + attempt.interaction.removeprefix("int_"),
        type=stranger.asked,
        tenant=number.tenant,
        service=stranger.service,
        url=stranger.url,
        within=stranger.within,
        at=attempt.at,
        data={
            "interaction": attempt.interaction,
            "dialled": number.number,
            "caller": caller,
            "trunk": attempt.trunk,
            "attestation": attempt.attestation,
        },
    )


async def introduced(house: House, stranger: Stranger, advice: Advice) -> Known:
    """What the app's advice makes of the call: a route over the session that it named, with its slot claimed, or what
    every stranger meets. Raises `Unavailable`."""
    answer = advice.answer
    if answer is not None and answer.verdict == "deny":
        said = f":{answer.reason}" if answer.reason is not None else ""
        return routes.turned_away(house, stranger, _word(stranger) + said)
    if answer is None or answer.session is None:
        return stranger.otherwise or routes.turned_away(house, stranger, "no_binding")
    try:
        return await _connected(house, stranger, answer)
    except Refused as refused:
        log.info("introduction_failed", interaction=stranger.attempt.interaction, problem=refused.code)
        errors = [{"field": one.field, "problem": one.problem} for one in refused.errors]
        problem = {"code": refused.code, "errors": errors}
        return routes.turned_away(house, stranger, f"{_word(stranger)}_failed", problem)


def _word(stranger: Stranger) -> str:
    return stranger.asked.removeprefix("call.")


async def _connected(house: House, stranger: Stranger, answer: Answer) -> Route | Refusal:
    """The route from the caller to whom the app means. `Refused` when there is none."""
    if stranger.caller is None:
        raise Invalid.field("session", "has no caller to go with", "nothing: the caller's number is withheld")
    tenant = stranger.number.tenant
    session = await _session(house, stranger, answer)
    found = await records.held(house, tenant, session)
    if found is None:
        raise NotFound("No such session.")
    holder, record = found
    party = house.keyring.index(stranger.caller)
    source = next((person for person in record.people if party in person.parties), None)
    if source is None:
        raise Invalid.field("session", "does not have the caller", "a participant with the caller's token")
    target = _meant(record, source, answer.to)
    number = await house.inventory.find(holder.numbers[record.line(source.id, target.id)])
    if number is None:
        raise NotFound("The session's number is gone.")
    dials = extensions.dials(house, party, record.extensions.get(target.id))
    return await routes.vouched(house, number, dials, stranger.attempt)


async def _session(house: House, stranger: Stranger, answer: Answer) -> str:
    """The id of the session that the app named or described; in its description `service` is the dialled number's."""
    said: Any = answer.session
    if isinstance(said, str):
        return said
    try:
        new = msgspec.convert({"service": stranger.service.name} | said, NewSession)
    except msgspec.ValidationError as error:
        log.info("introduction_unreadable", interaction=stranger.attempt.interaction)
        raise Invalid.field("session", "is not as POST /v1/sessions takes it", "its body") from error
    access = Access(stranger.number.tenant, BY_APP, frozenset())
    twilio = stranger.service.webhook_wording == "twilio"
    letters = sids.session_letters(stranger.service.id) if twilio else letters_of
    session, _ = await opening.open_session(house, access, new, letters=letters)
    return session.id


def _meant(record: Record, source: Person, role: str | None) -> Person:
    """Whom the call is to reach: who has that role, else the first of the others."""
    others = [person for person in record.people if person.id != source.id]
    found = others if role is None else [person for person in others if person.role == role]
    if not found:
        raise Invalid.field("to", "is nobody's role", "the role of another participant")
    return found[0]
