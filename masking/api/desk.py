"""The front desk: what an API process holds and every request is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from masking.api.idempotency import Idempotency
from masking.api.metrics import Metrics
from masking.house import House
from recordings.vault import Vault


@dataclass(slots=True)
class Desk:
    """The house, the recordings' vault, and what only HTTP needs. `clock` is monotonic seconds, for durations."""

    house: House
    vault: Vault
    idempotency: Idempotency
    metrics: Metrics
    clock: Callable[[], float]
    draining: bool = False
    streams: int = 0  # server-sent event streams that are open

    @classmethod
    def of(cls, house: House, vault: Vault, clock: Callable[[], float]) -> Desk:
        return cls(house, vault, Idempotency(house), Metrics(), clock)
