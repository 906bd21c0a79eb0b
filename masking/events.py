"""The events of a session: one append-only stream with a gap-free `seq`, of which everything later is a fold.

An event's data carries tokens and virtual numbers, never a person's number. Times inside are RFC 3339 UTC like every
time that leaves; the stream itself keeps them as seconds.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

EventType = Literal[
    "session.opened",
    "session.updated",
    "session.closed",
    "session.expired",
    "number.leased",
    "number.released",
    "number.exhausted",
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.bridged",
    "call.ended",
    "call.refused",
    "recording.started",
    "recording.available",
    "recording.failed",
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in the one shape that the timeline, `GET /v1/events` and webhooks carry.

    `id` is made from session and seq, so an event read twice is the same event. `seq` starts at 1; an event of no session
    has `session: null` and counts within its tenant.
    """

    id: str
    type: EventType
    occurred_at: datetime
    session: str | None
    seq: int
    data: dict[str, Any]


def event_id(stream: str, seq: int) -> str:
    """`evt_…` of the entry `seq` of a session's (or a tenant's) stream."""
    return "evt_" + hashlib.blake2b(f"{stream}/{seq}".encode(), digest_size=14).hexdigest()


def moment(seconds: float) -> datetime:
    """The time of day of `house.now()`, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)
