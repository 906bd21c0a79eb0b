"""The few shapes all SIP header values are made of: tokens, numbers, comma lists, `;name=value` parameters (RFC
3261 25.1).

Everything here runs in time linear in its input: a header value is hostile until read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

SHORT = 256  # characters
MAX_TOKEN = 512  # a tag or branch beyond this is an attack, not an identifier
MAX_VALUES = 1_000  # of a list: more of them are there to be slow
_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_IDENTIFIER = re.compile(rf"[^\s,;<>\"]{{1,{MAX_TOKEN}}}")  # wider than a token: "=" and "@" are seen in the wild
_MARKS = re.compile(r'\\.|[",;<>]')


class Malformed(Exception):
    """The peer broke the protocol. `status` is the answer it deserves, None when none may be given.

    `reason` is our own wording and never quotes the message: a message holds people's numbers.
    """

    def __init__(self, status: int | None, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def remembered(count: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """For a function that reads what many messages say alike: the last `count` short texts are not read again. Give
    nothing back that could be changed."""

    def remember(read: Callable[[str], T]) -> Callable[[str], T]:
        known = lru_cache(count)(read)
        return lambda text: known(text) if len(text) <= SHORT else read(text)

    return remember


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def read_int(text: str, limit: int) -> int:
    """A decimal number 0..limit; `isdecimal` alone would let other scripts' digits through."""
    if not (text.isdecimal() and text.isascii()) or len(text) > 10:
        raise Malformed(400, "not a number")
    if (number := int(text)) > limit:
        raise Malformed(400, "number out of range")
    return number


def split_outside(text: str, separator: str) -> list[str]:
    """Cuts at `separator` (`,` or `;`), but not inside quotes or angle brackets; pieces are stripped."""
    if text.count(separator) > MAX_VALUES:
        raise Malformed(400, "too many values")
    if '"' not in text and "<" not in text:
        return [*_commas(text)] if separator == "," else [piece.strip(" \t") for piece in text.split(separator)]
    pieces: list[str] = []
    start = 0
    quoted = bracketed = False
    for found in _MARKS.finditer(text):
        mark = found.group()
        if mark == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif mark == "<":
            bracketed = True
        elif mark == ">":
            bracketed = False
        elif mark == separator and not bracketed:
            pieces.append(text[start : found.start()].strip(" \t"))
            start = found.end()
    if quoted:
        raise Malformed(400, "unclosed quotes")
    pieces.append(text[start:].strip(" \t"))
    return pieces


@remembered(256)
def _commas(text: str) -> tuple[str, ...]:
    """Plain lists are the words of products (Allow, Supported): the same few, message after message."""
    return tuple([piece.strip(" \t") for piece in text.split(",")])


def split_list(text: str) -> list[str]:
    """The values of a comma list; empty ones are refused (RFC 3261 7.3.1)."""
    values = split_outside(text, ",") if "," in text else [text]
    if "" in values:
        raise Malformed(400, "empty value in a list")
    return values


def read_params(text: str) -> dict[str, str]:
    """Reads `;name=value;flag`: names lower case, values as written, flags as "". A name said twice is refused."""
    params: dict[str, str] = {}
    pieces = split_outside(text, ";") if '"' in text else text.split(";")
    for piece in pieces:
        if not piece:
            continue  # ";;" and what stands before the first ";": phones send them
        name, _, value = piece.partition("=")
        name = name.strip(" \t").lower()
        if name in params or not name:
            if not (name or value):
                continue  # spaces alone
            raise Malformed(400, "parameter given twice, or without a name")
        params[name] = value.strip(" \t")
    return params


def write_params(params: dict[str, str]) -> str:
    return "".join([f";{name}={value}" if value else f";{name}" for name, value in params.items()])


def read_tag(params: dict[str, str], name: str) -> str:
    """An identifier parameter (tag, branch) held to its bound; "" when absent."""
    value = params.get(name)
    if value is None:
        return ""
    if not (value.isalnum() and len(value) <= MAX_TOKEN) and _IDENTIFIER.fullmatch(value) is None:
        raise Malformed(400, "unreadable identifier")
    return value


def unquote(text: str) -> str:
    """The inside of a quoted string with its backslash escapes taken away."""
    return re.sub(r"\\(.)", r"\1", text) if "\\" in text else text
