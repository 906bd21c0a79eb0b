"""Stages: who may call whom as an order goes on, by themselves and at their times.

    offer → active → grace    each until its `until`, then the next; with the last one the session ends (`stage_end`)

The pools' route knows when each begins and which ways it closes, so that a call is judged by Redis' own clock and by
nobody's timer. The sweeper only tells of it (`session.updated`). A last stage without `until` lasts as long as the
session does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from masking import directions
from masking.events import seconds
from masking.refusals import Invalid

if TYPE_CHECKING:
    from masking.records import Person, Record

MOST: Final = 8


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a session's life: `direction` says who may call whom in it, `record` (null: as the session says)
    whether calls that begin in it are recorded."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    until: datetime | None = None
    direction: Annotated[
        str, Meta(max_length=255, description="both, none, a_to_b, or ways by role: customer->driver.")
    ] = "both"
    record: Literal["never", "always"] | None = None

    @property
    def until_ms(self) -> int | None:
        return round(seconds(self.until) * 1000) if self.until is not None else None


def checked(stages: Sequence[Stage], people: Sequence[Person], now_ms: int) -> tuple[Stage, ...]:
    """The stages, when they follow each other and the last of them is still to end; `Invalid`."""
    before = None
    for place, stage in enumerate(stages):
        if stage.until is None:
            if place < len(stages) - 1:
                raise Invalid.field(
                    f"stages[{place}].until", "is missing", "a time; the last stage alone may have none"
                )
        elif stage.until.tzinfo is None:
            raise Invalid.field(
                f"stages[{place}].until", "has no time zone", "RFC 3339 with a zone, like 2030-01-01T00:00:00Z"
            )
        elif before is not None and stage.until <= before:
            raise Invalid.field(f"stages[{place}].until", "is not after the stage before", "stages in their order")
        before = stage.until
        directions.denied(stage.direction, people, field=f"stages[{place}].direction")
    ends = end_ms(stages)
    if ends is not None and ends <= now_ms:
        raise Invalid.field(f"stages[{len(stages) - 1}].until", "is past", "a time to come")
    return tuple(stages)


def end_ms(stages: Sequence[Stage]) -> int | None:
    """When the last stage ends the session; None: it does not."""
    return stages[-1].until_ms if stages else None


def current(stages: Sequence[Stage], at_ms: int) -> Stage | None:
    """The stage at that time; None where there are none, or the last is over."""
    return next((stage for stage in stages if stage.until_ms is None or at_ms < stage.until_ms), None)


def next_ms(stages: Sequence[Stage], at_ms: int) -> int | None:
    """When the next stage begins."""
    starts = [stage.until_ms for stage in stages[:-1] if stage.until_ms is not None]
    return next((start for start in starts if start > at_ms), None)


def lasting(stages: Sequence[Stage], at_ms: int) -> tuple[Stage, ...]:
    """The stages of a session that is opened again: when all are over, the last one goes on without an end."""
    ends = end_ms(stages)
    if ends is None or ends > at_ms:
        return tuple(stages)
    return (msgspec.structs.replace(stages[-1], until=None),)


def fields(record: Record, targets: Sequence[str] = ()) -> dict[str, str]:
    """Who may not call whom, as the pools' route reads it: `denied`, and by stage `stages`, each with its beginning
    (ms) before its closed ways. After the last stage nobody calls anybody. Of `targets` (``from|to``) those are closed
    that name somebody who is not there: not any more, or not yet."""
    there = {person.id for person in record.everybody}
    gone = {target for target in targets if not there.issuperset(target.split("|"))}

    def closed(direction: str) -> list[str]:
        ways = directions.denied(direction, record.everybody, record.lines).split()
        return sorted(gone.union(ways))

    words, starts = [], 0
    for stage in record.stages:
        words.append(f"{starts}:{','.join(closed(stage.direction))}")
        starts = stage.until_ms or 0
    if end_ms(record.stages) is not None:
        words.append(f"{starts}:{','.join(closed('none'))}")
    return {"denied": " ".join(closed(record.direction)), "stages": " ".join(words)}


def denied(known: Mapping[str, bytes], at_ms: int) -> list[str]:
    """The ways (`from|to`) that are closed at that time, of a holder with these fields."""
    closed = known.get("denied", b"").decode().split()
    for word in known.get("stages", b"").decode().split():
        starts, _, ways = word.partition(":")
        if int(starts) <= at_ms:
            closed = ways.split(",")
    return closed
