"""The relay's benchmark, small: it runs with a compiler and without, and every cell of its rows is filled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loadtests import relay


def test_the_benchmark_of_the_relay_fills_its_rows() -> None:
    rows = relay.run(calls=10, seconds=0.5, runs=1, turns=1)
    by_loop = {row["name"]: row for row in rows if row["peer"] != "rtpengine"}
    assert list(by_loop) == [
        "relay-recording", "relay", "relay-delay-p99", "relay-loss", "recorder", "recorder-kept",
    ]  # fmt: skip
    first = by_loop["relay-recording"]
    assert first["value"] > 0 and first["peer_value"] > 0 and first["ratio"] > 0 and first["runs"] == 1
    assert first["peer"] in ("c-loop", "socket-loop")
    assert by_loop["relay-loss"]["value"] < 0.05
    assert by_loop["recorder-kept"]["value"] == 1.0 and by_loop["recorder"]["peer"] == "goal"
    beside = [row for row in rows if row["peer"] == "rtpengine"]
    assert [row["name"] for row in beside] == ["relay-recording", "relay"]
    for row in beside:  # measured, or said why not
        assert row["value"] > 0 and (row["ratio"] or row["why"])


def test_a_machine_without_rtpengine_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = shutil.which
    monkeypatch.setattr("shutil.which", lambda name: None if name == "rtpengine" else found(name))
    rows = [row for row in relay.run(calls=2, seconds=0.2, runs=1, turns=1) if row["peer"] == "rtpengine"]
    assert {(row["peer_value"], row["ratio"], row["why"]) for row in rows} == {
        (None, None, "rtpengine is not installed")
    }
    assert all(row["value"] > 0 for row in rows)


def test_without_a_compiler_the_peer_is_a_loop_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    tools = relay.Tools(tmp_path)
    assert tools.peer == "socket-loop"
    run = relay.measure_loop(tools, calls=5, seconds=0.5)
    assert run.loss < 0.05 and run.packets_per_cpu > 0
