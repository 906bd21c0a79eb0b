"""What the service takes while nobody calls, and how long its edge stands still while many do."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from loadtests import signalling
from loadtests.goals import alone
from loadtests.measure import Row, memory
from tests.system.service import Service

SETTLED = 5.0  # seconds after which a service that has started does nothing more


def idle_service() -> float:
    """MB of every process of a service that nobody asks for anything, Valkey's too; what they share counts once."""
    with tempfile.TemporaryDirectory(prefix="masking-bench-") as temporary, Service(Path(temporary)) as service:
        time.sleep(SETTLED)
        return memory([service.main_pid, *service.pids()]) / 1e6


def loop_pause(seconds: float) -> float:
    """ms that a datagram waited for the edge at the most, at 200 calls a second."""
    return signalling.measure("ours", 200, seconds).pause * 1000


def run(*, seconds: float = 60.0) -> list[Row]:
    return [
        alone("loop-pause", "ms", [loop_pause(seconds)]),
        alone("idle-service", "MB", [idle_service()]),
    ]
