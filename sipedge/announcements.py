"""Which sentence is spoken to whom, and in which language."""

from __future__ import annotations

from typing import Final

from masking.interactions import Decision
from masking.routes import Told
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
# How the second leg of a keypad dialogue ended, spoken.
UNREACHED: Final = {"busy": "callee_busy", "declined": "callee_busy", "limit": "callee_busy", "no_answer": "no_answer"}


def language(told: str | None, country: str) -> str:
    """A leg's language: its participant's, else that of the trunk's country."""
    return told or LANGUAGES.get(country, spoken.FALLBACK)


def notice(how: Told, told: str | None, country: str) -> Asset:
    """What a leg hears before it is recorded."""
    return spoken.BEEP if how == "beep" else spoken.asset(language(told, country), "recording_notice")


def refusal(decision: Decision, country: str) -> Asset | None:
    """What a refused caller hears. No participant is known to be there, so it is the country's language."""
    row = SPOKEN.get(decision)
    return None if row is None else spoken.asset(language(None, country), row[0])


def prompt(name: str, told: str | None, country: str) -> Asset:
    """A sentence of a keypad dialogue."""
    return spoken.asset(language(told, country), name)


def emergency(country: str) -> Asset:
    """ "Hang up and dial …", with the country's own emergency numbers."""
    return spoken.asset(language(None, country), spoken.emergency(country))
