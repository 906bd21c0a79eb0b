"""A person's number cannot print itself."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.numbers import Number

CANARY = "+84999123456"
HIDDEN = "99123"


@dataclass
class Person:
    name: str
    number: Number


class Row(msgspec.Struct):
    number: Number


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_number_reveals_what_was_parsed(text: str) -> None:
    assert Number.parse(text).reveal() == text


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_a_masked_number_hides_at_least_half_of_its_digits(text: str) -> None:
    shown = str(Number.parse(text))
    assert sum(letter.isdigit() for letter in shown) <= max(4, len(text) - 5)
    assert text not in shown


SPELLINGS = (
    "84955598761 +0955598761 +849555 +8495559876123456 tel:+84955598761 +84955598761;ext=1 +٨٤٩٥٥٥٩٨٧٦١ ++84955598761"
).split()


@pytest.mark.parametrize("text", [*SPELLINGS, "+84 955598761", "+84955598761\n", " +84955598761"])
def test_a_wrong_spelling_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Number.parse(text)
    said = "".join(traceback.format_exception_only(refusal.value))
    assert "9555" not in said
    assert text not in said


@pytest.mark.parametrize("text", ["", "+"])
def test_nothing_is_no_number(text: str) -> None:
    with pytest.raises(ValueError):
        Number.parse(text)


@given(st.text())
def test_any_text_is_parsed_or_refused_with_a_value_error(text: str) -> None:
    try:
        assert Number.parse(text).reveal() == text
    except ValueError:
        pass


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError):
        Number.parse(84901234567)  # type: ignore[arg-type]


def test_every_way_of_printing_is_masked() -> None:
    number = Number.parse("+84901234567")
    assert str(number) == "+8490…67"
    assert repr(number) == "<Number +8490…67>"
    assert f"{number}" == "+8490…67"
    assert f"{number:>10}" == "  +8490…67"
    assert "%s %r" % (number, number) == "+8490…67 <Number +8490…67>"  # noqa: UP031
    assert str(Number.parse("+1234567")) == "+12…67"


def test_nothing_around_a_number_prints_it(caplog: pytest.LogCaptureFixture) -> None:
    number = Number.parse(CANARY)
    person = Person("An", number)
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("calling %s for %s", number, person)
    try:
        raise RuntimeError(number)
    except RuntimeError as failure:
        trace = "".join(traceback.TracebackException.from_exception(failure, capture_locals=True).format())
    texts = [repr(person), repr([number]), repr({"n": number}), repr(Row(number)), caplog.text, trace, ascii(number)]
    assert all(HIDDEN not in text for text in texts)


def test_no_encoder_takes_a_number() -> None:
    number = Number.parse(CANARY)
    for encode in (msgspec.json.encode, msgspec.msgpack.encode, json.dumps, pickle.dumps, msgspec.to_builtins):
        with pytest.raises(TypeError) as refusal:
            encode(number)
        assert HIDDEN not in str(refusal.value)
    with pytest.raises(TypeError):
        msgspec.json.encode(Row(number))


def test_a_copy_is_the_number_itself() -> None:
    number = Number.parse(CANARY)
    assert copy.copy(number) is number
    assert copy.deepcopy({"n": number})["n"] is number


def test_a_number_is_equal_to_its_like_and_to_nothing_else() -> None:
    number = Number.parse(CANARY)
    assert number == Number.parse(CANARY)
    assert number != Number.parse("+84999123457")
    assert number != CANARY
    assert {number: 1}[Number.parse(CANARY)] == 1


def test_a_number_neither_changes_nor_is_made_by_hand() -> None:
    number = Number.parse(CANARY)
    with pytest.raises(AttributeError):
        number.other = 1
    with pytest.raises(TypeError):
        Number()
    assert not hasattr(number, "__dict__")
