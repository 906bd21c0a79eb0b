"""How countries spell numbers: from a trunk's dialled digits to a `Number` and back, and what is never masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pools.numbers import Number

NumberFormat = Literal["+e164", "e164", "00", "national"]


def read(country: str, spelled: str) -> Number | None:
    """The number a trunk of `country` means by the user part `spelled`, parameters cut; None if it is none.

    `+…` is international; else the country's international prefix, its national form, and only then a bare country
    code: `84951234567` is Moscow on a RU trunk and a Vietnamese mobile on a VN trunk.
    """
    raise NotImplementedError


def write(number: Number, form: NumberFormat, country: str) -> str:
    """The spelling a trunk of `country` wants. This reveals the number: only for that person's own leg, or a virtual one."""
    raise NotImplementedError


def country_of(number: Number) -> str | None:
    """ISO 3166 code of the number's home, or None."""
    raise NotImplementedError


def is_emergency(country: str, spelled: str) -> bool:
    """True for what a caller in `country` dials in need: never masked, never a participant."""
    raise NotImplementedError


def emergency_numbers(country: str) -> tuple[str, ...]:
    """What the announcement names (VN: 112 113 114 115)."""
    raise NotImplementedError


def spells_a_number(text: str, countries: frozenset[str] = frozenset()) -> bool:
    """True when a text is, or contains in international form, a telephone number (of `countries`, in national form)."""
    raise NotImplementedError
