"""How countries spell numbers: from a trunk's dialled digits to a `Number` and back, and what is never masked.

The plans (country code, international and national prefix, shape of a national number) come from libphonenumber's
metadata, read once per country into a `Plan` of compiled patterns; a call then costs a few pattern matches.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberDesc,
    PhoneNumberFormat,
    PhoneNumberType,
    format_number,
    length_of_geographical_area_code,
    number_type,
    parse,
    region_code_for_number,
)
from phonenumbers.shortnumberinfo import is_emergency_number

from pools.numbers import Number as Number

NumberFormat = Literal["+e164", "e164", "00", "national"]

# What people are told to dial; the first is the one number that reaches all where there is one.
EMERGENCY: dict[str, tuple[str, ...]] = {
    "VN": ("112", "113", "114", "115"),
    "RU": ("112", "101", "102", "103"),
    "US": ("911",),
    "CA": ("911",),
    "MX": ("911",),
    "AR": ("911", "100", "107"),
    "BR": ("190", "192", "193"),
    "GB": ("999", "112"),
    "IN": ("112", "100", "101", "102"),
    "TH": ("191", "1669", "199"),
    "ID": ("112", "110", "118", "113"),
    "SG": ("999", "995"),
    "MY": ("999", "112"),
    "PH": ("911",),
    "KZ": ("112", "101", "102", "103"),
}
# 3GPP TS 22.101 10.1: every phone takes these for a call in need, wherever it is.
EMERGENCY_EVERYWHERE = frozenset({"112", "911"})
LONGEST_EMERGENCY = 6
# Where the international prefix names a carrier, one that everybody may use.
CARRIER_PREFIX = {
    "TH": "001", "ID": "008", "SG": "001", "MX": "00", "HK": "001", "KH": "001", "KR": "001", "TW": "002", "PW": "011",
    "TZ": "000", "UG": "000", "BR": "0021", "CO": "009",
}  # fmt: skip
# National prefixes that are gone, and still sent: Mexico's 01 (to another town), 044 and 045 (to a mobile) until 2019.
RETIRED = {"MX": "01|04[45]"}

GENERIC_INTERNATIONAL = re.compile("00")  # many carriers write it so, whatever their country dials
VISUAL = str.maketrans("", "", "-.() ")  # RFC 3966 5.1.1
E164_DIGITS = range(7, 16)
E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
MEXICO_MOBILE = "+521"  # its mobile 1 is gone since 2019, and still sent
# What a number may be, in the order libphonenumber looks: the first that fits decides. A person is never reached at
# those marked False: toll fraud, and nobody's own phone.
KINDS = (
    ("premium_rate", False),
    ("toll_free", True),
    ("shared_cost", False),
    ("voip", True),
    ("personal_number", True),
    ("pager", False),
    ("uan", True),
    ("voicemail", False),
    ("fixed_line", True),
    ("mobile", True),
)


class Plan(NamedTuple):
    """One country's way to write numbers."""

    code: str
    international: re.Pattern[str]
    national: re.Pattern[str] | None  # the prefix before a national number; None: it is written bare
    transform: str | None
    shape: re.Pattern[str]
    bare_is_national: bool
    abroad: str  # what its trunks dial before a country code

    def national_number(self, digits: str) -> str | None:
        """The national number behind a country's own prefix, or None if `digits` is not written so."""
        if self.national is None:
            return None
        match = self.national.match(digits)
        if match is None or match.end() == 0:
            return None
        if self.transform and match.lastindex:
            digits = match.expand(self.transform) + digits[match.end() :]
        else:
            digits = digits[match.end() :]
        return digits if self.shape.fullmatch(digits) else None


@cache
def plan(country: str) -> Plan | None:
    """The plan of an ISO 3166 country; None where the world has none."""
    data = PhoneMetadata.metadata_for_region(country)
    if data is None or data.general_desc is None or data.general_desc.national_number_pattern is None:
        return None
    prefix = data.national_prefix_for_parsing
    national = prefix or RETIRED.get(country)
    ways = (data.international_prefix, CARRIER_PREFIX.get(country), data.preferred_international_prefix)
    return Plan(
        code=str(data.country_code),
        international=re.compile(data.international_prefix or "00"),
        national=re.compile(national) if national else None,
        transform=data.national_prefix_transform_rule,
        shape=re.compile(data.general_desc.national_number_pattern),
        # North America dials its ten digits with or without the 1.
        bare_is_national=prefix is None or data.country_code == 1,
        abroad=next((way for way in ways if way and way.isdigit()), "00"),
    )


@cache
def _plans_of_code(code: str) -> tuple[Plan, ...]:
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code or 0), ())
    return tuple(found for region in regions if (found := plan(region)) is not None)


def _international(digits: str) -> str | None:
    """Country code and national number, as one canonical run of digits; None if no country writes that."""
    if digits.startswith(MEXICO_MOBILE[1:]) and len(digits) == 13:
        digits = "52" + digits[3:]
    code = _code(digits[:3])
    plans, rest = _plans_of_code(code), digits[len(code) :]
    for found in plans:
        if found.shape.fullmatch(rest):
            return digits
    for found in plans:  # +44 (0)20…: the national prefix has crept in
        if (national := found.national_number(rest)) is not None:
            return found.code + national
    return None


def read(country: str, spelled: str) -> Number | None:
    """The number a trunk of `country` means by the user part `spelled`, parameters cut; None if it is none.

    `+…` is international; else the country's international prefix, its national form, and only then a bare country
    code: `84951234567` is Moscow on a RU trunk and a Vietnamese mobile on a VN trunk.
    """
    digits = spelled.partition(";")[0].translate(VISUAL)
    plus = digits.startswith("+")
    digits = digits.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and 3 <= len(digits) <= 24):
        return None
    if plus:
        found = _international(digits) or (digits if digits[0] != "0" and len(digits) in E164_DIGITS else None)
    else:
        found = _by_plan(plan(country), digits)
    return Number.parse(f"+{found}") if found is not None and len(found) in E164_DIGITS else None


def _by_plan(own: Plan | None, digits: str) -> str | None:
    if own is None:
        return _international(digits)
    if (found := _in_full(own, digits)) is not None:
        return found
    abroad, home = _international(digits), own.code + digits if own.shape.fullmatch(digits) else None
    if home is not None and abroad is not None and _written_bare(home, digits):
        return _likelier(home, abroad)
    return _likelier(abroad, home)


def _in_full(own: Plan, digits: str) -> str | None:
    """A number with its prefix, country code or international prefix, as a country writes it."""
    ways = {way.end() for each in (own.international, GENERIC_INTERNATIONAL) if (way := each.match(digits))}
    if ways:
        dialled = [_international(digits[end:]) for end in sorted(ways, reverse=True) if len(digits) > end]
        if (found := _likelier(*dialled)) is not None:
            return found
    national = own.national_number(digits)
    if national is not None:
        return own.code + national
    abroad = _international(digits) if digits.startswith(own.code) else None
    if own.bare_is_national and own.shape.fullmatch(digits):
        if own.code == "1":  # ten digits are always North America's own, given out or not
            return own.code + digits
        return _likelier(own.code + digits, abroad or _international(digits))
    return abroad


def _likelier(*readings: str | None) -> str | None:
    """Of several readings the first that somebody could be reached at, else the first that is a number at all."""
    found = [one for one in readings if one is not None]
    if len(found) < 2:
        return found[0] if found else None
    return next((one for one in found if _standing("+" + one)[1]), found[0])


@lru_cache(maxsize=8192)
def _written_bare(national: str, digits: str) -> bool:
    """Does its country write this number without any prefix, as Brazil, China and Colombia do with mobiles?"""
    number = _parsed("+" + national)
    if number_type(number) != PhoneNumberType.MOBILE:
        return False
    spelled = format_number(number, PhoneNumberFormat.NATIONAL)
    return "".join(character for character in spelled if character.isdigit()) == digits


def write(number: Number, form: NumberFormat, country: str) -> str:
    """The spelling a trunk of `country` wants. It reveals the number: for that person's own leg, or a virtual one."""
    e164 = number.reveal()
    if form == "+e164":
        return e164
    if form == "e164":
        return e164[1:]
    own = plan(country)
    if form == "00" or own is None:
        return "00" + e164[1:]
    if e164.startswith("+" + own.code) and own.shape.fullmatch(e164[1 + len(own.code) :]):
        spelled = format_number(_parsed(e164), PhoneNumberFormat.NATIONAL)
        return "".join(character for character in spelled if character.isdigit())
    return own.abroad + e164[1:]


def _parts(e164: str) -> tuple[str, str]:
    """Country code and national number; no code where nobody has it."""
    digits = e164.removeprefix("+")
    code = _code(digits[:3])
    return code, digits[len(code) :]


@cache
def _code(head: str) -> str:
    """The country code that a number's first three digits begin with."""
    return next((head[:n] for n in (1, 2, 3) if head[:1] != "0" and _plans_of_code(head[:n])), "")


def _parsed(e164: str) -> PhoneNumber:
    """E.164 as libphonenumber's own type; a country code nobody has gives an invalid one, never an error."""
    code, rest = _parts(e164)
    zeros = len(rest) - len(rest.lstrip("0"))
    return PhoneNumber(
        country_code=int(code or 0),
        national_number=int(rest or 0),
        italian_leading_zero=zeros > 0 or None,
        number_of_leading_zeros=zeros if zeros > 1 else None,
    )


def _region(e164: str, code: str) -> str | None:
    """Where the number is given out. A code of one country alone says it; of several, the number's own digits do."""
    regions = COUNTRY_CODE_TO_REGION_CODE.get(int(code or 0), ())
    return regions[0] if len(regions) == 1 else region_code_for_number(_parsed(e164))


@cache
def _shapes(country: str) -> re.Pattern[str]:
    """What a country's national numbers may be, in one pattern: a match of group `reaches…` is a person's number, of
    any other group one where nobody is reached."""
    data = PhoneMetadata.metadata_for_region(country)
    general = _shape(data.general_desc) if data is not None else None
    if general is None:
        return re.compile(r"(?!)")
    kinds = [
        f"(?P<{'reaches' if reaches else 'never'}_{name}>{shape})"
        for name, reaches in KINDS
        if (shape := _shape(getattr(data, name))) is not None
    ]
    return re.compile(rf"(?={general}\Z)(?:{'|'.join(kinds) or '(?!)'})\Z")


def _shape(desc: PhoneNumberDesc | None) -> str | None:
    """A sort of number as a pattern that holds its lengths too, where they are told."""
    if desc is None or not desc.national_number_pattern:
        return None
    lengths = "|".join(rf"\d{{{length}}}\Z" for length in desc.possible_length)
    return rf"(?={lengths})(?:{desc.national_number_pattern})"


def longest_prefix(number: Number, prefixes: list[str]) -> int:
    """The length of the longest of these beginnings (`+8490`) that the number has; 0 when it has none."""
    if not prefixes:
        return 0
    e164 = number.reveal()
    return max((len(prefix) for prefix in prefixes if e164.startswith(prefix)), default=0)


def country_of(number: Number) -> str | None:
    """ISO 3166 code of the number's home, or None."""
    return _standing(number.reveal())[0]


@lru_cache(maxsize=8192)
def _standing(e164: str) -> tuple[str | None, bool]:
    """The number's home, and whether a person may be reached there."""
    code, national = _parts(e164)
    region = _region(e164, code)
    if region is not None:
        found = _shapes(region).match(national)
        fits = found is not None and str(found.lastgroup).startswith("reaches")
    else:  # no range anybody has been given yet: then the country that gave the code its name (RU, US, GB)
        region, fits = next(iter(COUNTRY_CODE_TO_REGION_CODE.get(int(code or 0), ())), None), False
    return region if region != "001" else None, fits


def person(spelled: str) -> Number | None:
    """The number of a person who may join a session: E.164, valid in its country, no premium line, no short number."""
    if E164.fullmatch(spelled) and not spelled.startswith(MEXICO_MOBILE) and _standing(spelled)[1]:
        return Number.parse(spelled)
    digits = spelled.translate(VISUAL)
    if not digits.startswith("+"):
        return None
    number = read("", digits)
    return number if number is not None and _standing(number.reveal())[1] else None


def area_of(number: Number) -> str | None:
    """How the numbers of its area begin, ``+1415``; None for a number of no area, as most mobiles are."""
    parsed = parse(number.reveal())
    length = length_of_geographical_area_code(parsed)
    return number.reveal()[: 1 + len(str(parsed.country_code)) + length] if length else None


def is_emergency(country: str, spelled: str) -> bool:
    """True for what a caller in `country` dials in need: never masked, never a participant."""
    digits = spelled.partition(";")[0].translate(VISUAL).removeprefix("+")
    own = plan(country)
    if own is not None and len(digits) > len(own.code) + 2:
        digits = digits.removeprefix(own.code)
    return len(digits) <= LONGEST_EMERGENCY and digits.isascii() and digits.isdigit() and _in_need(country, digits)


@lru_cache(maxsize=4096)
def _in_need(country: str, digits: str) -> bool:
    if digits in EMERGENCY_EVERYWHERE or digits in EMERGENCY.get(country, ()):
        return True
    return plan(country) is not None and bool(is_emergency_number(digits, country))


def emergency_numbers(country: str) -> tuple[str, ...]:
    """What the announcement names (VN: 112 113 114 115)."""
    return EMERGENCY.get(country, ("112",))


IN_A_TEXT = re.compile(r"\+\d(?:[\s().-]{0,2}\d){6,16}")


def spells_a_number(text: str, countries: frozenset[str] = frozenset()) -> bool:
    """True when a text contains a number in international form, or is as a whole one of `countries` in its own form.

    Bare digits that would only be a number of another country, or one without its prefix, are left alone: orders are
    numbered too.
    """
    if any(person(match[0]) is not None for match in IN_A_TEXT.finditer(text)):
        return True
    digits = text.strip().translate(VISUAL)
    if not (digits.isascii() and digits.isdigit() and len(digits) in range(8, 18)):
        return False
    plans = [own for country in countries if (own := plan(country)) is not None]
    return any(_standing("+" + found)[1] for own in plans if (found := _in_full(own, digits)) is not None)
