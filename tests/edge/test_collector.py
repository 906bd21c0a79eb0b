"""A call leaves nothing to the garbage collector, and the edge tells how long it stood still."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from sipedge import collector
from sipedge.calls import Call
from sipedge.circuits import Circuit
from sipedge.collector import Collector, Longest
from sipedge.legs import Leg
from sipedge.sip.events import Acked, Answered, Ended, Invited
from tests.edge.conftest import Stage


@pytest.fixture
def collecting() -> Iterator[None]:
    """Leaves the collector as it was."""
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    yield
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("collecting")
async def test_a_call_that_is_over_is_gone_without_the_collector(stage: Stage) -> None:
    scene = await stage()
    gc.collect()
    gc.disable()
    leg = scene.call()
    scene.callee.answer(await scene.callee.expect(Invited))
    await scene.caller.expect(Answered)
    await scene.callee.expect(Acked)
    await scene.bridged()
    assert [one for one in gc.get_objects() if isinstance(one, Call)]
    scene.caller.hang_up(leg)
    await scene.callee.expect(Ended)
    await scene.place.idle()
    await asyncio.sleep(0)
    assert not [one for one in gc.get_objects() if isinstance(one, Call | Circuit | Leg)]


@pytest.mark.usefixtures("collecting")
async def test_the_collector_is_timed_and_looks_at_everything_only_while_few_calls_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(100))
    tamed = Collector(lambda: float(next(clock)))
    tamed.tame()
    gc.disable()
    assert gc.get_freeze_count() > 0 and tamed.longest == 0.0
    monkeypatch.setattr(collector, "TIDY_SECONDS", 0.001)
    stand = collector.FEW + 1
    tidying = asyncio.create_task(tamed.tidy(lambda: stand))
    await asyncio.sleep(0.02)
    assert tamed.longest == 0.0
    stand = collector.FEW
    await asyncio.sleep(0.02)
    tidying.cancel()
    assert tamed.longest == 1.0


def test_a_pause_is_told_for_a_minute_or_two() -> None:
    pauses = Longest(0.0)
    pauses.add(0.2, 1.0)
    pauses.add(0.1, 59.0)
    assert pauses.value == 0.2
    pauses.add(0.05, 61.0)
    assert pauses.value == 0.2
    pauses.add(0.04, 122.0)
    assert pauses.value == 0.05
