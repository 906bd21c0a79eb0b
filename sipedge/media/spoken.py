"""The sentences this product speaks, pre-rendered: 8 kHz mono PCM16 WAV files with a manifest, one folder a language.

    spoken.asset("vi", "recording_notice")            # played to both legs before the bridge opens, <= 4 s
    spoken.asset("en", "no_binding")                  # the same words for every kind of no, <= 10 s
    spoken.asset("vi", spoken.emergency("VN"))        # "hang up and dial 112, 113 ...", <= 10 s

Names: recording_notice, no_binding, trip_ended, not_allowed, emergency and emergency_<CC>; for keypad dialogues
enter_pin, wrong_pin, enter_extension, press_key, callee_busy, no_answer, not_connected; connecting for whoever is rung
first of a call that the app asked for. A language nobody recorded
speaks English, and a country without a text of its own says "your local emergency number". The manifest is read once,
at import; nothing else is read here. `scripts/voices` renders them anew.
"""

from __future__ import annotations

import hashlib
import wave
from pathlib import Path
from typing import Final

import msgspec

VOICES: Final = Path(__file__).parent / "voices"
FALLBACK: Final = "en"


class Asset(msgspec.Struct, frozen=True):
    """One spoken sentence; `id` ("vi/recording_notice") and `sha256` (of the WAV file) go into the notices."""

    id: str
    path: Path
    text: str
    sha256: str
    duration: float


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of the manifest."""

    text: str
    sha256: str
    duration: float


def _read(folder: Path) -> dict[tuple[str, str], Asset]:
    manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=dict[str, dict[str, Line]])
    return {
        (language, name): Asset(
            f"{language}/{name}", folder / language / f"{name}.wav", line.text, line.sha256, line.duration
        )
        for language, lines in manifest.items()
        for name, line in lines.items()
    }


ASSETS: Final = _read(VOICES)
"""Every asset there is, by (language, name)."""


def _tone(path: Path, text: str) -> Asset:
    with wave.open(str(path)) as file:
        duration = file.getnframes() / file.getframerate()
    return Asset(path.stem, path, text, hashlib.sha256(path.read_bytes()).hexdigest(), duration)


BEEP: Final = _tone(Path(__file__).parent / "beep.wav", "a beep of 1400 Hz")
"""What says that a call is recorded where a sentence is not asked for."""


def asset(language: str, name: str) -> Asset:
    """The sentence `name` in `language` ("vi", "en", or a tag such as "vi-VN"), in English where there is no other.

    KeyError when no language has that name: names are ours, so that is a mistake of ours.
    """
    spoken = language.lower().split("-")[0]
    return ASSETS.get((spoken, name)) or ASSETS[FALLBACK, name]


def emergency(country: str) -> str:
    """The name of what a caller of an emergency number hears on a trunk of `country` (ISO 3166)."""
    name = f"emergency_{country.upper()}"
    return name if (FALLBACK, name) in ASSETS else "emergency"
