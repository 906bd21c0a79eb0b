"""Bodies of several parts (RFC 2046 5.1, RFC 5621): the one part we speak is found, the rest is never read further.

What stands beside a session description is what a masking edge must not pass on anyway: an ISUP part with the calling
number (RFC 3204), a place (RFC 6442), a visiting card. So it is dropped, unless its sender says that it has to be
understood.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from sipedge.sip import grammar
from sipedge.sip.grammar import Malformed

MIXED: Final = "multipart/mixed"
SDP: Final = "application/sdp"
MAX_PARTS: Final = 16
MAX_PART_HEADERS: Final = 16
_BOUNDARY: Final = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")  # RFC 2046 5.1.1
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+*-]+[ \t]*/[ \t]*[a-z0-9!#$&^_.+*-]+")
_PLAIN: Final = frozenset({"", "7bit", "8bit", "binary"})


class Part(NamedTuple):
    """One part. `media`: its type, lower case, "" where it is coded in a way we do not undo; `disposition`: lower case,
    "" when it says none; `required`: its sender insists that it be understood."""

    media: str
    disposition: str
    required: bool
    body: bytes


def read_media_type(value: str) -> str:
    """`type/subtype` in lower case, parameters cut. Raises `Malformed`."""
    media = value.partition(";")[0].strip(" \t").lower()
    if _MEDIA_TYPE.fullmatch(media) is None:
        raise Malformed(400, "unreadable Content-Type")
    return media.replace(" ", "").replace("\t", "")


def read_disposition(value: str) -> tuple[str, str]:
    """A Content-Disposition: what the body is for, and its `handling` ("" when it says none), both lower case."""
    kind, semicolon, tail = value.partition(";")
    handling = grammar.read_params(semicolon + tail).get("handling", "")
    return kind.strip(" \t").lower(), handling.strip('"').lower()


def split(content_type: str, body: bytes) -> list[Part]:
    """The parts of a multipart body; `content_type` is the header as written. Raises `Malformed`."""
    _, semicolon, tail = content_type.partition(";")
    boundary = grammar.read_params(semicolon + tail).get("boundary", "").strip('"')
    if _BOUNDARY.fullmatch(boundary) is None:
        raise Malformed(400, "no boundary between the parts")
    # A delimiter is a whole line; the line end before it belongs to it, and not to the part (RFC 2046 5.1.1).
    mark = re.compile(rb"\r\n--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?=\r\n|$)")
    found = list(mark.finditer(b"\r\n" + body))
    if not found or found[-1][1] is None:
        raise Malformed(400, "parts without an end")
    if len(found) > MAX_PARTS + 1:
        raise Malformed(400, "too many parts")
    text = b"\r\n" + body
    return [_part(text[one.end() + 2 : following.start()]) for one, following in zip(found, found[1:], strict=False)]


def _part(text: bytes) -> Part:
    """Reads a part's own headers (RFC 2045 3); one without any is text nobody here reads."""
    head, _, body = (b"\r\n" + text).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")[1:]
    if len(lines) > MAX_PART_HEADERS:
        raise Malformed(400, "too many headers in a part")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    media = read_media_type(headers.get("content-type", "text/plain"))
    plain = headers.get("content-transfer-encoding", "").lower() in _PLAIN and "content-encoding" not in headers
    disposition, handling = read_disposition(headers.get("content-disposition", ""))
    return Part(media if plain else "", disposition, handling == "required", body)


def description(parts: list[Part]) -> bytes:
    """The session description among the parts, b"" when there is none. One for an early session (RFC 3959) is another
    thing."""
    return next((one.body for one in parts if one.media == SDP and one.disposition in ("", "session")), b"")


def understood(parts: list[Part], accept: Collection[str]) -> bool:
    """Does every part that must be understood have a type we take?

    A part that says nothing about it need not: RFC 3261 20.11 would have us assume that it must, and refuse a call for
    a map we would not look at.
    """
    return all(one.media in accept for one in parts if one.required)
