"""The relay's benchmark, small: it runs with a compiler and without, and every cell of its rows is filled."""

from __future__ import annotations

import pytest

from loadtests import relay


@pytest.mark.parametrize("compiler", [True, False])
def test_the_benchmark_of_the_relay_fills_its_rows(compiler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiler:
        monkeypatch.setattr("shutil.which", lambda name: None)
    rows = {row["name"]: row for row in relay.run(calls=10, seconds=1.0, runs=1)}
    assert list(rows) == ["relay-recording", "relay", "relay-delay-p99", "relay-loss", "recorder"]
    first = rows["relay-recording"]
    assert first["value"] > 0 and first["peer_value"] > 0 and first["ratio"] > 0 and first["runs"] == 1
    assert first["peer"] in (("c-loop", "socket-loop") if compiler else ("socket-loop",))
    assert rows["relay-loss"]["value"] < 0.05
