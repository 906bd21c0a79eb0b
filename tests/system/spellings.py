"""How a phone number can be written so that a careless reader does not see it.

A *needle* is a byte string that stands for one number in one spelling. Needles of one spelling are searched together:
numbers of a canary range share most of their digits, so one search for what they share (the anchor) finds candidates
for all of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import phonenumbers


@dataclass(frozen=True)
class Canary:
    """A person of a test and the number that nobody else may see."""

    person: str
    e164: str

    @property
    def nsn(self) -> str:
        """The national significant number: the part that every spelling has."""
        return str(phonenumbers.parse(self.e164).national_number)

    @property
    def national(self) -> str:
        number = phonenumbers.parse(self.e164)
        written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        return "".join(c for c in written if c.isdigit())

    def hashed_as(self) -> list[bytes]:
        """What an unsalted hash would be taken of."""
        return [text.encode() for text in (self.e164, self.e164[1:], self.national, self.nsn)]


@dataclass(frozen=True)
class Needles:
    """All numbers of one range in one spelling: `offset` says where the shared anchor stands in each needle."""

    spelling: str
    anchor: bytes
    offset: int
    people: dict[bytes, str]

    def find(self, data: bytes) -> Iterator[tuple[int, str]]:
        at = data.find(self.anchor)
        while at >= 0:
            start = at - self.offset
            for needle, person in self.people.items():
                if start >= 0 and data.startswith(needle, start):
                    yield start, person
            at = data.find(self.anchor, at + 1)


def together(spelling: str, people: dict[bytes, str], *, least: int = 3, skip: int = 0) -> list[Needles]:
    """One `Needles` for all where they share at least `least` bytes after `skip` or at the end, else one for each."""
    head = shared([needle[skip:] for needle in people])
    tail = shared([needle[::-1] for needle in people])[::-1]
    if len(head) >= max(least, len(tail)):
        return [Needles(spelling, head, skip, people)]
    if len(tail) >= least and len({len(needle) for needle in people}) == 1:
        return [Needles(spelling, tail, len(next(iter(people))) - len(tail), people)]
    return [Needles(spelling, needle, 0, {needle: person}) for needle, person in people.items()]


def shared(needles: list[bytes]) -> bytes:
    """The bytes that all begin with."""
    return needles[0][: next((n for n, column in enumerate(zip(*needles, strict=False)) if len(set(column)) > 1), None)]


def base64_core(text: bytes, shift: int) -> bytes:
    """The characters of base64 that depend on `text` alone, when `shift` bytes of something stand before it."""
    coded = base64.b64encode(b"\0" * shift + text)
    return coded[-(-shift * 8 // 6) : (shift + len(text)) * 8 // 6]


def base32_core(text: bytes, shift: int) -> bytes:
    coded = base64.b32encode(b"\0" * shift + text)
    return coded[-(-shift * 8 // 5) : (shift + len(text)) * 8 // 5]


def packed(digits: str, *, swapped: bool) -> bytes:
    """BCD (high nibble first) or TBCD (swapped, as telephony writes it) of an even count of hexadecimal digits."""
    pairs = [digits[i : i + 2] for i in range(0, len(digits), 2)]
    return bytes.fromhex("".join(pair[::-1] if swapped else pair for pair in pairs))


def packings(digits: str, late: bool) -> list[str]:
    """`digits` as whole bytes, from the start or (`late`) the middle of one, with any nibble for what is not ours."""
    starts = list("0123456789abcdef") if late else [""]
    ends = list("0123456789abcdef") if (len(digits) + late) % 2 else [""]
    return [start + digits + end for start in starts for end in ends]


def groups(canaries: Iterable[Canary]) -> list[list[Canary]]:
    """Canaries of one range (same length, same first four digits) together."""
    ranges: dict[tuple[int, str], list[Canary]] = {}
    for canary in canaries:
        ranges.setdefault((len(canary.nsn), canary.nsn[:4]), []).append(canary)
    return list(ranges.values())


def in_squeezed_text(canaries: list[Canary]) -> list[Needles]:
    """Searched after separators, white space and NUL are gone: a dashed, spaced or UTF-16 number is plain there."""
    found: list[Needles] = []

    def add(spelling: str, write: dict[bytes, str]) -> None:
        found.extend(together(spelling, write))

    for some in groups(canaries):
        add("digits", {c.nsn.encode(): c.person for c in some})
        add("reversed", {c.nsn[::-1].encode(): c.person for c in some})
        add("hex of text", {c.nsn.encode().hex().encode(): c.person for c in some})
        for shift in range(3):
            add(f"base64 +{shift}", {base64_core(c.nsn.encode(), shift): c.person for c in some})
            for order in ("le", "be"):
                utf16 = f"utf-16-{order}"
                add(f"base64 of {utf16} +{shift}", {base64_core(c.nsn.encode(utf16), shift): c.person for c in some})
        for shift in range(5):
            add(f"base32 +{shift}", {base32_core(c.nsn.encode(), shift): c.person for c in some})
        for late in (False, True):
            # As hexadecimal text plain BCD is the digits themselves; swapped nibbles are not.
            swapped = {packed(d, swapped=True).hex().encode(): c.person for c in some for d in packings(c.nsn, late)}
            found.extend(together("tbcd in hex", swapped, skip=2 * late))
    return found


def in_raw_bytes(canaries: list[Canary]) -> list[Needles]:
    """Binary spellings, searched in the bytes as they are."""
    found: list[Needles] = []
    for some in groups(canaries):
        for swapped, name in ((False, "bcd"), (True, "tbcd")):
            for late in (False, True):
                written = {packed(digits, swapped=swapped): c.person for c in some for digits in packings(c.nsn, late)}
                found.extend(together(name, written, least=2, skip=int(late)))
        for order in ("little", "big"):
            found.extend(together(f"{order}-endian integer", {as_int(c.e164[1:], order, 5): c.person for c in some}))
            wide = {as_int(c.nsn, order, 8): c.person for c in some}
            found.extend(together(f"{order}-endian integer", wide, least=5))
    return found


def as_int(digits: str, order: str, width: int) -> bytes:
    return int(digits).to_bytes(width, "little" if order == "little" else "big")


Found = dict[bytes, tuple[str, str]]
"""What is looked up instead of searched: the first bytes of an unsalted hash → its name and its person."""


def digests(canaries: Iterable[Canary]) -> tuple[Found, Found, Found]:
    """Unsalted hashes as 8 bytes, as 16 hexadecimal characters and as 10 of base64: hashes get cut short."""
    raw: Found = {}
    in_hex: Found = {}
    in_base64: Found = {}
    for c in canaries:
        for name in ("md5", "sha1", "sha256"):
            for text in c.hashed_as():
                digest = hashlib.new(name, text).digest()
                raw[digest[:8]] = name, c.person
                in_hex[digest.hex()[:16].encode()] = f"{name} in hex", c.person
                in_base64[base64.b64encode(digest)[:10]] = f"{name} in base64", c.person
    return raw, in_hex, in_base64
