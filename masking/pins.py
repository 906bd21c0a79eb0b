"""PINs: what a caller keys in where its phone number does not say enough.

Every way of a session (from, to) has a PIN of its own: whoever keys it over the way's X is `from`. To the pools a PIN
is one more party of the ask (`pools.grants.secret`), known by a keyed hash; so it is unique on its X for as long as a
person would be, and of one length only so many live there that a guess opens something once in 10,000 at most. When no
X has that room, the PIN gets longer.

A PIN stands in the session's record, sealed, and in the answers of the API. It is in no event, no list and no log.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta

from masking.refusals import Invalid
from pools.grants import secret

if TYPE_CHECKING:
    from masking.house import House

SHORTEST: Final = 6
LONGEST: Final = 10
KNOWN_PHONE: Final = 4  # digits that do where the caller's number says already whose PIN it must be
_NONCE: Final = 12

Way = tuple[str, str]  # (from, to), participant ids
Policy = Literal["none", "unknown_caller", "always"]


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who keys a PIN: nobody, callers whose number nobody is bound to (where the service's `out_of_session` is `pin`),
    or every caller. `retries`: how often a wrong one may be keyed again."""

    policy: Policy = "none"
    length: Annotated[int, Meta(ge=KNOWN_PHONE, le=LONGEST)] = 8
    retries: Annotated[int, Meta(ge=0, le=5)] = 2


NOBODY: Final = Pin()


class Keyed:
    """A PIN that a caller is to key. It does not print itself."""

    __slots__ = ("__pin",)

    def __init__(self, pin: str) -> None:
        self.__pin = pin

    def __repr__(self) -> str:
        return "<Keyed>"

    def opens(self, digits: str) -> bool:
        """Is it this PIN, or, from the phone it was given to, its first digits?"""
        return len(digits) >= KNOWN_PHONE and digits in (self.__pin, self.__pin[:KNOWN_PHONE])


def checked(pin: Pin | None) -> Pin:
    """What a session asks for; `Invalid` for a PIN too short for a phone that nobody knows."""
    pin = pin or NOBODY
    if pin.length < SHORTEST and pin.policy != "always":
        raise Invalid.field("pin.length", "is too short", f"{SHORTEST}..{LONGEST}; {KNOWN_PHONE} with policy always")
    if KNOWN_PHONE < pin.length < SHORTEST:
        raise Invalid.field("pin.length", "is too short", f"{KNOWN_PHONE}, or {SHORTEST}..{LONGEST}")
    return pin


def draw(house: House, ways: Iterable[Way], length: int) -> dict[Way, str]:
    """A PIN for each way, no two alike, nothing in them but chance."""
    found: dict[str, Way] = {}
    for way in ways:
        while True:
            pin = f"{int.from_bytes(house.random(16)) % 10**length:0{length}}"
            if found.setdefault(pin, way) == way:
                break
    return {way: pin for pin, way in found.items()}


def party(house: House, pin: str) -> str:
    """Who keys it, to the pools."""
    digest = hmac.digest(house.keyring.derived("pins"), pin.encode(), "sha256")
    return secret(len(pin), base64.urlsafe_b64encode(digest[:12]).decode())


def sealed(house: House, letters: str, pins: Mapping[Way, str]) -> bytes:
    """The PINs as the record of the session with these letters keeps them."""
    nonce = house.random(_NONCE)
    box = _key(house).encrypt(nonce, msgspec.msgpack.encode(list(pins.items())), letters.encode())
    return nonce + box


def unsealed(house: House, session: str, box: bytes) -> dict[Way, str]:
    """The PINs of a session, by way; none when it has none."""
    if not box:
        return {}
    opened = _key(house).decrypt(box[:_NONCE], box[_NONCE:], session[-22:].encode())
    return dict(msgspec.msgpack.decode(opened, type=list[tuple[Way, str]]))


def _key(house: House) -> AESGCM:
    return AESGCM(house.keyring.derived("sealed pins"))
