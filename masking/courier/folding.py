"""What a batch of events makes of the archive's rows: pure folds, no I/O.

A session's row follows from its events (`session.opened` carries the whole shape), an interaction's from the call's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from masking.events import Event
from masking.interactions import Interaction
from masking.number_health import Outcome
from masking.sessions import Session, SessionStatus

FIELDS = frozenset(Session.__struct_fields__)


class Row(msgspec.Struct, frozen=True):
    """A session in the archive: whose, as of which event, and its shape."""

    tenant: str
    seq: int
    session: Session


def session_after(row: Row | None, event: Event) -> Row | None:
    """The row after the event; an event that was folded in before changes nothing."""
    if event.type == "session.opened":
        opened = msgspec.convert({name: value for name, value in event.data.items() if name in FIELDS}, Session)
        return row or Row(str(event.data["tenant"]), event.seq, opened)
    if row is None or event.seq <= row.seq:
        return row
    return Row(row.tenant, event.seq, _shape_after(row.session, event))


def _shape_after(session: Session, event: Event) -> Session:
    if event.type == "session.updated" and session.status != "closed":
        return _changed(session, event.data)
    if event.type == "session.closed" and session.status != "closed":
        closed = _changed(session, event.data)
        lapsed = closed.closed_reason in ("expired", "stage_end")
        ended = closed.expires_at if lapsed else event.occurred_at
        return msgspec.structs.replace(closed, closed_at=ended, stage=None)
    if event.type == "session.reopened":
        said = {"closed_reason": None, "closed_at": None} | dict(event.data)
        return msgspec.structs.replace(
            _changed(session, said), status=msgspec.convert(said["status"], SessionStatus), closed_at=None
        )
    if event.type == "call.initiated" and session.status == "open":
        return msgspec.structs.replace(session, status="in_progress")
    return session


def _changed(session: Session, data: Mapping[str, Any]) -> Session:
    known: dict[str, Any] = msgspec.to_builtins(session)
    said = {name: value for name, value in data.items() if name in FIELDS and name not in ("id", "status")}
    status = {"status": "closed"} if data.get("status") == "closed" else {}
    return msgspec.convert(known | said | status, Session)


def numbers_of(session: Session) -> set[str]:
    """Every virtual number of the session."""
    return {proxy.number for participant in session.participants for proxy in participant.proxies}


def outcome_of(session: Session, call: Interaction) -> list[Outcome]:
    """What a call that has ended says of the number its callee saw; nothing where the platform is to blame, or where
    somebody else was called."""
    blameless = call.status == "refused" or call.forwarded or call.reason in ("fault", "owner_lost")
    if call.ended_at is None or call.type != "call" or blameless:
        return []
    number = _dials(session, call.to, call.from_) or call.dialled
    answered = call.status == "completed"
    return [Outcome(number, answered, call.conversation)] if number is not None else []


def report_of(session: Session, event: Event) -> list[Outcome]:
    """What a report says of the number that whoever reports saw."""
    if event.type != "abuse.reported":
        return []
    number = _dials(session, event.data.get("reported_by"), event.data.get("about"))
    return [Outcome(number, report=True)] if number is not None else []


def _dials(session: Session, source: str | None, target: str | None) -> str | None:
    """What one dials to reach the other is what they see when the other calls."""
    for participant in session.participants:
        if participant.id == source:
            return next((proxy.number for proxy in participant.proxies if proxy.to == target), None)
    return None


def numbers_between(session: Session, interaction: Interaction) -> list[str]:
    """The virtual numbers of one call: what was dialled, and what the callee saw."""
    ends = {interaction.from_, interaction.to}
    between = {
        proxy.number
        for participant in session.participants
        for proxy in participant.proxies
        if {participant.id, proxy.to} == ends
    }
    return sorted(between | ({interaction.dialled} if interaction.dialled else set()))
