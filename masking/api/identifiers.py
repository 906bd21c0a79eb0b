"""No person's number ever stands in a URL: what a query may carry, and how a virtual number is spelt in one.

A value that is a telephone number is allowed only when it is one of the tenant's own virtual numbers. Everyone else's,
another tenant's virtual number too, is turned away alike, so the answer tells nobody whose a number is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from masking import numbering
from masking.api.problems import Declined, bad_field
from masking.house import House
from masking.refusals import FieldError
from pools.numbers import Number

# `+` is a space once a query has been decoded the way forms are; 00 is how many countries dial +.
_INTERNATIONAL = re.compile(r"(?:[+ ]|00)?\s*([1-9][\d\s().-]{5,24}\d)\s*", re.ASCII)
_DIGITS = re.compile(r"\d", re.ASCII)


def virtual_number(text: str) -> Number | None:
    """The number a URL's text spells in international form, with `+`, a space, `00` or nothing before it."""
    match = _INTERNATIONAL.fullmatch(text)
    if match is None:
        return None
    try:
        return Number.parse("+" + re.sub(r"\D", "", match[1], flags=re.ASCII))
    except ValueError:
        return None


def number_filter(text: str | None) -> str | None:
    """The parameter `number` of a list, E.164; what is no number at all is a bad parameter."""
    if text is None:
        return None
    number = virtual_number(text)
    if number is None:
        raise bad_field("invalid_parameter", "number", "is no phone number", "a virtual number of yours, E.164")
    return number.reveal()  # a virtual number of the tenant: `refuse_identifiers` has turned every other one away


async def refuse_identifiers(house: House, tenant: str, pairs: Iterable[tuple[str, str]]) -> None:
    """Raises `identifier_in_query` when a name or a value is a telephone number outside the tenant's pools."""
    for name, value in pairs:
        for text in (name, value):
            # Six digits or fewer are no telephone number, which is what nearly every value passes by.
            if len(_DIGITS.findall(text)) > 6 and await _is_identifier(house, tenant, text):
                field = name if text is value else "query"
                raise Declined(
                    "identifier_in_query",
                    "A telephone number that is none of your virtual numbers stands in the query. "
                    "A person is searched for by POST, with a reason.",
                    errors=[FieldError(field, "is a telephone number", "a virtual number of yours, or no number")],
                )


async def _is_identifier(house: House, tenant: str, text: str) -> bool:
    countries = house.config.countries
    # Plain digits may be an order's number: they count as a telephone number where they would be refused as one.
    if not text.startswith(("+", " ", "00")) and not numbering.spells_a_number(text, countries):
        return False
    number = virtual_number(text)
    if number is None:
        return numbering.spells_a_number(text, countries)
    found = await house.inventory.find(number)
    return found is None or found.tenant != tenant
