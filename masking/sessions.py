"""Sessions: an order, its people, the virtual numbers through which they reach each other, until when.

This file holds the shapes and what is done with a session that is open; `opening` opens one, `shelves` lists them.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from masking import checks, latecalls, names, pins, quotas, records, services, stages
from masking.events import Event, fact, moment, moment_of, seconds
from masking.latecalls import LateCall, LateCallWish
from masking.records import Record
from masking.refusals import Conflict, Invalid, NotFound, SessionClosed
from masking.sentences import OURS, Announcements
from masking.services import (
    CallTimeLimit,
    FriendlyName,
    MaxConcurrentCalls,
    PairQuarantine,
    RingTimeout,
    Ttl,
    UniqueName,
    WarningAt,
)
from masking.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from masking.access import Access
    from masking.house import House
    from pools.grants import Fact, Holder

SessionStatus = Literal["open", "in_progress", "closed", "failed"]
ClosedReason = Literal["api", "expired", "stage_end", "replaced", "abuse", "number_lost"]
Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=256)]], Meta(max_length=16)
]
Mode = Literal["voice_and_message", "voice_only", "message_only"]
Stages = Annotated[list[Stage], Meta(max_length=stages.MOST)]
Direction = Annotated[str, Meta(max_length=255, description="both, none, a_to_b, or ways by role: customer->driver.")]
Role = Annotated[str, Meta(min_length=1, max_length=64)]
Language = Annotated[str, Meta(max_length=35, description="BCP 47: vi, en-US.")]
Identifier = Annotated[str, Meta(max_length=32, description="A person's phone number, E.164.")]

TRIES: Final = 16
CHANGEABLE: Final = (
    "record", "mode", "direction", "ring_timeout", "call_time_limit", "warning_at", "max_concurrent_calls",
    "max_call_attempts_per_hour", "answer_confirm", "on_expiry_in_call",
)  # fmt: skip
ENDS_WITH_ITS_STAGE: Final = 2000  # a session that ends so few ms before its last stage does ends with it
ENDS: Final = (
    "ends"  # the holder's field that keeps its end as it was said, when the pools have moved it to its closing
)


class NewParticipant(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A person who joins: `identifier` is the real number, E.164, or `caller_token` stands for that of somebody who is
    calling (`call.out_of_session`), for a minute and once. Its repr does not show it."""

    identifier: Identifier | UnsetType = UNSET
    role: Role | None = None
    friendly_name: FriendlyName | None = None
    language: Language | None = None
    identifiers: Annotated[list[Identifier], Meta(min_length=1, max_length=5)] | None = None
    ring: Literal["first", "sequential"] | None = None
    caller_token: Annotated[str, Meta(max_length=64)] | None = None

    def __repr__(self) -> str:
        return f"<NewParticipant {self.role}>"


class NewSession(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/sessions`; null means: as the service says."""

    participants: Annotated[
        list[NewParticipant], Meta(min_length=1, max_length=8, description="2..8; in a service of one_party 1.")
    ]
    service: Annotated[str, Meta(min_length=1, max_length=191)] = "default"
    unique_name: UniqueName | None = None
    ttl: Ttl | None = None
    ttl_mode: Literal["fixed", "sliding"] = "fixed"
    expires_at: datetime | None = None
    mode: Mode = "voice_and_message"
    direction: Direction = "both"
    stages: Stages = []
    number_model: services.NumberModel | None = None
    geo_match: Literal["soft", "strict", "country", "country/soft", "country/strict"] | None = None
    geo_match_level: Literal["none", "country", "region", "area_code"] = "country"
    number_selection: services.NumberSelection | None = None
    pair_quarantine: PairQuarantine | None = None
    degrade: list[Literal["per_party", "extension", "pin"]] = []
    record: services.Record | None = None
    recording_notice: Literal["spoken"] | None | UnsetType = UNSET
    announcements: Announcements | None = None
    pin: pins.Pin | None = None
    caller_trust: records.CallerTrust = "any"
    ring_timeout: RingTimeout | None = None
    call_time_limit: CallTimeLimit | None = None
    warning_at: WarningAt | None = None
    max_concurrent_calls: MaxConcurrentCalls | None = None
    max_call_attempts_per_hour: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    on_expiry_in_call: records.OnExpiryInCall = "finish"
    answer_confirm: records.AnswerConfirm = "none"
    late_call: LateCallWish | None = None
    metadata: Metadata = {}


class Proxy(msgspec.Struct, kw_only=True, gc=False):
    """The number a participant dials to reach `to`; of a session that is being bound, a place for it. `extension`: what
    it keys to say whom; `pin`: what it keys when its own number does not say who it is, shown where one session is
    asked for, never in lists and events."""

    to: str
    number: str
    extension: str | None = None
    pin: str | None = None


class Participant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A person of a session as the API shows it; `display` is `+8490…67`."""

    id: str
    role: str | None
    friendly_name: str | None = None
    language: str | None = None
    display: str
    proxies: list[Proxy]


class Session(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    stages: list[Stage] = []
    stage: str | None = None
    record: str
    recording_notice: Literal["spoken"] | None = "spoken"
    pair_quarantine: int
    ring_timeout: int
    call_time_limit: int
    warning_at: int
    max_concurrent_calls: int
    max_call_attempts_per_hour: int = 0
    ttl_mode: Literal["fixed", "sliding"] = "fixed"
    ttl: int | None = None  # of a sliding one: the seconds it lives on after each call
    pin: pins.Pin = pins.NOBODY
    caller_trust: records.CallerTrust = "any"
    answer_confirm: records.AnswerConfirm = "none"
    on_expiry_in_call: records.OnExpiryInCall = "finish"
    late_call: LateCall = LateCall()
    announcements: Announcements = OURS
    metadata: dict[str, str]
    participants: list[Participant]


class SessionChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PATCH /v1/sessions/{id}`: only what is said changes; in `metadata` a null takes a key away."""

    metadata: (
        Annotated[
            dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=256)] | None],
            Meta(max_length=16),
        ]
        | UnsetType
    ) = UNSET
    ttl: Ttl | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    record: services.Record | UnsetType = UNSET
    ring_timeout: RingTimeout | UnsetType = UNSET
    call_time_limit: CallTimeLimit | UnsetType = UNSET
    warning_at: WarningAt | UnsetType = UNSET
    max_concurrent_calls: MaxConcurrentCalls | UnsetType = UNSET
    max_call_attempts_per_hour: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    answer_confirm: records.AnswerConfirm | UnsetType = UNSET
    on_expiry_in_call: records.OnExpiryInCall | UnsetType = UNSET
    direction: Direction | UnsetType = UNSET
    stages: Stages | UnsetType = UNSET
    late_call: LateCallWish | UnsetType = UNSET


def shown(
    session: str,
    record: Record,
    numbers: Sequence[str],
    expires_ms: int,
    status: SessionStatus = "open",
    closed_reason: ClosedReason | None = None,
    closed_ms: int | None = None,
    chosen: Mapping[pins.Way, str] | None = None,
    at_ms: int = 0,
) -> Session:
    """The session as the API shows it; `numbers[i]` answers `record.lines[i]`. `chosen`: its PINs, for those who may
    see them; `at_ms`: when, for its stage."""
    stage = stages.current(record.stages, at_ms) if status != "closed" else None
    shown_pins = chosen or {}
    proxies: dict[str, list[Proxy]] = {person.id: [] for person in record.everybody}
    for line, number in zip(record.lines, numbers, strict=True):
        for source, target in line.ways:
            proxies[source].append(
                Proxy(
                    to=target,
                    number=number,
                    extension=record.extensions.get(target),
                    pin=shown_pins.get((source, target)),
                )
            )
    return Session(
        id=session,
        service=record.service_name,
        unique_name=record.unique_name,
        status=status,
        closed_reason=closed_reason,
        created_at=moment_of(round(record.created_at * 1000)),
        expires_at=moment_of(expires_ms),
        closed_at=moment_of(closed_ms) if closed_ms is not None else None,
        mode=record.mode,
        direction=record.direction,
        stages=list(record.stages),
        stage=stage.name if stage else None,
        record=record.record,
        recording_notice=None if record.recording_notice == "none" else "spoken",
        pair_quarantine=record.pair_quarantine,
        ring_timeout=record.ring_timeout,
        call_time_limit=record.call_time_limit,
        warning_at=record.warning_at,
        max_concurrent_calls=record.max_concurrent_calls,
        max_call_attempts_per_hour=record.max_call_attempts_per_hour,
        ttl_mode="sliding" if record.sliding else "fixed",
        ttl=record.sliding or None,
        pin=record.pin,
        caller_trust=record.caller_trust,
        answer_confirm=record.answer_confirm,
        on_expiry_in_call=record.on_expiry_in_call,
        late_call=record.late_call.shown,
        announcements=record.announcements,
        metadata=record.metadata,
        participants=[
            Participant(
                id=person.id,
                role=person.role,
                friendly_name=person.friendly_name,
                language=person.language,
                display=person.display,
                proxies=proxies[person.id],
            )
            for person in record.people
        ],
    )


def told(house: House, holder: Holder, record: Record) -> Session:
    """A session as whoever opened it sees it: with its PINs while it is open."""
    view = live_view(holder, record, house.now_ms)
    if view.status == "closed" or not record.pins:
        return view
    return live_view(holder, record, house.now_ms, pins.unsealed(house, holder.holder, record.pins))


def live_view(holder: Holder, record: Record, now_ms: int, chosen: Mapping[pins.Way, str] | None = None) -> Session:
    """A session as Redis has it: past its time it is closed, whether or not anybody has swept it yet."""
    status: SessionStatus = "in_progress" if holder.calls > 0 or "begun" in holder.fields else "open"
    reason: ClosedReason | None = None
    if holder.status == "closed":
        status, reason = "closed", msgspec.convert(holder.reason, ClosedReason)
    elif holder.expires <= now_ms:
        status, reason = "closed", ending(holder, record)
    ends = int(holder.fields.get(ENDS, holder.expires))
    closed_ms = holder.expires if status == "closed" else None
    return shown(holder.holder, record, holder.numbers, ends, status, reason, closed_ms, chosen, now_ms)


def ending(holder: Holder, record: Record) -> Literal["expired", "stage_end"]:
    """Why its time is over: it was long enough, or its last stage has ended."""
    return _ending(record.stages, int(holder.fields.get(ENDS, holder.expires)))


def _ending(past: Sequence[Stage], ends_ms: int) -> Literal["expired", "stage_end"]:
    last = stages.end_ms(past)
    return "stage_end" if last is not None and ends_ms >= last - ENDS_WITH_ITS_STAGE else "expired"


def archived_view(session: Session, now: float) -> Session:
    """A session as the archive has it, read at `now`."""
    if session.status not in ("open", "in_progress"):
        return session
    if session.expires_at <= moment(now):
        why = _ending(session.stages, round(seconds(session.expires_at) * 1000))
        return msgspec.structs.replace(
            session, status="closed", closed_reason=why, closed_at=session.expires_at, stage=None
        )
    stage = stages.current(session.stages, round(now * 1000))
    return msgspec.structs.replace(session, stage=stage.name if stage else None)


async def get(house: House, access: Access, session: str) -> Session:
    """One session, live or archived; `NotFound`."""
    found = await records.held(house, access.tenant, session)
    if found is not None:
        return told(house, *found)
    if house.archive is not None:
        from masking import archive

        async with house.archive.connect() as connection:
            body = await archive.session_body(connection, access.tenant, session)
        if body is not None:
            return archived_view(msgspec.json.decode(body, type=Session), house.now())
    raise NotFound("No such session.")


async def held_open(house: House, access: Access, session: str) -> tuple[Holder, Record]:
    """The session, which must be open: else `SessionClosed`, `NotFound`."""
    found = await records.held(house, access.tenant, session)
    status = live_view(*found, house.now_ms).status if found is not None else (await get(house, access, session)).status
    if found is None or status == "closed":
        raise SessionClosed("The session is closed.", session=session)
    return found


async def change(
    house: House, access: Access, session: str, wish: SessionChange, sliding: int | None = None
) -> Session:
    """Applies what `wish` says; `SessionClosed`, `NotFound`, `Invalid`. `sliding`: the seconds it lives on after each
    call from now on; 0: its end stays where it is put."""
    for _ in range(TRIES):
        holder, record = await held_open(house, access, session)
        changed = _changed(house, record, wish)
        if sliding is not None:
            changed = msgspec.structs.replace(changed, sliding=sliding)
        if isinstance(wish.late_call, LateCallWish):
            late = await latecalls.kept(house, wish.late_call, session[-22:])
            changed = msgspec.structs.replace(changed, late_call=late)
        lives_ms = _new_life(house, wish, changed)
        fields: dict[str, str | bytes | int] = {
            "record": records.packed(changed),
            "max_calls": changed.max_concurrent_calls,
            "mode": changed.mode,
            "late": records.late(changed),
            **stages.fields(changed, holder.targets),
        }
        if changed.stages or record.stages:
            fields["wakes"] = stages.next_ms(changed.stages, house.now_ms) or ""
        view = live_view(holder, changed, house.now_ms)
        events = [fact("session.updated", None, msgspec.to_builtins(view))]
        told = await house.leases.append(session, events, set_fields=fields, expect_rev=holder.rev)
        if told.outcome == "conflict":
            continue
        if lives_ms is not None:
            await _prolong(house, session, changed, lives_ms)
        await records.touch(house, access.tenant, session)
        return await get(house, access, session)
    raise Conflict("The session is being changed by many at once; try again.")


def _changed(house: House, record: Record, wish: SessionChange) -> Record:
    said = {name: value for name in CHANGEABLE if (value := getattr(wish, name)) is not UNSET}
    if isinstance(wish.metadata, dict):
        merged = record.metadata | wish.metadata
        metadata = {name: value for name, value in merged.items() if value is not None}
        checks.texts(house, checks.metadata_fields(metadata), [person.country for person in record.people])
        said["metadata"] = metadata
    if isinstance(wish.stages, list):
        said["stages"] = stages.checked(wish.stages, record.everybody, house.now_ms)
        checks.texts(house, checks.stage_fields(wish.stages), [person.country for person in record.people])
    return msgspec.structs.replace(record, **said)


def _new_life(house: House, wish: SessionChange, changed: Record) -> int | None:
    """The milliseconds it lives on, where that is said: by `ttl` or `expires_at`, or by its last stage's end."""
    ttl = wish.ttl if isinstance(wish.ttl, int) else None
    expires_at = wish.expires_at if isinstance(wish.expires_at, datetime) else None
    if ttl is not None or expires_at is not None:
        return _life(house, changed, checks.ending(ttl, expires_at, 0, house.now()))
    last = stages.end_ms(changed.stages) if wish.stages is not UNSET else None
    return None if last is None else checks.ending(None, moment_of(last), 0, house.now())


def _life(house: House, record: Record, lives_ms: int) -> int:
    """What a session may live on; `Invalid` past its last stage's end."""
    last = stages.end_ms(record.stages)
    if last is not None and house.now_ms + lives_ms > last + ENDS_WITH_ITS_STAGE:
        raise Invalid.field("expires_at", "is after the last stage's end", "an earlier time, or other `stages` as well")
    return lives_ms if last is None else min(lives_ms, last - house.now_ms)


async def extend(
    house: House, access: Access, session: str, *, ttl: int | None, expires_at: datetime | None
) -> Session:
    """Moves its end to `ttl` seconds from now, or to `expires_at`, or by the service's ttl; `SessionClosed`."""
    _, record = await held_open(house, access, session)
    default = record.sliding or (await services.get(house, access.tenant, record.service)).ttl
    lives_ms = _life(house, record, checks.ending(ttl, expires_at, default, house.now()))
    await _prolong(house, session, record, lives_ms)
    await records.touch(house, access.tenant, session)
    return await get(house, access, session)


async def _prolong(house: House, session: str, record: Record, lives_ms: int) -> None:
    expires_ms = house.now_ms + lives_ms
    event = fact("session.updated", None, {"expires_at": moment_of(expires_ms)})
    extended = await house.leases.extend(session, expires=expires_ms, events=[event], fields={ENDS: expires_ms})
    if extended.outcome == "ended":
        raise SessionClosed("The session is closed.", session=session)
    await quotas.session_moved(house, record.tenant, session, expires_ms)
    if record.unique_name is not None:
        await names.prolong(house, names.key(record.tenant, record.service, record.unique_name), lives_ms)


async def slide(house: House, session: str) -> None:
    """A call began or ended on a session of `ttl_mode: sliding`: its end moves to its ttl from now, never nearer."""
    holder = await house.leases.read(session)
    if holder is None or "record" not in holder.fields:
        return
    record = records.unpacked(holder.fields["record"])
    last = stages.end_ms(record.stages)
    lives_ms = record.sliding * 1000 if last is None else min(record.sliding * 1000, last - house.now_ms)
    if record.sliding and house.now_ms < holder.expires < house.now_ms + lives_ms:
        with contextlib.suppress(SessionClosed):  # it was closed meanwhile
            await _prolong(house, session, record, lives_ms)


async def tell_stage(house: House, session: str) -> bool:
    """Tells that the session's next stage has begun; False for one that is over, or has no stages."""
    holder = await house.leases.read(session)
    record = records.unpacked(holder.fields["record"]) if holder is not None and "record" in holder.fields else None
    if holder is None or record is None or live_view(holder, record, house.now_ms).status == "closed":
        await house.leases.rest(session)
        return False
    now_ms = house.now_ms
    stage, wakes = stages.current(record.stages, now_ms), stages.next_ms(record.stages, now_ms)
    told = fact("session.updated", None, {"stage": stage.name if stage else None})
    appended = await house.leases.append(session, [told], set_fields={"wakes": wakes or ""}, expect_rev=holder.rev)
    return appended.outcome == "appended"  # else it was changed just now, and the next round looks again


async def close(house: House, access: Access, session: str) -> Session:
    """Closes it: its numbers rest for its people, live calls go on. Closing a closed one changes nothing."""
    found = await records.held(house, access.tenant, session)
    if found is not None and found[0].status != "closed":
        holder, record = found
        await release(house, holder, "api" if holder.expires > house.now_ms else ending(holder, record))
        await records.touch(house, access.tenant, session)
    return await get(house, access, session)


async def release(house: House, holder: Holder, reason: ClosedReason) -> bool:
    """Ends the session's leases and writes its last events; False when somebody else had. A session's time is over
    only when the shard's own clock says so too."""
    lapsed = reason in ("expired", "stage_end")
    outcome = await house.leases.release(
        holder.holder, reason=reason, events=closing(holder, reason), only_lapsed=lapsed
    )
    if outcome.outcome == "released":
        await quotas.session_ended(house, holder)
    return outcome.outcome == "released"


def closing(holder: Holder, reason: ClosedReason) -> list[Fact]:
    """The last events of a session."""
    data = {"status": "closed", "closed_reason": reason}
    ends = [fact("session.expired", None, data)] if reason == "expired" else []
    numbers = dict.fromkeys(holder.numbers)
    return [
        *ends,
        fact("session.closed", None, data),
        *(fact("number.released", None, {"number": number}) for number in numbers),
    ]


async def timeline(house: House, access: Access, session: str) -> list[Event]:
    """The session's events in `seq` order; `NotFound`."""
    return await records.events_of(house, access.tenant, session)
