"""Reports: one participant says what another did. The pair is blocked, their recordings are held, an event tells.

The app reports through the API; a person in a call does it by the keys `*7` (`sipedge.reporting`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from masking import barring, interactions, records
from masking.access import Access
from masking.barring import NewBlock, Someone
from masking.disputes import Reason, check_texts
from masking.events import fact, moment
from masking.refusals import Invalid, NotFound

if TYPE_CHECKING:
    from masking.house import House

ParticipantId = Annotated[str, Meta(max_length=64, description="The id of a participant, par_….")]


KEYED: Final = "reported by key during the call"
Way = Literal["api", "keypad"]


class NewReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/reports`: `reported_by` says of `about` why (`reason`). The recordings of `interaction` are held,
    without it those of every call between the two. `block`: they do not reach each other any more."""

    session: Annotated[str, Meta(max_length=64)]
    reported_by: ParticipantId
    about: ParticipantId
    interaction: Annotated[str, Meta(max_length=64)] | None = None
    reason: Reason
    block: bool = True


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it was taken: the block it made, and the recordings it holds. `via`: how it came."""

    id: str
    session: str
    reported_by: str
    about: str
    interaction: str | None
    via: Way = "api"
    reason: str
    block: str | None
    recordings: list[str]
    created_at: datetime


async def by_keypad(house: House, tenant: str, session: str, interaction: str, by: str, about: str) -> None:
    """Takes the report of somebody who is on a call with the other; told again, it is the same report."""
    name = f"{interaction.removeprefix('int_')}_{by.removeprefix('par_')}"
    new = NewReport(session=session, reported_by=by, about=about, interaction=interaction, reason=KEYED)
    await create(house, Access(tenant, "keypad", frozenset()), new, via="keypad", name=name)


async def create(house: House, access: Access, new: NewReport, *, via: Way = "api", name: str | None = None) -> Report:
    """Takes the report, under `name` where it may come again. `NotFound` for a session whose people are forgotten,
    `Invalid` for who is none of them and for a call that was not between them."""
    name = name or house.token("")
    check_texts(house, {"reason": new.reason})
    found = await records.held(house, access.tenant, new.session)
    if found is None:
        raise NotFound("No such session, or one that ended so long ago that its people are forgotten.")
    people = {person.id for person in found[1].people}
    for field in ("reported_by", "about"):
        if getattr(new, field) not in people:
            raise Invalid.field(field, "is no participant of the session", "the id of one, par_…")
    if new.about == new.reported_by:
        raise Invalid.field("about", "is who reports", "another participant")
    pair = {new.reported_by, new.about}
    events = await records.events_of(house, access.tenant, new.session)
    erased = {event.data["recording"] for event in events if event.type == "recording.erased"}
    calls = interactions.fold(events)
    theirs = [one for one in calls if {one.from_, one.to} == pair and new.interaction in (None, one.id)]
    if new.interaction is not None and not theirs:
        raise Invalid.field("interaction", "is no call between the two", "the id of one, int_…")
    block = None
    if new.block:
        who, to = (Someone(session=new.session, participant=one) for one in (new.reported_by, new.about))
        block = (
            await barring.create(
                house, access, NewBlock(scope="pair", who=who, to=to, reason=new.reason), f"blk_{name}"
            )
        ).id
    held = [(call.id, recording) for call in theirs for recording in call.recordings if recording not in erased]
    report = Report(
        id=f"rpt_{name}",
        session=new.session,
        reported_by=new.reported_by,
        about=new.about,
        interaction=new.interaction,
        via=via,
        reason=new.reason,
        block=block,
        recordings=[recording for _, recording in held],
        created_at=moment(house.now()),
    )
    if any(event.type == "abuse.reported" and event.data["report"] == report.id for event in events):
        return report
    hold = {"reason": new.reason, "key": access.key, "since": report.created_at}
    holds = [
        {"recording": recording, "interaction": call, "key": access.key, "reason": new.reason, "hold": hold}
        for call, recording in held
    ]
    said = {"report": report.id, "key": access.key} | {
        name: getattr(report, name)
        for name in ("reported_by", "about", "interaction", "via", "reason", "block", "recordings")
    }
    if said["interaction"] is None:
        del said["interaction"]
    told = [*(fact("recording.held", None, one) for one in holds), fact("abuse.reported", None, said)]
    if (await house.leases.append(new.session, told)).outcome == "gone":
        raise NotFound("The session has been forgotten meanwhile.")
    return report
