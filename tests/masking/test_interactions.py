"""One interaction per attempt, whatever order its facts come in."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masking import interactions
from masking.events import Event, EventType, event_id, moment
from masking.interactions import Ending

INT = "int_1"


def told(*facts: tuple[str, dict[str, Any]]) -> list[Event]:
    return [
        Event(
            id=event_id("ses_x", seq),
            type=cast(EventType, kind),
            occurred_at=moment(1_800_000_000 + seq),
            session="ses_x",
            seq=seq,
            data={"interaction": INT} | data,
        )
        for seq, (kind, data) in enumerate(facts, 1)
    ]


ENDED = {"status": "completed", "reason": "hangup", "hangup_by": "callee", "legs": [{"sip_code": 200, "codec": "PCMU"}]}
TALKED = told(
    ("call.initiated", {"direction": "inbound", "dialled": "+842471234567", "from": "par_a", "to": "par_b"}),
    ("call.ringing", {}),
    ("call.answered", {"by": "callee"}),
    ("recording.started", {"recording": "rec_1", "channels": []}),
    ("call.bridged", {"notices": []}),
    ("call.ended", ENDED),
)
REFUSED = told(
    (
        "call.refused",
        {
            "decision": "limit",
            "reason": "limit",
            "dialled": "+842471234567",
            "from": "par_a",
            "to": "par_b",
            "legs": [],
        },
    )
)


def test_a_talked_call_is_measured_from_its_events() -> None:
    [one] = interactions.fold(TALKED)
    assert (one.billable, one.conversation) == (3.0, 1.0)
    assert (one.status, one.hangup_by, one.recordings) == ("completed", "callee", ["rec_1"])
    assert one.started_at == moment(1_800_000_001) and one.ended_at == moment(1_800_000_006)


@given(st.permutations(TALKED), st.lists(st.sampled_from(TALKED), max_size=6))
def test_neither_order_nor_repetition_changes_an_interaction(order: list[Event], again: list[Event]) -> None:
    assert interactions.fold([*order, *again]) == interactions.fold(TALKED)


def test_every_beginning_of_a_call_is_a_state_it_was_in() -> None:
    seen = [interactions.fold(TALKED[:count])[0].status for count in range(1, 7)]
    assert seen == ["ringing", "ringing", "in_progress", "in_progress", "in_progress", "completed"]


@settings(max_examples=30)
@given(st.permutations([*TALKED, *REFUSED]))
def test_an_end_is_the_end(order: list[Event]) -> None:
    [one] = interactions.fold(order)
    first = next(event for event in order if event.type in ("call.ended", "call.refused"))
    assert one.status == ("completed" if first.type == "call.ended" else "refused")


def test_a_call_only_the_platform_answered_costs_nothing() -> None:
    events = told(
        ("call.initiated", {}),
        ("call.refused", {"decision": "ended", "legs": []}),
        ("call.answered", {"by": "platform"}),
    )
    [one] = interactions.fold(events)
    assert (one.status, one.answered_by, one.billable, one.conversation) == ("refused", "platform", 0.0, 0.0)


def test_many_calls_of_a_session_are_told_apart_and_ordered() -> None:
    events = told(("call.initiated", {"interaction": "int_b"}), ("call.initiated", {"interaction": "int_a"}))
    assert [one.id for one in interactions.fold(events)] == ["int_b", "int_a"]
    assert interactions.fold(told(("session.opened", {"interaction": None}))) == []


@pytest.mark.parametrize(
    ("reason", "code", "answered", "status"),
    [
        ("hangup", 200, True, "completed"),
        ("limit", 200, True, "completed"),
        ("media_lost", 200, True, "completed"),
        ("owner_lost", 500, True, "failed"),
        ("busy", 486, False, "busy"),
        ("declined", 603, False, "declined"),
        ("no_answer", 480, False, "no_answer"),
        ("canceled", 487, False, "canceled"),
        ("unreachable", 404, False, "failed"),
        ("no_trunk", 480, False, "failed"),
        ("fault", 500, False, "failed"),
    ],
)
def test_an_ending_has_its_word(reason: str, code: int, answered: bool, status: str) -> None:
    assert interactions.status_of(Ending(blame="platform", reason=reason, sip_code=code), answered) == status


def test_the_fold_sees_every_pair_of_orders() -> None:
    for first, second in itertools.permutations(TALKED, 2):
        one = interactions.fold([first, second])
        assert one == interactions.fold([second, first])
