"""Call progress tones by country (ITU-T E.180): what a caller hears while the other phone rings."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from sipedge.media.g711 import RATE

_LEVEL: Final = 3_200  # peak of one frequency: about -20 dBm0


class Tone(msgspec.Struct, frozen=True):
    """Frequencies sounding together, and the cadence: seconds on, off, on, off, ..."""

    frequencies: tuple[int, ...]
    cadence: tuple[float, ...]


_EUROPEAN: Final = Tone((425,), (1.0, 4.0))
RING_BACK: Final[Mapping[str, Tone]] = {
    "AU": Tone((400, 425), (0.4, 0.2, 0.4, 2.0)),
    "CA": Tone((440, 480), (2.0, 4.0)),
    "CN": Tone((450,), (1.0, 4.0)),
    "FR": Tone((440,), (1.5, 3.5)),
    "GB": Tone((400, 450), (0.4, 0.2, 0.4, 2.0)),
    "IE": Tone((400, 450), (0.4, 0.2, 0.4, 2.0)),
    "IN": Tone((400,), (0.4, 0.2, 0.4, 2.0)),
    "JP": Tone((400,), (1.0, 2.0)),
    "MY": Tone((425,), (0.4, 0.2, 0.4, 2.0)),
    "NZ": Tone((400, 450), (0.4, 0.2, 0.4, 2.0)),
    "PH": Tone((425, 480), (1.0, 4.0)),
    "RU": Tone((425,), (0.8, 3.2)),
    "SG": Tone((400,), (0.4, 0.2, 0.4, 2.0)),
    "TH": Tone((400,), (1.0, 4.0)),
    "US": Tone((440, 480), (2.0, 4.0)),
    "VN": _EUROPEAN,
}


@lru_cache(maxsize=32)
def ring_back(country: str) -> bytes:
    """One cycle of the country's ring-back tone as PCM; the European one where the table has none."""
    return cycle(RING_BACK.get(country.upper(), _EUROPEAN))


WARNING: Final = Tone((1_400,), (0.15, 0.1, 0.15))  # two short pips, as the time of a call runs out


@lru_cache(maxsize=1)
def warning() -> bytes:
    """The sound that says so, as PCM."""
    return cycle(WARNING)


CONFIRMATION: Final = Tone((1_000,), (0.3,))  # one pip: what was keyed was taken


@lru_cache(maxsize=1)
def confirmation() -> bytes:
    """The sound that says so, as PCM."""
    return cycle(CONFIRMATION)


def cycle(tone: Tone) -> bytes:
    """One turn of a tone's cadence as PCM."""
    samples = array("h")
    for index, seconds in enumerate(tone.cadence):
        length = round(seconds * RATE)
        samples.extend(array("h", bytes(2 * length)) if index % 2 else sound(tone.frequencies, length))
    return samples.tobytes()


def sound(frequencies: Sequence[int], length: int, level: int = _LEVEL) -> array[int]:
    """`length` samples of sines added together."""
    turns = [2 * math.pi * frequency / RATE for frequency in frequencies]
    return array("h", (round(level * sum(math.sin(turn * at) for turn in turns)) for at in range(length)))
