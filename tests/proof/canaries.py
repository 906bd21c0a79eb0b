"""Words that can only have come from one phone, and the search for them in every spelling.

A word is the phone's bird and a number: `Mynahbird000017` says which of the caller's planted values it was.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from urllib.parse import quote

from tests.system.spellings import base32_core, base64_core

CALLER, CALLEE = "Mynahbird", "Siskinwing"
COUNT = itertools.count()  # no word is ever said twice: branches and Call-IDs are made of them
# An address and a port that each names of itself, of which nothing is anywhere.
ADDRESSES = {CALLER: ("192.0.2.77", "54321"), CALLEE: ("198.51.100.88", "43212")}


class Bird:
    """One phone's word: plants it and finds it again."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.address, self.port = ADDRESSES[word]
        self.planted: dict[str, str] = {}  # word and number → what it stands in
        text = word.encode()
        everywhere = "".join(f"%{byte:02x}" for byte in text).encode()
        self._lower = {
            "plain": text.lower(),
            "reversed": text[::-1].lower(),
            "hex": text.hex().encode(),
            "swapped hex": "".join(f"{byte:02x}"[::-1] for byte in text).encode(),
            "per cent": everywhere,
        }
        self._exact = {f"base64 +{n}": base64_core(text, n) for n in range(3)}
        self._exact |= {f"base32 +{n}": base32_core(text, n) for n in range(5)}
        self._exact |= {f"utf-16 +{n}": base64_core(text.decode().encode("utf-16-le"), n) for n in range(3)}

    def plant(self, what: str) -> str:
        """A new word of this bird for that place."""
        found = f"{self.word}{next(COUNT):06d}"
        self.planted[found] = what
        return found

    def found(self, data: bytes) -> list[str]:
        """What of it stands in `data`, spelled how, and where it was planted if the spelling tells."""
        squeezed = data.replace(b"\0", b"").replace(b"\r\n ", b"").lower()
        hits = [name for name, needle in self._lower.items() if needle in squeezed]
        hits += [name for name, needle in self._exact.items() if needle in data]
        if "plain" in hits:
            words = re.findall(rb"(?i)" + self.word.encode() + rb"\d{6}", data)
            hits += [self.planted.get(self.word + word[-6:].decode(), "?") for word in words]
        return hits


SPELLED: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "upper case": lambda word: word.upper().encode(),
    "reversed": lambda word: word[::-1].encode(),
    "hex": lambda word: word.encode().hex().encode(),
    "upper hex": lambda word: word.encode().hex().upper().encode(),
    "per cent": lambda word: "".join(f"%{byte:02X}" for byte in word.encode()).encode(),
    "quoted for a URL": lambda word: quote(f"<{word}>").encode(),
    "utf-16": lambda word: word.encode("utf-16-be"),
    "folded": lambda word: f"{word[:5]}\r\n {word[5:]}".encode(),
}
"""Ways a careless B2BUA could write a word; the search is tested with each."""
