"""The relay's benchmark, small: it runs with a compiler and without, and every cell of its rows is filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import relay


def test_the_benchmark_of_the_relay_fills_its_rows() -> None:
    rows = {row["name"]: row for row in relay.run(calls=10, seconds=0.5, runs=1)}
    assert list(rows) == ["relay-recording", "relay", "relay-delay-p99", "relay-loss", "recorder"]
    first = rows["relay-recording"]
    assert first["value"] > 0 and first["peer_value"] > 0 and first["ratio"] > 0 and first["runs"] == 1
    assert first["peer"] in ("c-loop", "socket-loop")
    assert rows["relay-loss"]["value"] < 0.05


def test_without_a_compiler_the_peer_is_a_loop_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    tools = relay.Tools(tmp_path)
    assert tools.peer == "socket-loop"
    run = relay.measure_peer(tools, calls=5, seconds=0.5)
    assert run.loss < 0.05 and run.packets_per_cpu > 0
