"""What each row of the benchmarks is to reach, all in one place.

A goal is of a row's value where it stands alone, of its ratio where it stands beside a peer; a row may have one goal
beside each peer. A row without a goal is there to be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from loadtests.measure import Row

ALONE: Final = "goal"
"""In the column of the peer where a row has none: what it is measured beside is its goal."""


class Goal(NamedTuple):
    """A bound of the value, or of the ratio to a peer's."""

    sign: str  # "≤" or "≥"
    bound: float

    def met(self, figure: float) -> bool:
        return figure <= self.bound if self.sign == "≤" else figure >= self.bound


def most(bound: float) -> Goal:
    return Goal("≤", bound)


def least(bound: float) -> Goal:
    return Goal("≥", bound)


GOALS: Final[dict[tuple[str, str], Goal]] = {
    # Beside a peer: of the ratio.
    ("signalling-200", "sippy"): least(3.0),
    ("signalling-200", "kamailio"): least(0.75),
    ("signalling-500", "kamailio"): least(0.9),
    ("setup-p50-200", "kamailio"): most(1.5),
    ("setup-p99-200", "kamailio"): most(2.0),
    ("overload-10x", "rated"): least(0.9),
    ("parser", "sippy"): least(4.0),
    ("relay-recording", "rtpengine"): least(1.0),
    ("relay-recording", "c-loop"): least(0.6),
    ("bind", "bare-writes"): most(1.5),
    ("route", "bare-writes"): most(1.5),
    ("route-lookup", "get"): most(1.2),
    ("bind-busy-party", "bind"): most(5.0),
    ("bind-100000-numbers", "bind"): most(1.2),
    ("bind-1000000-live", "bind"): most(1.2),
    ("sealing", "plain"): most(1.1),
    ("rest-create", "no-op"): least(0.3),
    # Alone: of the value.
    ("signalling-200-answered", ALONE): least(0.999),
    ("signalling-500-answered", ALONE): least(0.999),
    ("core", ALONE): most(300.0),
    ("edge-call", ALONE): most(600.0),  # our own: the core, and as much again for all that is around it
    ("loop-pause", ALONE): most(50.0),
    ("footprint-call", ALONE): most(20.0),
    ("footprint-20000", ALONE): least(20_000.0),
    ("idle-service", ALONE): most(250.0),
    ("overload-2x", ALONE): most(200.0),
    ("overload-2x-refusal", ALONE): most(10.0),
    ("overload-10x-byes", ALONE): least(1.0),
    ("overload-10x-recovery", ALONE): most(10.0),
    ("relay-delay-p99", ALONE): most(5.0),
    ("relay-loss", ALONE): most(0.01),
    ("recorder", ALONE): most(60.0),
    ("encode", ALONE): least(50.0),
    ("recorder-kept", ALONE): least(1.0),
    ("redis-client", ALONE): most(25.0),
    ("rest-create-p99", ALONE): most(15.0),
    ("binding-bytes", ALONE): most(500.0),
    ("archive-calls", ALONE): least(500.0),
    ("retrieval-sqlite", ALONE): most(50.0),
    ("retrieval-postgresql", ALONE): most(50.0),
    ("webhook-deliveries", ALONE): least(1_000.0),
}


def alone(name: str, unit: str, values: Sequence[float], digits: int = 1) -> Row:
    """A row without a peer, beside its goal. KeyError where `GOALS` has none."""
    goal = GOALS[name, ALONE]
    value = round(median(values), digits)
    ratio = round(value / goal.bound, 3)
    return {
        "name": name, "value": value, "unit": unit, "peer": ALONE, "peer_value": goal.bound, "ratio": ratio,
        "runs": len(values),
    }  # fmt: skip


def judged(row: Row) -> Row:
    """The row with its `goal` in words ("ratio ≥ 3", "value ≤ 60", "none") and whether it is `met` (None: no goal, or
    nothing to judge by)."""
    beside = GOALS.get((row["name"], row["peer"]))
    goal, kind = (beside, "ratio") if row["peer"] != ALONE else (beside, "value")
    if goal is None:  # a promise about the value holds beside any peer
        goal, kind = GOALS.get((row["name"], ALONE)), "value"
    if goal is None:
        return row | {"goal": "none", "met": None}
    figure = row[kind]
    return row | {"goal": f"{kind} {goal.sign} {goal.bound:g}", "met": None if figure is None else goal.met(figure)}
