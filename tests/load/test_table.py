"""The table of the benchmarks: every row the measurements are judged by is there, and none of its cells is empty."""

from __future__ import annotations

import io
import json
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from loadtests import bench
from loadtests.bench import BENCHES, COLUMNS, Bench, table
from loadtests.goals import ALONE, GOALS, alone, judged
from loadtests.measure import Row, absent, row

LISTED = (
    "signalling-200", "signalling-500", "setup-p50-200", "setup-p99-200", "overload-2x", "overload-10x", "parser",
    "relay-recording", "bind", "route", "redis-client", "rest-create",
)  # fmt: skip


def made(name: str) -> list[Row]:
    """A row of that name beside each peer that it has a goal for."""
    peers = [peer for one, peer in GOALS if one == name] or ["somebody"]
    return [alone(name, "ms", [3.0]) if peer == ALONE else row(name, "ms", [3.0], peer, [2.0]) for peer in peers]


def _give(names: tuple[str, ...], quick: bool) -> list[Row]:
    return [one for name in names for one in made(name)]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, one in BENCHES.items():
        monkeypatch.setitem(BENCHES, name, Bench(partial(_give, one.names), one.names))


def cells(rows: list[Row]) -> list[list[str]]:
    """The drawn table's cells, heading left out."""
    console = Console(width=300, file=io.StringIO())
    console.print(table(rows))
    assert isinstance(console.file, io.StringIO)
    drawn = [line.split("│")[1:-1] for line in console.file.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in drawn]


def test_every_row_that_is_listed_is_produced_by_one_benchmark() -> None:
    names = [name for one in BENCHES.values() for name in one.names]
    assert set(LISTED) <= set(names) and len(names) == len(set(names))


@pytest.mark.usefixtures("fakes")
def test_no_cell_of_the_table_or_the_file_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--out", str(tmp_path / "bench.json")])
    assert bench.main() == 0
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert set(LISTED) <= {one["name"] for one in rows}
    for one in rows:
        assert set(one) == set(COLUMNS)
        assert all(one[key] is not None for key in COLUMNS if key != "met")
        assert (one["met"] is None) == (one["goal"] == "none")
    drawn = cells(rows)
    assert len(drawn) == len(rows) and all(len(line) == len(COLUMNS) and all(line) for line in drawn)


def test_a_benchmark_that_gives_less_than_it_is_there_for_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHES, "parser", Bench(lambda quick: [], ("parser",)))
    rows, wrong = bench.run(["parser"], False, Console(file=io.StringIO()))
    assert rows == [] and wrong == ["parser gave no row parser"]


def test_a_goal_is_of_the_ratio_beside_a_peer_and_of_the_value_alone() -> None:
    beside = judged(row("signalling-200", "calls/CPU-s", [900.0], "sippy", [290.0]))
    assert (beside["goal"], beside["met"]) == ("ratio ≥ 3", True)
    assert judged(row("signalling-200", "calls/CPU-s", [900.0], "kamailio", [1300.0]))["met"] is False
    lone = judged(alone("recorder", "us CPU per call-second", [70.0, 61.0, 50.0]))
    assert (lone["value"], lone["peer"], lone["peer_value"], lone["goal"]) == (61.0, "goal", 60.0, "value ≤ 60")
    assert lone["met"] is False and lone["ratio"] == 1.017
    waits = judged(row("rest-create-p99", "ms", [12.0], "no-op", [4.0]))
    assert (waits["goal"], waits["met"]) == ("value ≤ 15", True)  # a promise about the value, whoever stands beside


def test_a_peer_that_is_not_installed_says_so_in_its_cells() -> None:
    one = judged(absent(row("parser", "INVITE/CPU-s", [3e4], "sippy", [7e3]), "sippy", "sippy is not installed"))
    assert one["met"] is None and one["value"] == 3e4
    (line,) = cells([one])
    assert line[COLUMNS.index("ratio")] == line[COLUMNS.index("met")] == "n/a"
