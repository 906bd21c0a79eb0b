"""Which sentence is spoken in which situation: ours, one of the operator's own, or none.

An operator's own sentences are WAV files of `[media] voices`, a folder for each language (`vi/our_notice.wav`): 8 kHz,
16 bit, mono, at most ten seconds. A session, and before it its service, names for a situation the sentence that takes
the place of ours; who hears it hears it in their own language, where it is there in that.
"""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from masking.config import BadConfig
from masking.refusals import Invalid

if TYPE_CHECKING:
    from masking.house import House

Name = Annotated[str, Meta(pattern="^[a-z0-9_]{1,64}$", description="A sentence: one of ours, or a file's name.")]
Sentence = Name | UnsetType
Silence = Name | None | UnsetType  # where nothing may be said instead

RATE: Final = 8000
LONGEST: Final = 10.0  # seconds
LONGEST_NOTICE: Final = 4.0


class Announcements(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False
):
    """The sentence of each situation, where it is not ours; null: nothing is said. Whoever is recorded is told so, and
    who has to key something is asked to: those are never null."""

    recording_notice: Sentence = UNSET
    connecting: Silence = UNSET
    press_key: Sentence = UNSET
    enter_pin: Sentence = UNSET
    wrong_pin: Sentence = UNSET
    enter_extension: Sentence = UNSET
    no_binding: Silence = UNSET
    trip_ended: Silence = UNSET
    not_allowed: Silence = UNSET
    callee_busy: Silence = UNSET
    no_answer: Silence = UNSET
    not_connected: Silence = UNSET

    def over(self, other: Announcements) -> Announcements:
        """These, and `other`'s where these say nothing."""
        return msgspec.structs.replace(other, **self.said())

    def said(self) -> dict[str, str | None]:
        """The situations that have a sentence of their own, or none."""
        return {field: value for field in self.__struct_fields__ if (value := getattr(self, field)) is not UNSET}

    def of(self, situation: str) -> str | None:
        """The sentence of a situation; None: silence."""
        name: str | None | UnsetType = getattr(self, situation, UNSET)
        return situation if isinstance(name, UnsetType) else name


OURS: Final = Announcements()


class Voice(msgspec.Struct, frozen=True):
    """One of the operator's files; `duration` in seconds."""

    path: Path
    sha256: str
    duration: float


Voices = Mapping[tuple[str, str], Voice]  # by language and name


def read(folder: str) -> Voices:
    """The operator's sentences, "" for none; `BadConfig` for a file that cannot be spoken. Blocks on the disk."""
    if not folder:
        return {}
    if not Path(folder).is_dir():
        raise BadConfig(f'media.voices: "{folder}" is no folder')
    return {
        (path.parent.name.lower(), path.stem): _voice(path) for path in sorted(Path(folder).resolve().glob("*/*.wav"))
    }


def _voice(path: Path) -> Voice:
    place = f"media.voices: {path.parent.name}/{path.name}"
    if not path.stem.replace("_", "").isalnum() or path.stem != path.stem.lower():
        raise BadConfig(f"{place} is named otherwise than in lower-case letters, digits and _")
    try:
        with wave.open(str(path), "rb") as file:
            shape = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            seconds = file.getnframes() / file.getframerate()
    except (OSError, wave.Error, EOFError):
        raise BadConfig(f"{place} is no WAV file that can be read") from None
    if shape != (1, 2, RATE) or not 0 < seconds <= LONGEST:
        raise BadConfig(f"{place} is not 8 kHz, 16 bit, mono and at most {LONGEST:g} s long")
    return Voice(path, hashlib.sha256(path.read_bytes()).hexdigest(), seconds)


def checked(house: House, wish: Announcements, field: str = "announcements") -> Announcements:
    """The wish; `Invalid` for a sentence that nobody recorded, or that is too long."""
    for situation, name in wish.said().items():
        place = f"{field}.{situation}"
        if name is None or name in Announcements.__struct_fields__:
            continue
        takes = [voice.duration for (_, own), voice in house.voices.items() if own == name]
        if not takes:
            raise Invalid.field(place, "is no sentence there is", "a situation's own, or a file's name in media.voices")
        if situation == "recording_notice" and max(takes) > LONGEST_NOTICE:
            raise Invalid.field(place, "takes too long", f"at most {LONGEST_NOTICE:g} s in every language")
    return wish
