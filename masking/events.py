"""The events of a session: one append-only stream with a gap-free `seq`, of which everything later is a fold.

An event's data carries tokens and virtual numbers, never a person's number. What belongs to no session (an emergency
number dialled, a stranger's call) goes to the tenant's *loose* events, counted within the tenant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from pools.grants import Fact, JournalEntry, OutboxEntry

if TYPE_CHECKING:
    from masking.house import House

EventType = Literal[
    "session.opened",
    "session.updated",
    "session.closed",
    "session.expired",
    "session.reopened",
    "session.searched",
    "number.leased",
    "number.released",
    "number.low",
    "number.exhausted",
    "number.unhealthy",
    "number.healthy",
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.bridged",
    "call.missed",
    "call.ended",
    "call.refused",
    "message.refused",
    "recording.started",
    "recording.paused",
    "recording.resumed",
    "recording.stopped",
    "recording.available",
    "recording.failed",
    "recording.accessed",
    "recording.held",
    "recording.released",
    "recording.erased",
    "recording.shared",
    "recording.searched",
    "person.erased",
    "abuse.blocked",
    "abuse.unblocked",
    "abuse.reported",
    "dispute.opened",
    "dispute.approved",
    "dispute.closed",
    "evidence.checkpoint",
    "webhook.test",
]

# Of each participant from this event on, the blind indexes: for the archive's search, and in no event that is shown.
PARTIES: Final = "parties"

LOOSE_OUTBOX: Final = "{loose}o"
LOOSE_KEPT: Final = 100_000  # with no courier to fetch them the oldest go


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in the one shape that the timeline, `GET /v1/events` and webhooks carry.

    `id` is made from session and seq, so an event read twice is the same event. `seq` starts at 1; an event of no
    session has `session: null` and counts within its tenant.
    """

    id: str
    type: EventType
    occurred_at: datetime
    session: str | None
    seq: int
    data: dict[str, Any]

    @classmethod
    def of(cls, session: str, entry: JournalEntry | OutboxEntry) -> Event:
        """A journal entry of `session` as an event; `msgspec.ValidationError` for a type this version does not know."""
        event = _event(session, session, entry.seq, entry.type, entry.at, entry.data)
        event.data.pop(PARTIES, None)
        return event


def _event(stream: str, session: str | None, seq: int, kind: str, at_ms: int, data: bytes) -> Event:
    return Event(
        id=event_id(stream, seq),
        type=msgspec.convert(kind, EventType),
        occurred_at=moment(at_ms / 1000),
        session=session,
        seq=seq,
        data=msgspec.json.decode(data) if data else {},
    )


class Loose(msgspec.Struct, frozen=True):
    """An event of no session on its way to the courier, who counts it within its tenant. `tenant` is "" where only the
    trunk it came by (in `data`) tells whose it is; `id` is its place in the outbox."""

    id: str
    tenant: str
    type: str
    at: int
    data: bytes

    def counted(self, tenant: str, seq: int) -> Event:
        """The event, as entry `seq` of the tenant's."""
        return _event(f"tenant/{tenant}", None, seq, self.type, self.at, self.data)


def append_loose(
    house: House, tenant: str | None, kind: EventType, at: float, data: Mapping[str, Any]
) -> Awaitable[Any]:
    """Appends an event that belongs to no session. It is on its way when this returns; await it to know it arrived."""
    words = ("tenant", tenant or "", "type", kind, "at", round(at * 1000), "data", msgspec.json.encode(data))
    return house.ahead("XADD", LOOSE_OUTBOX, "MAXLEN", "~", LOOSE_KEPT, "*", *words)


async def loose_outbox(house: House, after: str, limit: int) -> list[Loose]:
    """Events of no session after the id `after`, oldest first."""
    rows = await house.redis.command("XRANGE", LOOSE_OUTBOX, f"({after}", "+", "COUNT", limit)
    found = []
    for name, flat in rows:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        tenant, kind = fields[b"tenant"].decode(), fields[b"type"].decode()
        found.append(Loose(name.decode(), tenant, kind, int(fields[b"at"]), fields[b"data"]))
    return found


def event_id(stream: str, seq: int) -> str:
    """`evt_…` of the entry `seq` of a session's (or a tenant's) stream."""
    return "evt_" + hashlib.blake2b(f"{stream}/{seq}".encode(), digest_size=14).hexdigest()


def moment(seconds: float) -> datetime:
    """The time of day of `house.now()`, to the millisecond."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def moment_of(ms: int) -> datetime:
    """The time of day of `house.now_ms`."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def seconds(at: datetime) -> float:
    """A moment as seconds since 1970."""
    return at.timestamp()


def fact(kind: EventType, at: float | None, data: Mapping[str, Any]) -> Fact:
    """An event for a holder's journal. `at` None: when the script runs. The pools fill `$from`, `$to`, `$decision` and
    `$x0` … into the data, so a `$` of anybody else's is written as JSON's `\\u0024`; ours come from `filled`."""
    encoded = msgspec.json.encode(data).replace(b"$", b"\\u0024").replace(_FILLED, b"$")
    return kind, round(at * 1000) if at is not None else None, encoded


_FILLED: Final = (
    b"\\u0001"  # how JSON spells the control character that `filled` starts with; no text of a client has one
)


def filled(word: str) -> str:
    """A place in a fact's data that the pools' script fills in: `from`, `to`, `decision`, `x0` …"""
    return "\x01" + word
