"""What a session may be opened with: every field looked at, every mistake named, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from masking import consent, numbering
from masking.events import seconds
from masking.records import Person, seal_context
from masking.refusals import (
    ContainsPhoneNumber,
    FieldError,
    Invalid,
    InvalidPhoneNumber,
    NotBuilt,
    ParticipantConflict,
)
from pools.numbers import Number

if TYPE_CHECKING:
    from masking.house import House
    from masking.sessions import NewParticipant, NewSession
    from masking.stages import Stage

LONGEST: Final = 170 * 86_400
SHORTEST_TTL: Final = 60
FEWEST: Final = 2  # people of a session
MOST: Final = 8
MOST_PHONES: Final = 5  # of one person
FEWEST_DIGITS: Final = 7  # of a phone number, in whatever spelling
E164: Final = "a mobile or fixed-line number in E.164: + and country code first"
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)

# Fields of the contract that later versions serve in full, with the values that this one does; first its default.
NOT_BUILT: Final[dict[str, tuple[Any, ...]]] = {
    "geo_match_level": ("country", "none", "area_code"),
    "degrade": ([], ["per_party"]),
}
_LATER: Final = attrgetter(*NOT_BUILT)
_WITHOUT: Final = tuple(served[0] for served in NOT_BUILT.values())


def built(new: NewSession) -> None:
    """Raises `NotBuilt` for what this version does not serve."""
    missing: list[str] = []
    if _LATER(new) != _WITHOUT:
        missing = [name for name, served in NOT_BUILT.items() if getattr(new, name) not in served]
    if missing:
        raise NotBuilt(
            f"{missing[0]}: this value is not served by this version.",
            [FieldError(name, "is not built yet", "the default, until a later version") for name in missing],
        )


def ending(new_ttl: int | None, expires_at: datetime | None, default: int, now: float) -> int:
    """Milliseconds a session lives from now; `expires_at` wins."""
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise Invalid.field("expires_at", "has no time zone", "RFC 3339 with a zone, like 2030-01-01T00:00:00Z")
        left = seconds(expires_at) - now
        if not 0 < left <= LONGEST:
            raise Invalid.field("expires_at", "is past, or too far away", "a time within the next 170 days")
        return max(1, round(left * 1000))
    ttl = default if new_ttl is None else new_ttl
    if not SHORTEST_TTL <= ttl <= LONGEST:
        raise Invalid.field("ttl", "is out of range", f"{SHORTEST_TTL}..{LONGEST} seconds")
    return ttl * 1000


def numbers(house: House, new: NewSession, fewest: int = FEWEST, most: int = MOST) -> list[list[Number]]:
    """Each participant's phones, checked: so many people, each number one that a person may have, none twice."""
    if not fewest <= len(new.participants) <= most:
        right = "1 participant, as its service says" if most == 1 else f"{FEWEST}..{MOST} participants"
        raise Invalid.field("participants", "too few or too many", right)
    found = [phones_of(house, participant, f"participants[{i}]") for i, participant in enumerate(new.participants)]
    seen: dict[Number, int] = {}
    for index, phones in enumerate(found):
        for phone in phones:
            if phone in seen:
                problem = f"is participants[{seen[phone]}] again"
                error = FieldError(f"participants[{index}].identifier", problem, "another number")
                raise ParticipantConflict("The same phone stands twice in the session.", [error])
            seen[phone] = index
    return found


def people(house: House, new: NewSession, numbers: list[list[Number]], letters: str) -> tuple[Person, ...]:
    """The participants with these numbers. That none is a pool's own is asked of Redis: `virtual`."""
    return tuple(
        [
            person_of(house, phones, participant, letters)
            for phones, participant in zip(numbers, new.participants, strict=True)
        ]
    )


async def virtual(house: House, people: Sequence[Person], found: Awaitable[int], field: str | None = None) -> None:
    """Raises for a participant whose number stands in a pool. `found`: how many do (`Inventory.in_pools`);
    `field`: where the only one of them stands."""
    if await found:
        owners = [place for place, person in enumerate(people) for _ in person.parties]
        for phone in await house.inventory.pool_numbers([party for person in people for party in person.parties]):
            raise _no_person(f"participants[{owners[phone]}]" if field is None else field, "is a virtual number")


def phones_of(house: House, participant: NewParticipant, field: str) -> list[Number]:
    """The phones of the participant that stands at `field`, when each has a number that a person may have."""
    if participant.language is not None and not _LANGUAGE.fullmatch(participant.language):
        raise Invalid.field(f"{field}.language", "is no language tag", "BCP 47, like vi or en-US")
    if participant.caller_token is not None:
        raise Invalid.field(f"{field}.caller_token", "has no place here", "alone, in a session that is opened")
    if participant.identifiers is None:
        if not isinstance(participant.identifier, str):
            raise Invalid.field(f"{field}.identifier", "is missing", E164)
        return [_number(house, participant.identifier, field)]
    if isinstance(participant.identifier, str):
        raise Invalid.field(f"{field}.identifiers", "stands beside `identifier`", "one of the two")
    if not 0 < len(participant.identifiers) <= MOST_PHONES:
        raise Invalid.field(f"{field}.identifiers", "too few or too many", f"1..{MOST_PHONES} phones of one person")
    return [_number(house, spelled, field) for spelled in participant.identifiers]


def _number(house: House, spelled: str, field: str) -> Number:
    found = numbering.person(spelled)
    if found is None:
        countries = {trunk.country for trunk in house.config.trunk} or {"VN"}
        if any(numbering.is_emergency(country, spelled) for country in countries):
            raise _no_person(field, "is an emergency number")
        raise _no_person(field, "is not a valid phone number")
    return found


def _no_person(field: str, problem: str) -> InvalidPhoneNumber:
    return InvalidPhoneNumber(
        f"{field}.identifier {problem}.",
        [FieldError(f"{field}.identifier", problem, E164)],
    )


def person_of(
    house: House, phones: Sequence[Number], participant: NewParticipant, letters: str, own: str | None = None
) -> Person:
    """The participant with these phones, in the session with these letters; the first is the one that rings first.
    `own`: the id that was promised to whoever it is."""
    own, number = own or house.token("par_"), phones[0]
    context, country = seal_context(letters, own), numbering.country_of(number)
    next_ones = phones[1:] if participant.ring == "sequential" else ()
    return Person(
        id=own,
        role=participant.role,
        friendly_name=participant.friendly_name,
        language=participant.language,
        country=country,
        display=str(number),
        party=house.keyring.index(number),
        sealed=house.keyring.seal(number, context),
        others=tuple([house.keyring.index(phone) for phone in phones[1:]]),
        next=tuple([house.keyring.seal(phone, context) for phone in next_ones]),
        state=consent.state_of(number, country),
    )


def texts(
    house: House,
    fields: Iterable[tuple[str, str | None]],
    homes: Iterable[str | None],
    numbers: Iterable[Number] = (),
) -> None:
    """Raises for a free text that carries a phone number, or control characters. `homes`: the participants' countries,
    whose national spelling counts beside the trunks'; `numbers`: theirs, which no spelling may hide."""
    countries: frozenset[str] | None = None
    for field, text in fields:
        if text is None or text.isalpha():
            continue  # letters alone spell nothing
        if not text.isprintable():
            raise Invalid.field(field, "has control characters", "printable text")
        digits = "".join(filter(str.isdigit, text))
        if len(digits) < FEWEST_DIGITS:
            continue
        countries = countries or _countries(house, homes)
        tails = [number.reveal()[-8:] for number in numbers]
        if numbering.spells_a_number(text, countries) or any(tail in digits for tail in tails):
            error = FieldError(field, "is or contains a phone number", "a text without phone numbers")
            raise ContainsPhoneNumber(f"{field} contains a phone number.", [error])


def stage_fields(stages: Sequence[Stage]) -> list[tuple[str, str | None]]:
    """The texts of stages."""
    return [(f"stages[{place}].name", stage.name) for place, stage in enumerate(stages)]


def metadata_fields(metadata: dict[str, str]) -> list[tuple[str, str | None]]:
    """The texts of a metadata object, after its limits: 16 keys, 40 and 256 characters. A key that may itself be a
    number is named by its place."""
    if len(metadata) > 16:
        raise Invalid.field("metadata", "has too many keys", "at most 16")
    found: list[tuple[str, str | None]] = []
    for index, (name, value) in enumerate(metadata.items()):
        sayable = len(name) <= 40 and name.isprintable() and sum(character.isdigit() for character in name) < 6
        field = f"metadata.{name}" if sayable else f"metadata[{index}]"
        if not 0 < len(name) <= 40 or len(value) > 256:
            raise Invalid.field(field, "is too long", "keys of 1..40, values of at most 256 characters")
        found += [(f"{field} (key)", name), (field, value)]
    return found


def _countries(house: House, homes: Iterable[str | None]) -> frozenset[str]:
    own = {country for country in homes if country is not None}
    return frozenset(own | {trunk.country for trunk in house.config.trunk})
