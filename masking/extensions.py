"""Extensions: what a caller keys in where one number leads to many (AXE).

In a service of `number_model: extension` a session holds one X for each country its people dial in, whoever and however
many they are, and shares it with other sessions, of the same people too. Whoever dials it is asked for an extension:
(X, caller, extension) leads to a person, and to the pools caller and extension together are one party of the ask, so
that no X ever holds the same twice. An extension is no secret: without its caller's phone it opens nothing.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from masking.house import House

SHORTEST: Final = 3
LONGEST: Final = 4


def draw(house: House, people: Iterable[str], length: int) -> dict[str, str]:
    """An extension for each participant, no two alike."""
    found: dict[str, str] = {}
    for person in people:
        while (extension := f"{int.from_bytes(house.random(8)) % 10**length:0{length}}") in found.values():
            continue
        found[person] = extension
    return found


def dials(house: House, caller: str, extension: str | None) -> str:
    """Who dials: the caller alone where no extension is keyed."""
    return caller if extension is None else party(house, caller, extension)


def party(house: House, caller: str, extension: str) -> str:
    """Who keys it from that phone (`caller`, its blind index), to the pools."""
    digest = hmac.digest(house.keyring.derived("extensions"), f"{caller} {extension}".encode(), "sha256")
    return f"e.{base64.urlsafe_b64encode(digest[:12]).decode()}"
