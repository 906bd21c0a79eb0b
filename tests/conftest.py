"""What every test is given: one event-loop back end, and a guard that fails a test which blocks the loop."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

ROOMS = ["masking", "sipedge", "pools", "recordings"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_blocking_call_in_the_event_loop() -> Iterator[BlockBuster]:
    """A blocking call made by our own code inside a running event loop raises and fails the test."""
    with blockbuster_ctx(ROOMS) as guard:
        yield guard


def missing_peer(program: str) -> None:
    """Skips with the reason where a peer is missing; on CI a missing peer is a failure."""
    reason = f"{program} is not installed; scripts/peers installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
