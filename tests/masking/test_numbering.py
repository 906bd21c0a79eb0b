"""Every country's own spelling, and what is never masked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import (
    SUPPORTED_REGIONS,
    PhoneNumberFormat,
    PhoneNumberType,
    example_number_for_type,
    format_number,
    is_valid_number,
    number_type,
    parse,
    region_code_for_number,
)

from masking import numbering
from masking.numbering import NumberFormat
from pools.numbers import Number


def spelled(country: str, text: str) -> str | None:
    number = numbering.read(country, text)
    return number.reveal() if number is not None else None


@pytest.mark.parametrize(
    ("country", "text", "meant"),
    [
        ("RU", "84951234567", "+74951234567"),
        ("VN", "84951234567", "+84951234567"),
        ("RU", "74951234567", "+74951234567"),
        ("RU", "81084901234567", "+84901234567"),
        ("RU", "0084901234567", "+84901234567"),
        ("VN", "0901234567", "+84901234567"),
        ("VN", "901234567", "+84901234567"),
        ("VN", "00442079460958", "+442079460958"),
        ("VN", "02471234567", "+842471234567"),
        ("US", "4155550100", "+14155550100"),
        ("US", "14155550100", "+14155550100"),
        ("US", "011842471234567", "+842471234567"),
        ("US", "84951234567", "+84951234567"),
        ("GB", "02079460958", "+442079460958"),
        ("IN", "09876543210", "+919876543210"),
        ("IN", "919876543210", "+919876543210"),
        ("SG", "81234567", "+6581234567"),
        ("SG", "6581234567", "+6581234567"),
        ("TH", "0812345678", "+66812345678"),
        ("TH", "00184901234567", "+84901234567"),
        ("ID", "081234567890", "+6281234567890"),
        ("MX", "5512345678", "+525512345678"),
        ("MX", "5215512345678", "+525512345678"),
        ("MX", "+5215512345678", "+525512345678"),
        ("AR", "0111512345678", "+5491112345678"),
        ("VN", "+84-90.123(45)67;phone-context=x", "+84901234567"),
        ("VN", "+4402079460958", "+442079460958"),
        ("XX", "84901234567", "+84901234567"),
    ],
)
def test_a_trunk_is_understood_in_its_countrys_spelling(country: str, text: str, meant: str) -> None:
    assert spelled(country, text) == meant


@pytest.mark.parametrize(
    "text", ["", "+", "113", "abc", "+84901234567@x", "²²²²²²²²", "+0849012345", "1" * 25, "+84٩٠١٢٣٤٥٦٧"]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert spelled("VN", text) is None


COUNTRIES = ["VN", "RU", "US", "GB", "IN", "TH", "ID", "SG", "MX", "AR", "KZ", "BR", "IT", "PH", "MY", "DE", "FR", "JP"]


def mobile(country: str) -> Number:
    example = example_number_for_type(country, PhoneNumberType.MOBILE)
    assert example is not None
    return Number.parse(format_number(example, PhoneNumberFormat.E164))


@pytest.mark.parametrize("country", COUNTRIES)
def test_what_we_write_for_a_trunk_it_reads_as_we_meant(country: str) -> None:
    forms: tuple[NumberFormat, ...] = ("+e164", "national")
    for number in map(mobile, COUNTRIES):
        for form in forms:
            written = numbering.write(number, form, country)
            assert numbering.read(country, written) == number, written


@pytest.mark.parametrize("country", COUNTRIES)
def test_bare_digits_of_the_own_country_are_understood(country: str) -> None:
    number = mobile(country)
    assert numbering.read(country, numbering.write(number, "e164", country)) == number
    assert numbering.country_of(number) == country
    assert numbering.person(number.reveal()) == number


@pytest.mark.parametrize(
    ("number", "home"),
    [
        ("+15005550006", "US"),
        ("+77012345678", "KZ"),
        ("+70000000000", "RU"),
        ("+99912345678", None),
        ("+80012345678", None),
    ],
)
def test_a_number_has_a_home_even_before_its_range_is_given_out(number: str, home: str | None) -> None:
    assert numbering.country_of(Number.parse(number)) == home


NOBODYS = {PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.PAGER, PhoneNumberType.VOICEMAIL}


def test_who_may_join_is_what_libphonenumber_says_of_every_kind_of_number() -> None:
    seen = set()
    for region in sorted(SUPPORTED_REGIONS):
        for kind in PhoneNumberType.values():
            example = example_number_for_type(region, kind)
            if example is None:
                continue
            right = format_number(example, PhoneNumberFormat.E164)
            for text in (
                right,
                right[:-1],
                right + "7",
                right[:-4] + "0000",
                right[:-3] + "999",
                right[:4] + right[5:],
            ):
                meant = parse(text)
                number = numbering.read("", text)
                if number is None or number.reveal() != text:
                    continue  # spelled in a way that means another number, or too long
                reachable = is_valid_number(meant) and number_type(meant) not in NOBODYS
                assert (numbering.person(text) is not None) == reachable, text
                if reachable:
                    assert numbering.country_of(number) == region_code_for_number(meant), text
                seen.add((kind, reachable))
    assert len(seen) > 15


def test_00_is_written_whatever_the_country_dials() -> None:
    assert numbering.write(Number.parse("+84901234567"), "00", "US") == "0084901234567"


@given(st.text(max_size=30), st.sampled_from(COUNTRIES))
def test_no_text_makes_trouble(text: str, country: str) -> None:
    numbering.read(country, text)
    numbering.is_emergency(country, text)
    numbering.spells_a_number(text, frozenset({country}))
    numbering.person(text)


@given(st.from_regex(r"\+?[0-9]{1,20}", fullmatch=True), st.sampled_from(COUNTRIES))
def test_no_run_of_digits_makes_trouble(text: str, country: str) -> None:
    number = numbering.read(country, text)
    if number is not None:
        numbering.country_of(number)
        for form in ("+e164", "e164", "00", "national"):
            numbering.write(number, form, country)


@pytest.mark.parametrize(
    ("country", "dialled", "emergency"),
    [
        ("VN", "113", True),
        ("VN", "114", True),
        ("VN", "112", True),
        ("VN", "+84113", True),
        ("VN", "84115", True),
        ("VN", "911", True),
        ("RU", "102", True),
        ("US", "911", True),
        ("US", "113", False),
        ("GB", "0113", False),
        ("VN", "0901234567", False),
        ("VN", "+842471234567", False),
        ("VN", "", False),
    ],
)
def test_a_call_in_need_is_known(country: str, dialled: str, emergency: bool) -> None:
    assert numbering.is_emergency(country, dialled) is emergency


def test_the_numbers_to_dial_in_need_are_named() -> None:
    assert numbering.emergency_numbers("VN") == ("112", "113", "114", "115")
    assert numbering.emergency_numbers("FR") == ("112",)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("+84901234567", True),
        ("call +84 90 123 45 67 now", True),
        ("tel:+84-90-123-4567", True),
        ("0901234567", True),
        ("84901234567", True),
        ("0084901234567", True),
        ("order-1042", False),
        ("20261122000123", False),
        ("+1", False),
        ("3.14159265358979", False),
        ("2471234567", False),
        ("4915112345678", False),
        ("004915112345678", True),
    ],
)
def test_a_text_that_is_a_number_is_seen(text: str, is_one: bool) -> None:
    assert numbering.spells_a_number(text, frozenset({"VN"})) is is_one


@pytest.mark.parametrize("text", ["+84901234567", "+84 90 123 45 67"])
def test_a_person_has_a_valid_number(text: str) -> None:
    assert numbering.person(text) is not None


@pytest.mark.parametrize(
    "text", ["0901234567", "+84113", "+8490123456", "+841900123456", "+999123456789", "+8490123456789012"]
)
def test_short_invalid_and_premium_numbers_are_nobody(text: str) -> None:
    assert numbering.person(text) is None
