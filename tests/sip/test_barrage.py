"""Broken, mixed and doubled messages at an endpoint with calls on: never an exception, never nonsense, never a leak."""

from __future__ import annotations

from tests.sip.barrage import Barrage
from tests.sip.test_mutations import COUNT, SEED


def test_mutated_messages_never_surprise_an_endpoint_with_calls_on() -> None:
    barrage = Barrage(SEED)
    for _ in range(COUNT):
        barrage.fire(*barrage.message())
        barrage.pass_time()
    held = barrage.over()
    # What may still stand: calls the mutated peer never ended, and those we rang for and did not answer.
    assert held["server_transactions"] <= held["legs"]
    assert held["client_transactions"] <= held["legs"]
