"""Disputes: a case somebody opened over an order, and the time-boxed grant to hear its recordings.

A dispute covers every session of a name (or one session). Where its service asks for a second person's approval the
grant comes with it. What a dispute holds lies in Redis until thirty days after its grant ended; what was done about it,
and every hearing, is in the chain of evidence for good.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from masking.events import EventType, append_loose, moment, seconds
from masking.numbering import spells_a_number
from masking.refusals import Conflict, ContainsPhoneNumber, FieldError, Forbidden, Invalid, NotFound

if TYPE_CHECKING:
    from masking.access import Access
    from masking.house import House

KEPT: Final = 30 * 86_400  # seconds a dispute can be looked up after its grant ended
MOST_SESSIONS: Final = 200
Reason = Annotated[str, Meta(min_length=1, max_length=255)]
Person = Annotated[str, Meta(min_length=1, max_length=128, description="Who, in your own words: not a phone number.")]
Status = Literal["pending", "granted", "expired", "closed"]


class NewDispute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/disputes`: one of `unique_name` and `session`. `approval: second_person` leaves the grant until another
    API key's holder approves. `expires_in`: seconds the grant lasts."""

    unique_name: Annotated[str, Meta(min_length=1, max_length=191)] | None = None
    session: Annotated[str, Meta(max_length=64)] | None = None
    reason: Reason
    requested_by: Person
    approval: Literal["none", "second_person"] = "none"
    expires_in: Annotated[int, Meta(ge=60, le=14 * 86_400, description="Seconds.")] = 86_400


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST …:approve`."""

    approved_by: Person


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as the API shows it. `sessions` are those it covers."""

    id: str
    unique_name: str | None
    sessions: list[str]
    reason: str
    requested_by: str
    approved_by: str | None
    status: Status
    created_at: datetime
    expires_at: datetime | None


class Granted(Dispute, frozen=True, kw_only=True):
    """The same and, this once, the grant: give it as `?grant=` with a recording's media. Null until approved."""

    grant: str | None


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute as Redis holds it."""

    dispute: Dispute
    opened_by: str  # id of the API key
    lasts: int
    digest: str = ""  # of the grant


async def open_dispute(house: House, access: Access, new: NewDispute, sessions: list[str]) -> Granted:
    """A new dispute over the sessions found for it; `Invalid`, `ContainsPhoneNumber`."""
    check_texts(house, {"reason": new.reason, "requested_by": new.requested_by})
    waits = new.approval == "second_person"
    dispute = Dispute(
        id=house.token("dsp_"),
        unique_name=new.unique_name,
        sessions=sessions,
        reason=new.reason,
        requested_by=new.requested_by,
        approved_by=None,
        status="pending" if waits else "granted",
        created_at=moment(house.now()),
        expires_at=None if waits else moment(house.now() + new.expires_in),
    )
    grant = None if waits else house.token("grt_") + house.token("")
    digest = _digest(house, grant) if grant else ""
    await _keep(house, access.tenant, _Kept(dispute=dispute, opened_by=access.key, lasts=new.expires_in, digest=digest))
    await house.redis.command("RPUSH", f"disputes:{access.tenant}", dispute.id)
    said = {"sessions": sessions, "reason": new.reason, "requested_by": new.requested_by, "approval": new.approval}
    await _tell(house, access, "dispute.opened", dispute, said)
    return Granted(**msgspec.structs.asdict(dispute), grant=grant)


async def get(house: House, tenant: str, dispute: str) -> Dispute:
    """`NotFound` for what is not there, not the tenant's, or forgotten."""
    return _now(house, (await _read(house, tenant, dispute)).dispute)


async def listing(house: House, tenant: str) -> list[Dispute]:
    """The tenant's disputes that are not forgotten, oldest first."""
    names = await house.redis.command("LRANGE", f"disputes:{tenant}", 0, -1)
    raws = await house.redis.command("MGET", *(_key(tenant, name.decode()) for name in names)) if names else []
    return [_now(house, msgspec.json.decode(raw, type=_Kept).dispute) for raw in raws if raw is not None]


async def approve(house: House, access: Access, dispute: str, approval: Approval) -> Granted:
    """The second person's word. `Forbidden` for the key, and for the name, that opened it; `Conflict` when it is not
    waiting."""
    check_texts(house, {"approved_by": approval.approved_by})
    kept = await _read(house, access.tenant, dispute)
    if kept.dispute.status != "pending":
        raise Conflict("The dispute is not waiting for an approval.")
    if kept.opened_by == access.key or approval.approved_by.casefold() == kept.dispute.requested_by.casefold():
        raise Forbidden("Another person, with another API key, has to approve.")
    grant = house.token("grt_") + house.token("")
    after = msgspec.structs.replace(
        kept.dispute,
        status="granted",
        approved_by=approval.approved_by,
        expires_at=moment(house.now() + kept.lasts),
    )
    await _keep(house, access.tenant, msgspec.structs.replace(kept, dispute=after, digest=_digest(house, grant)))
    await _tell(house, access, "dispute.approved", after, {"approved_by": approval.approved_by})
    return Granted(**msgspec.structs.asdict(after), grant=grant)


async def close(house: House, access: Access, dispute: str) -> Dispute:
    """Ends the grant; closing what is closed changes nothing."""
    kept = await _read(house, access.tenant, dispute)
    if kept.dispute.status == "closed":
        return kept.dispute
    after = msgspec.structs.replace(kept.dispute, status="closed")
    await _keep(house, access.tenant, msgspec.structs.replace(kept, dispute=after, digest=""))
    await _tell(house, access, "dispute.closed", after, {})
    return after


async def granted(house: House, tenant: str, grant: str, session: str) -> Dispute | None:
    """The dispute whose grant this is, if it holds now and covers the session."""
    name = await house.redis.command("GET", _grant_key(tenant, _digest(house, grant)))
    if name is None:
        return None
    try:
        kept = await _read(house, tenant, name.decode())
    except NotFound:
        return None
    holds = hmac.compare_digest(kept.digest, _digest(house, grant)) and _now(house, kept.dispute).status == "granted"
    return kept.dispute if holds and session in kept.dispute.sessions else None


def _now(house: House, dispute: Dispute) -> Dispute:
    """Time ends a grant; nobody writes that down."""
    over = dispute.expires_at is not None and house.now() >= seconds(dispute.expires_at)
    return msgspec.structs.replace(dispute, status="expired") if over and dispute.status == "granted" else dispute


async def _read(house: House, tenant: str, dispute: str) -> _Kept:
    raw = await house.redis.command("GET", _key(tenant, dispute))
    if raw is None:
        raise NotFound("No such dispute.")
    return msgspec.json.decode(raw, type=_Kept)


async def _keep(house: House, tenant: str, kept: _Kept) -> None:
    lasts = kept.lasts + KEPT
    await house.redis.command("SET", _key(tenant, kept.dispute.id), msgspec.json.encode(kept), "EX", lasts)
    if kept.digest:
        await house.redis.command("SET", _grant_key(tenant, kept.digest), kept.dispute.id, "EX", kept.lasts)


async def _tell(house: House, access: Access, kind: EventType, dispute: Dispute, said: Mapping[str, object]) -> None:
    data: dict[str, object] = {"dispute": dispute.id, "key": access.key, **said}
    if dispute.expires_at is not None:
        data["expires_at"] = dispute.expires_at
    await append_loose(house, access.tenant, kind, house.now(), data)


def _key(tenant: str, dispute: str) -> str:
    return f"dispute:{tenant}:{dispute}"


def _grant_key(tenant: str, digest: str) -> str:
    return f"grant:{tenant}:{digest}"


def _digest(house: House, grant: str) -> str:
    return hmac.digest(house.keyring.derived("grants"), grant.encode(), "sha256").hex()


def check_texts(house: House, texts: dict[str, str]) -> None:
    """Raises for words that are kept with a case, by field: empty, not printable, or a phone number."""
    countries = house.config.countries
    for field, text in texts.items():
        if not text.strip() or not text.isprintable():
            raise Invalid.field(field, "cannot be used", "printable text")
        if spells_a_number(text, countries):
            error = FieldError(field, "contains a phone number", "a text without phone numbers")
            raise ContainsPhoneNumber(f"{field} contains a phone number.", [error])
