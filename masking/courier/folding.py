"""What a batch of events makes of the archive's rows: pure folds, no I/O.

A session's row follows from its events (`session.opened` carries the whole shape), an interaction's from the call's.
"""

from __future__ import annotations

import msgspec

from masking import shapes
from masking.events import Event
from masking.interactions import Interaction
from masking.number_health import Outcome
from masking.sessions import Session


class Row(msgspec.Struct, frozen=True):
    """A session in the archive: whose, as of which event, and its shape."""

    tenant: str
    seq: int
    session: Session


def session_after(row: Row | None, event: Event) -> Row | None:
    """The row after the event; an event that was folded in before changes nothing."""
    if event.type == "session.opened":
        return row or Row(str(event.data["tenant"]), event.seq, shapes.opened(event))
    if row is None or event.seq <= row.seq:
        return row
    return Row(row.tenant, event.seq, shapes.after(row.session, event))


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
