"""Sessions: an order, its people, the virtual numbers through which they reach each other, until when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from masking.access import Access
    from masking.events import Event
    from masking.house import House

SessionStatus = Literal["open", "in_progress", "closed", "failed"]
ClosedReason = Literal["api", "expired", "stage_end", "replaced", "abuse", "number_lost"]


class NewParticipant(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A person who joins: `identifier` is the real number, E.164. Its repr does not show it."""

    identifier: str | UnsetType = UNSET
    role: str | None = None
    friendly_name: str | None = None
    language: str | None = None
    identifiers: list[str] | None = None
    ring: str | None = None

    def __repr__(self) -> str:
        return f"<NewParticipant {self.role}>"


class NewSession(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sessions`; None means: as the service says."""

    participants: list[NewParticipant]
    service: str = "default"
    unique_name: str | None = None
    ttl: int | None = None
    ttl_mode: str = "fixed"
    expires_at: datetime | None = None
    mode: str = "voice_and_message"
    direction: str = "both"
    stages: list[dict[str, Any]] = []
    number_model: str | None = None
    geo_match: str | None = None
    number_selection: str | None = None
    pair_quarantine: int | None = None
    record: str | None = None
    announcements: dict[str, Any] | None = None
    pin: dict[str, Any] | None = None
    ring_timeout: int | None = None
    call_time_limit: int | None = None
    warning_at: int | None = None
    max_concurrent_calls: int | None = None
    max_call_attempts_per_hour: int = 0
    on_expiry_in_call: str = "finish"
    answer_confirm: str = "none"
    metadata: dict[str, str] = {}


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """The number a participant dials to reach `to`."""

    to: str
    number: str
    extension: str | None = None
    pin: str | None = None


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """A person of a session as the API shows it; `display` is `+8490…67`."""

    id: str
    role: str | None
    friendly_name: str | None = None
    language: str | None = None
    display: str
    proxies: list[Proxy]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the API shows it. `service` is the service's unique_name, or its id where it has none."""

    id: str
    service: str
    unique_name: str | None
    status: SessionStatus
    closed_reason: ClosedReason | None = None
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None = None
    mode: str
    direction: str
    record: str
    metadata: dict[str, str]
    participants: list[Participant]


class SessionChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/sessions/{id}`: only what is said changes."""

    metadata: dict[str, str] | UnsetType = UNSET
    ttl: int | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    record: str | UnsetType = UNSET
    ring_timeout: int | UnsetType = UNSET
    call_time_limit: int | UnsetType = UNSET
    warning_at: int | UnsetType = UNSET
    max_concurrent_calls: int | UnsetType = UNSET


class Page(msgspec.Struct, frozen=True):
    """Newest first; `next` is what the following page is asked for with (`before`), None on the last one."""

    data: list[Session]
    next: tuple[float, str] | None


async def open_session(
    house: House, access: Access, new: NewSession, *, token: str | None = None
) -> tuple[Session, bool]:
    """Opens a session; False beside it when `unique_name` with the same participants was open already.

    `token` names the request (an Idempotency-Key's identity): asked twice with it, one session is opened.

    Refuses with `Invalid` and its kin, `ParticipantConflict`, `UniqueNameConflict` (extra `session`),
    `NumberPoolExhausted`, `GeoUnavailable`, `NotFound` for the service.
    """
    raise NotImplementedError


async def get(house: House, access: Access, session: str) -> Session:
    """One session, live or archived; `NotFound`."""
    raise NotImplementedError


async def listing(
    house: House,
    access: Access,
    *,
    unique_name: str | None = None,
    status: SessionStatus | None = None,
    number: str | None = None,
    limit: int = 50,
    before: tuple[float, str] | None = None,
) -> Page:
    """The tenant's sessions, newest first. `number` is a virtual number, E.164; `before` the `next` of the page before."""
    raise NotImplementedError


async def change(house: House, access: Access, session: str, wish: SessionChange) -> Session:
    """Applies what `wish` says; `SessionClosed`, `NotFound`, `Invalid`."""
    raise NotImplementedError


async def close(house: House, access: Access, session: str) -> Session:
    """Closes it: its numbers go into quarantine for its people, live calls go on. Closing a closed one changes nothing."""
    raise NotImplementedError


async def extend(
    house: House, access: Access, session: str, *, ttl: int | None, expires_at: datetime | None
) -> Session:
    """Moves its end to `ttl` seconds from now, or to `expires_at`; `SessionClosed`."""
    raise NotImplementedError


async def timeline(house: House, access: Access, session: str) -> list[Event]:
    """The session's events in `seq` order; `NotFound`."""
    raise NotImplementedError
