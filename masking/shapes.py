"""What a session's events make of its shape: a pure fold, for the archive's rows and for a look back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from masking.events import Event
from masking.sessions import Session, SessionStatus

FIELDS: Final = frozenset(Session.__struct_fields__)


def opened(event: Event) -> Session:
    """The session as its first event tells it; `msgspec.ValidationError`."""
    return msgspec.convert({name: value for name, value in event.data.items() if name in FIELDS}, Session)


def after(session: Session, event: Event) -> Session:
    """One step of the fold; an event that changes nothing of the shape leaves it as it is."""
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
