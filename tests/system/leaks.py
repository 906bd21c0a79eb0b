"""The leak scanner: is a person's number, in any spelling, in these bytes?

Every artefact of a run goes through `Scanner`: logs, the Redis dump and its files, the archive, recordings' names,
metrics, HTTP answers, a process's environment, and the packets of the run (`tests.system.pcap`). What looks like a
number in separators, escapes, an encoding, packed decimal, an integer or an unsalted hash is a hit. A hit names
person, spelling, place and offset, never the number, so that a report may be pasted anywhere.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.system.spellings import Canary, Found, digests, in_raw_bytes, in_squeezed_text

SEPARATORS = b"\0\t\r\n -.()/_+"
HEX_RUN = re.compile(rb"[0-9a-f]{16,}")
BASE64_RUN = re.compile(rb"[A-Za-z0-9+/]{16,}")
# One digit in JSON or C escapes, per cent or HTML entities.
ESCAPED_DIGIT = re.compile(
    rb"\\u003([0-9])|\\x3([0-9])|%3([0-9])|&#x3([0-9]);|&#(4[89]|5[0-7]);|\\06([0-7])|\\07([01])"
)
ESCAPED_SEPARATOR = re.compile(rb"%2[0-9A-Fa-f]|%5[Ff]|&nbsp;|\\u00[2a]0|\xc2\xa0|\xe2\x80[\x8b-\x93]")
URLSAFE = bytes.maketrans(b"-_", b"+/")
GZIP, ZLIB = b"\x1f\x8b\x08", (b"\x78\x01", b"\x78\x9c", b"\x78\xda")
BETWEEN = b"\xff|\xff"  # stands between parts that are scanned at once: no spelling reads across it
INFLATED_AT_MOST = 64 << 20


class Hit(NamedTuple):
    """A person's number where it may not be."""

    person: str
    spelling: str
    where: str
    offset: int


class Scanner:
    """Looks for the numbers of `people` (name → E.164); tests plant a canary range that nobody else uses."""

    def __init__(self, people: dict[str, str]) -> None:
        canaries = [Canary(person, e164) for person, e164 in people.items()]
        self.people = dict(people)
        self._plain = in_squeezed_text(canaries)
        self._raw = in_raw_bytes(canaries)
        self._digests, self._hex, self._base64 = digests(canaries)

    def scan(self, data: bytes, where: str) -> list[Hit]:
        """Every number in `data`; offsets are into the view in which the spelling was found."""
        hits = [Hit(person, spelling, where, at) for person, spelling, at in self._search(data)]
        for name, inflated in inflations(data):
            hits += [Hit(p, f"{spelling} in {name}", where, at) for p, spelling, at in self._search(inflated)]
        return hits

    def _search(self, data: bytes) -> Iterator[tuple[str, str, int]]:
        squeezed = data.translate(None, SEPARATORS)
        for view in (squeezed, unescaped(data)):
            for needles in self._plain if view else []:
                yield from ((person, needles.spelling, at) for at, person in needles.find(view))
        for needles in self._raw:
            yield from ((person, needles.spelling, at) for at, person in needles.find(data))
        yield from looked_up(self._digests, 8, data, 0)
        for runs, found, width, view in (
            (HEX_RUN, self._hex, 16, data.lower()),
            (BASE64_RUN, self._base64, 10, data.translate(URLSAFE)),
        ):
            for run in runs.finditer(view):
                yield from looked_up(found, width, run[0], run.start())

    def scan_tree(self, root: Path) -> list[Hit]:
        """Every file under `root`: its name and its bytes. Sockets and devices hold nothing to read."""
        hits: list[Hit] = []
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            hits += self.scan(name.encode(errors="surrogateescape"), f"name of {path.parent.name}/*")
            if path.is_file():
                hits += self.scan(path.read_bytes(), str(path))
        return hits

    def scan_texts(self, texts: Iterable[tuple[str, bytes]]) -> list[Hit]:
        """(where, bytes) pairs, as `redis_texts` and `process_texts` give them."""
        together: dict[str, list[bytes]] = {}
        for where, data in texts:
            together.setdefault(where, []).append(data)
        return [hit for where, parts in together.items() for hit in self.scan(BETWEEN.join(parts), where)]


def looked_up(known: Found, width: int, data: bytes, start: int) -> Iterator[tuple[str, str, int]]:
    """Each place where one of many keys of one width stands: with hundreds of them, dearer per byte but not per key."""
    for window in known.keys() & {data[at : at + width] for at in range(len(data) - width + 1)}:
        name, person = known[window]
        yield person, name, start + data.index(window)


def unescaped(data: bytes) -> bytes:
    """`data` with escaped digits plain and separators gone; empty when nothing in it is escaped."""
    if not ESCAPED_DIGIT.search(data) and not ESCAPED_SEPARATOR.search(data):
        return b""
    plain = ESCAPED_DIGIT.sub(digit_of, ESCAPED_SEPARATOR.sub(b"", data))
    return plain.translate(None, SEPARATORS)


def digit_of(escape: re.Match[bytes]) -> bytes:
    code = escape[escape.lastindex or 0]
    if escape.lastindex == 5:  # a decimal entity: 48..57
        return bytes([int(code)])
    if escape.lastindex == 7:  # octal \070 and \071
        return bytes([0x38 + int(code)])
    return code


def inflations(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What gzip and zlib streams in `data` hold. A false start inflates to nothing."""
    at = data.find(GZIP)
    while at >= 0:
        yield from inflated("gzip", data[at:], zlib.MAX_WBITS | 16)
        at = data.find(GZIP, at + 1)
    for magic in ZLIB:
        if data.startswith(magic):
            yield from inflated("zlib", data, zlib.MAX_WBITS)


def inflated(name: str, stream: bytes, bits: int) -> Iterator[tuple[str, bytes]]:
    try:
        yield name, zlib.decompressobj(bits).decompress(stream, INFLATED_AT_MOST)
    except zlib.error:
        return


def process_texts(pids: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """What any user of the machine may read of a process: command line and environment, its name included."""
    for pid in pids:
        for part in ("cmdline", "environ", "comm"):
            try:
                yield f"/proc/{pid}/{part}", Path(f"/proc/{pid}/{part}").read_bytes()
            except OSError:
                continue  # the process is gone, and its memory with it
