"""What people must be told before their call is recorded, by where they are: of two ends the stricter one counts.

    one_party   nothing: who asked for the recording may know it alone (a notice is spoken all the same, unless the
                session says `recording_notice: null`)
    beep        a beep before the first sample that is kept, and one every 15 s for as long as it lasts
    notice      the spoken notice (the default everywhere)
    never       such a call is not recorded

A place is a country (ISO 3166-1: `VN`), or one of the United States (`US-CA`) where the law asks more than in the rest;
a number is there where its country code and area code say so. Whoever's place nobody can tell is everywhere at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta
from phonenumbers import SUPPORTED_REGIONS

from masking import numbering
from masking.refusals import Invalid

if TYPE_CHECKING:
    from masking.records import Person
    from pools.numbers import Number

Duty = Literal["one_party", "beep", "notice", "never"]
STRICTNESS: Final[tuple[Duty, ...]] = ("one_party", "beep", "notice", "never")

Place = Annotated[str, Meta(min_length=2, max_length=5, description="VN, or US-CA.")]


class ConsentPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is owed in each place, and everywhere else."""

    default: Duty = "notice"
    places: Annotated[dict[Place, Duty], Meta(max_length=300)] = {}

    def owed_to(self, person: Person) -> Duty:
        """By the most exact place that is named."""
        if not self.places:
            return self.default
        if person.country is None:
            return self.strictest
        named = (f"{person.country}-{person.state}", person.country)
        return next((self.places[place] for place in named if place in self.places), self.default)

    @property
    def strictest(self) -> Duty:
        return strictest((self.default, *self.places.values()))


EVERYWHERE: Final = ConsentPolicy()


def strictest(duties: Iterable[Duty]) -> Duty:
    """Of several the one that asks most."""
    return max(duties, key=STRICTNESS.index)


def checked(policy: ConsentPolicy) -> None:
    """Raises `Invalid` for a place that does not exist, or that no number tells."""
    for place in policy.places:
        if place not in SUPPORTED_REGIONS and place not in (f"US-{state}" for state in STATES):
            states = ", ".join(sorted(STATES))
            raise Invalid.field(
                f"consent_policy.places.{place}", "is no place that a number tells", f"VN, or US- and one of {states}"
            )


def state_of(number: Number, country: str | None) -> str | None:
    """Which of the United States the number's area code is of, where that is one of `STATES`."""
    return _BY_AREA.get(numbering.area_of(number)) if country == "US" else None


# The states in which everybody on a call has to be told, and their area codes.
STATES: Final = {
    "CA": "209 213 279 310 323 341 350 369 408 415 424 442 510 530 559 562 619 626 628 650 657 661 669 707 714 738 747"
    " 760 805 818 820 831 840 858 909 916 925 949 951",
    "CT": "203 475 860 959",
    "DE": "302",
    "FL": "239 305 321 324 352 386 407 448 561 645 656 689 727 728 754 772 786 813 850 863 904 941 954",
    "IL": "217 224 309 312 331 447 464 618 630 708 730 773 779 815 847 872",
    "MA": "339 351 413 508 617 774 781 857 978",
    "MD": "227 240 301 410 443 667",
    "MI": "231 248 269 313 517 586 616 734 810 906 947 989",
    "MT": "406",
    "NH": "603",
    "NV": "702 725 775",
    "OR": "458 503 541 971",
    "PA": "215 223 267 272 412 445 484 570 582 610 717 724 814 835 878",
    "WA": "206 253 360 425 509 564",
}
_BY_AREA: Final[dict[str | None, str]] = {
    f"+1{code}": state for state, codes in STATES.items() for code in codes.split()
}
