"""The mutation soak, small: nothing surprises the readers, and what would is told with all that repeats it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from loadtests import mutations
from loadtests.mutations import KINDS, READERS, Found, Round, one_round, run


@pytest.mark.parametrize("kind", KINDS)
def test_bent_messages_break_nothing_and_cost_little(kind: str) -> None:
    found = run(kind, 4_000, 20261122)
    assert found.messages >= 4_000 and 0.0 < found.slowest and found.broken == []


def test_the_same_seed_fires_the_same_messages() -> None:
    for kind in KINDS:
        first, second = Round(kind, 7), Round(kind, 7)
        for _, _ in zip(first.costs(50), second.costs(50), strict=True):
            assert first.message == second.message


def test_a_reader_that_raises_leaves_the_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fragile(data: bytes) -> None:
        assert len(data) < 200

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(READERS, "sdp", (fragile, [b"v=0\r\n" * 20]))
    found = one_round("sdp", 3, 500)
    (said,) = found.broken
    (kept,) = tmp_path.iterdir()
    assert kept.name in said and "round 3" in said and len(kept.read_bytes()) >= 200


def test_a_message_that_is_slow_each_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(data: bytes) -> None:
        until = time.thread_time() + 0.007
        while len(data) > 100 and time.thread_time() < until:
            pass

    monkeypatch.setitem(READERS, "rtp", (slow, [b"x" * 90]))
    found = one_round("rtp", 4, 60)
    assert found.slowest > 0.007 and found.slowest_of[0] == 4
    (said,) = found.broken
    assert "ms for message" in said


def test_memory_that_grows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "GROWTH", 1 << 20)
    kept: list[bytes] = []
    monkeypatch.setitem(READERS, "rtcp", (lambda data: kept.append(data * 40), [b"x" * 500]))
    found = mutations.many_rounds("rtcp", range(8), 100)
    assert found.growth > 1 << 20 and "memory grew" in found.broken[0]
    assert Found("rtcp").broken == []
