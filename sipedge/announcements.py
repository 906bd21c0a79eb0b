"""Which sentence is spoken to whom, and in which language: what the session or its service chose, else our own."""

from __future__ import annotations

from typing import Final

from masking.interactions import Decision
from masking.sentences import Announcements, Voices
from sipedge.media import spoken
from sipedge.media.spoken import Asset

# The language of a trunk's country, for people whose language nobody told us. `spoken` falls back to English.
LANGUAGES: Final = {"VN": "vi"}

# Refusals that are spoken, and the code that follows; the others get their code at once.
SPOKEN: Final[dict[Decision, tuple[str, int]]] = {
    "no_binding": ("no_binding", 404),
    "ended": ("trip_ended", 404),
    "mode": ("not_allowed", 403),
    "direction": ("not_allowed", 403),
    "blocked": ("not_allowed", 403),
    "unavailable": ("not_allowed", 403),
    "limit": ("not_allowed", 403),
    "pin": ("no_binding", 404),  # the plain refusal: who keyed a wrong PIN hears what any stranger hears
}
# How the second leg of a call whose caller was answered long ago ended, spoken.
UNREACHED: Final = {"busy": "callee_busy", "declined": "callee_busy", "limit": "callee_busy", "no_answer": "no_answer"}


def language(told: str | None, country: str) -> str:
    """A leg's language: its participant's, else that of the trunk's country."""
    return told or LANGUAGES.get(country, spoken.FALLBACK)


def sentence(chosen: Announcements, voices: Voices, situation: str, told: str | None, country: str) -> Asset | None:
    """What a leg hears in a situation; None: nothing. `told`: the language of who is there, where somebody told us.

    An operator's sentence speaks the leg's language, else English, else whatever there is of it: it was chosen. Where
    this machine has no file of that name, ours is spoken: a call never fails for want of a voice.
    """
    name = chosen.of(situation)
    if name is None:
        return None
    wanted = language(told, country).lower()
    spoken_in = (wanted, wanted.split("-")[0], spoken.FALLBACK, *(own for own, theirs in voices if theirs == name))
    for own in spoken_in:
        if (voice := voices.get((own, name))) is not None:
            return Asset(f"{own}/{name}", voice.path, "", voice.sha256, voice.duration)
    return spoken.asset(wanted, name if (spoken.FALLBACK, name) in spoken.ASSETS else situation)


def emergency(country: str) -> Asset:
    """ "Hang up and dial …", with the country's own emergency numbers."""
    return spoken.asset(language(None, country), spoken.emergency(country))
