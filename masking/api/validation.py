"""From JSON to a request's type, and from what msgspec says to the field, what was wrong and what would be right.

msgspec's own words may quote the value ("Invalid enum value '…'"), and a value may be a person's number. So only the
place is taken from its message; the rest is said anew from the type that stands there.
"""

from __future__ import annotations

import re
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

from masking.api.problems import Declined, bad_field

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_GOT = re.compile(r"got `(\w+)`$")
_NAMED = re.compile(r"field `(.*)`$", re.DOTALL)
# A control character can stand in JSON only as an escape. None of our texts has a use for one, SQL stores no NUL.
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\u00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F]|7[fF])")
_A = {"int": "an integer", "str": "a string", "array": "an array", "object": "an object", "bool": "a boolean"}


@lru_cache(maxsize=256)
def _info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def body_of(raw: bytes, kind: Any, not_built: frozenset[str] = frozenset()) -> Any:
    """The body as `kind`. `not_built`: fields the contract names and this version does not serve yet."""
    if b"\\u00" in raw and _CONTROL.search(raw):
        raise bad_field("invalid_request", "body", "holds a control character", "texts without control characters")
    try:
        return _decoder(kind).decode(raw)
    except msgspec.ValidationError as error:
        raise explained(error, kind, not_built) from None
    except msgspec.DecodeError:
        raise Declined("malformed_request", "The body is not well-formed JSON.") from None
    except UnicodeDecodeError:
        raise Declined("malformed_request", "The body is not UTF-8.") from None
    except RecursionError:
        raise Declined("malformed_request", "The body is nested too deeply.") from None


def query_of(values: dict[str, str], kind: type[msgspec.Struct]) -> Any:
    """The query parameters as `kind`; a parameter that is not known or cannot be used is 400."""
    try:
        found = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        refused = explained(error, kind)
        raise Declined("invalid_parameter", refused.detail, errors=refused.errors) from None
    for field in msgspec.structs.fields(kind):
        text, value = values.get(field.encode_name), getattr(found, field.name)
        # msgspec takes the word "null" for none, and a number of seconds for a time.
        if text is not None and (value is None or (isinstance(value, datetime) and ":" not in text)):
            right = words(_fields(_info(kind))[field.encode_name]).removesuffix(" or null")
            raise bad_field("invalid_parameter", field.encode_name, "cannot be used", right)
    return found


def explained(error: msgspec.ValidationError, kind: Any, not_built: frozenset[str] = frozenset()) -> Declined:
    """The refusal that names the field, the problem and what would be right."""
    match = _PLACE.match(str(error))
    assert match is not None, "the pattern matches any text"
    what, path = match["what"], match["path"] or ""
    place, here = _walk(path, _info(kind))
    if match["key"]:
        here = here.key_type if isinstance(here, inspect.DictType) else here
        return bad_field("invalid_request", f"{place} (a key)", "cannot be used", words(here))
    named = _NAMED.search(what)
    if named is not None:
        name, known = named[1], _fields(here)
        field = f"{place}.{shown(name)}".lstrip(".")
        if "missing" in what:
            return bad_field("invalid_request", field, "is missing", words(known[name]) if name in known else "a value")
        if name in not_built:
            return bad_field(
                "not_implemented", field, "is not built yet", "a request without it until then", status=422
            )
        return bad_field("unknown_field", field, "is not known", _nearest(name, known))
    got = _GOT.search(what)
    problem = f"is {_A.get(got[1], got[1])}" if got else "cannot be used"
    return bad_field("invalid_request", place or "body", problem, words(here))


def shown(name: str) -> str:
    """A name as an outsider spelt it, fit to be shown: short, printable, and no phone number."""
    if sum(ch.isdigit() for ch in name) >= 6 or not name.isprintable():
        return "…"
    return name if len(name) <= 64 else name[:63] + "…"


def _nearest(name: str, known: dict[str, inspect.Type]) -> str:
    close = get_close_matches(name, known, 1, 0.5)
    return close[0] if close else "one of " + ", ".join(known)


def _walk(path: str, here: inspect.Type) -> tuple[str, inspect.Type]:
    """The place as the contract spells it, and the type that stands there."""
    place = ""
    for name, index in _STEP.findall(path):
        if name:
            place = f"{place}.{name}".lstrip(".")
            here = _fields(here).get(name, inspect.AnyType())
        else:
            place += f"[{index}]"
            here = next((item for option in options_of(here) if (item := item_of(option))), inspect.AnyType())
    return place, here


def item_of(here: inspect.Type) -> inspect.Type | None:
    """What a list or an object holds; None for what holds nothing."""
    if isinstance(here, inspect.DictType):
        return here.value_type
    return getattr(here, "item_type", None)


def options_of(here: inspect.Type) -> list[inspect.Type]:
    """What may stand here: the members of a union, without their descriptions."""
    if isinstance(here, inspect.Metadata):
        return options_of(here.type)
    if isinstance(here, inspect.UnionType):
        return [inner for option in here.types for inner in options_of(option)]
    return [here]


def _fields(here: inspect.Type) -> dict[str, inspect.Type]:
    return {
        field.encode_name: field.type
        for option in options_of(here)
        if isinstance(option, inspect.StructType)
        for field in option.fields
    }


def words(here: inspect.Type) -> str:
    """A type in words: what would be right there."""
    match here:
        case inspect.Metadata(type=bare):
            return words(bare)
        case inspect.UnionType(types=types):
            return " or ".join(words(option) for option in types if not _is_unset(option))
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.EnumType(cls=cls):
            return "one of " + ", ".join(str(member.value) for member in cls)
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            form = " without control characters" if pattern else ""
            return f"a string{_span(least, most, ' characters')}{form}"
        case inspect.IntType(ge=least, le=most):
            return f"an integer{_span(least, most)}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number{_span(low, high)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.DateTimeType():
            return "a time with its zone, e.g. 2026-11-22T09:30:00Z"
        case inspect.DateType():
            return "a day, e.g. 2026-11-22"
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            return f"an array{_span(least, most, ' items')}, each {words(item)}"
        case inspect.DictType(min_length=least, max_length=most):
            return f"an object{_span(least, most, ' entries')}"
        case inspect.StructType():
            return "an object"
    return "another value"


def _is_unset(option: inspect.Type) -> bool:
    return isinstance(option, inspect.CustomType) and option.cls is msgspec.UnsetType


def _span(least: float | None, most: float | None, unit: str = "") -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f" of at least {least}{unit}"
    return f" of {least or 0}..{most}{unit}" if unit else f" {least if least is not None else '…'}..{most}"
