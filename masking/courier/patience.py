"""How long a webhook receiver is waited for: the pauses between attempts.

Pure: the dice are given. Over 75 hours an event is tried some fifteen times; then it is a dead letter,
which can be replayed.
"""

from __future__ import annotations

from typing import Final

HOUR: Final = 3600.0
GIVE_UP: Final = 75 * HOUR  # seconds from the first attempt
PAUSES: Final = (4.0, 30.0, 120.0, 600.0, 1800.0, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR)
SPREAD: Final = 0.25  # of a pause, either way: receivers that fell together do not get everything back together


def pause(attempts: int, dice: float) -> float:
    """Seconds until the next attempt after `attempts` that failed; `dice` is 0..1. The first comes within 5 s."""
    planned = PAUSES[min(attempts, len(PAUSES)) - 1]
    return planned * (1 - SPREAD + 2 * SPREAD * dice)
