"""Every country's spellings, in and out, with libphonenumber as the oracle; and Mexico's and Argentina's mobiles."""

from __future__ import annotations

import re

import pytest
from phonenumbers import (
    SUPPORTED_REGIONS,
    PhoneMetadata,
    PhoneNumberFormat,
    PhoneNumberType,
    example_number_for_type,
    format_number,
    parse,
)

from masking import numbering
from pools.numbers import Number

REGIONS = sorted(SUPPORTED_REGIONS)
KINDS = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE)
NUMBERS = {
    (region, kind): format_number(example, PhoneNumberFormat.E164)
    for region in REGIONS
    for kind in KINDS
    if (example := example_number_for_type(region, kind)) is not None
}


def read(country: str, spelled: str) -> str | None:
    number = numbering.read(country, spelled)
    return number.reveal() if number is not None else None


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_countrys_trunk_is_understood_in_every_spelling_of_its_own_numbers(kind: int) -> None:
    for region in REGIONS:
        e164 = NUMBERS.get((region, kind))
        if e164 is None:
            continue
        data = PhoneMetadata.metadata_for_region(region)
        way = (data and data.international_prefix) or ""
        abroad = way if way.isdigit() else "00"
        national = digits(format_number(parse(e164), PhoneNumberFormat.NATIONAL))
        for spelled in (e164, e164[1:], abroad + e164[1:], "00" + e164[1:], national):
            if not (region == "CO" and spelled.startswith("00")):  # 005 is a carrier's way out of Colombia
                assert read(region, spelled) == e164, (region, spelled)


def test_what_is_written_nationally_for_a_trunk_libphonenumber_reads_as_we_meant() -> None:
    for (region, _), e164 in NUMBERS.items():
        written = numbering.write(Number.parse(e164), "national", region)
        assert format_number(parse(written, region), PhoneNumberFormat.E164) == e164, (region, written)


def test_what_is_written_for_any_countrys_trunk_is_understood_there_whosever_number_it_is() -> None:
    misread = [
        (country, e164)
        for country in REGIONS
        for e164 in NUMBERS.values()
        if read(country, numbering.write(Number.parse(e164), "national", country)) != e164
    ]
    assert {country for country, _ in misread} <= {"BO"} and len(misread) <= 2  # 0016 is a carrier's way out of Bolivia


MEXICAN = "+525512345678"
ARGENTINE = "+5491123456789"


@pytest.mark.parametrize(
    "spelled",
    ["+525512345678", "525512345678", "00525512345678", "5512345678", "+5215512345678", "5215512345678",
     "005215512345678", "0445512345678", "0455512345678", "015512345678", "044 55 1234 5678"],
)  # fmt: skip
def test_a_mexican_mobile_is_one_number_however_it_is_spelled(spelled: str) -> None:
    """The 1 after +52 and the prefixes 01, 044, 045 went in 2019; carriers still send them."""
    assert read("MX", spelled) == MEXICAN
    if spelled.startswith(("+", "00")):
        assert read("VN", spelled) == read("AR", spelled) == MEXICAN


@pytest.mark.parametrize(
    "spelled",
    ["+5491123456789", "5491123456789", "005491123456789", "01115 23456789", "0111523456789", "111523456789",
     "91123456789", "+54111523456789", "54111523456789", "+54 0 11 15 2345-6789"],
)  # fmt: skip
def test_an_argentine_mobile_is_one_number_with_its_9_or_its_15(spelled: str) -> None:
    assert read("AR", spelled) == ARGENTINE
    if spelled.startswith(("+", "00")):
        assert read("VN", spelled) == read("MX", spelled) == ARGENTINE


@pytest.mark.parametrize(
    ("country", "number", "forms"),
    [
        ("AR", ARGENTINE, {"+e164": "+5491123456789", "e164": "5491123456789", "00": "005491123456789",
                           "national": "0111523456789"}),
        ("AR", "+541123456789", {"national": "01123456789"}),  # the fixed line without the 9 is somebody else's
        ("MX", MEXICAN, {"+e164": "+525512345678", "e164": "525512345678", "national": "5512345678"}),
        ("MX", ARGENTINE, {"national": "005491123456789"}),
        ("VN", "+84901234567", {"+e164": "+84901234567", "e164": "84901234567", "00": "0084901234567",
                                "national": "0901234567"}),
        ("US", "+84901234567", {"national": "01184901234567", "00": "0084901234567"}),
        ("TH", "+84901234567", {"national": "00184901234567"}),
        ("BR", "+5511961234567", {"national": "11961234567"}),
        ("AU", "+84901234567", {"national": "001184901234567"}),
    ],
)  # fmt: skip
def test_numbers_leave_as_the_carrier_wants_them(country: str, number: str, forms: dict[str, str]) -> None:
    for form, written in forms.items():
        assert numbering.write(Number.parse(number), form, country) == written  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("country", "spelled", "meant"),
    [
        ("RU", "84951234567", "+74951234567"),  # contract: the national form goes before a bare country code
        ("VN", "84951234567", "+84951234567"),
        ("BR", "11961234567", "+5511961234567"),
        ("CN", "13123456789", "+8613123456789"),  # mobiles are dialled bare there: no +1
        ("CO", "3211234567", "+573211234567"),
        ("SG", "12684641234", "+12684641234"),  # eleven digits that nobody in Singapore has
        ("TH", "006621234567", "+6621234567"),  # 006 leads out of Thailand too, but then to nobody
        ("VN", "901234567", "+84901234567"),
        ("US", "2975601234", "+12975601234"),
    ],
)
def test_a_spelling_with_two_meanings_means_what_the_trunks_country_means(
    country: str, spelled: str, meant: str
) -> None:
    assert read(country, spelled) == meant
