"""Idempotency-Key: the same key and the same request get the same answer for 24 hours, however often they come.

One value in Redis per (tenant, key), under a hash of the key, since a key may be anything its sender likes:

    "?" token fingerprint            claimed: the request is under way (lapses after 12 s, should its process die)
    "=" token fingerprint answer     settled: the answer, sealed (a session's has its PINs), kept 24 h

A request is given up after 10 s, so a claim always outlives its request. The fingerprint of a request is a keyed hash:
a plain one of a body with two phone numbers could be guessed. The token of a claim is made from the same
things, so a retry after a crash carries the same token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from masking.api.operations import Answer
from masking.api.problems import Declined
from masking.house import House
from pools.redis import Script

CLAIMED, SETTLED = b"?", b"="
CLAIM_MS = 12_000
KEEP_MS = 24 * 3600 * 1000
LONGEST_KEY = 255
NONCE = 12
HASH = 16  # bytes of a token and of a fingerprint


def _script(name: str) -> Script:
    return Script(name, files("masking.api").joinpath("scripts", f"{name}.lua").read_text(encoding="utf-8"))


CLAIM, SETTLE = _script("claim"), _script("settle")


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept."""

    status: int
    headers: dict[str, str]
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """A claim of ours on (tenant, key): settle it with the answer, or release it."""

    place: str
    claim: bytes
    token: str


class Idempotency:
    """The keys of all tenants, on one Redis."""

    def __init__(self, house: House) -> None:
        self._redis = house.redis
        self._secret = house.keyring.derived("idempotency")
        self._random = house.random
        self._seal = AESGCM(house.keyring.derived("idempotent answers"))

    async def claim(self, tenant: str, key: str, request: bytes) -> Held | Answer:
        """A fresh claim, or the answer this request had before.

        `Declined`: `idempotency_conflict` when the key was another request's, `idempotency_in_flight` while the same
        one is under way, `invalid_parameter` for a key that is none. `Unavailable` when Redis cannot tell.
        """
        if not 0 < len(key) <= LONGEST_KEY:
            raise Declined("invalid_parameter", f"Idempotency-Key: expected 1..{LONGEST_KEY} characters.")
        place = f"i:{tenant}:{self._hash(b'place', tenant.encode(), key.encode()).hex()}"
        fingerprint = self._hash(b"request", request)
        token = self._hash(b"token", place.encode(), fingerprint)
        ours = token + fingerprint
        found: bytes | None = await self._redis.script(CLAIM, [place], [CLAIMED + ours, CLAIM_MS])
        if found is None:
            return Held(place, CLAIMED + ours, token.hex())
        if found[1 + HASH : 1 + 2 * HASH] != fingerprint:
            raise Declined("idempotency_conflict", "This Idempotency-Key was used for another request; use a new one.")
        if found[:1] == CLAIMED:
            raise Declined(
                "idempotency_in_flight", "The same request is under way; ask again.", extra={"retry_after": 1}
            )
        sealed = found[1 + 2 * HASH :]
        opened = self._seal.decrypt(sealed[:NONCE], sealed[NONCE:], place.encode())
        kept = msgspec.msgpack.decode(opened, type=Kept)
        return Answer(kept.status, kept.body, kept.headers | {"Idempotency-Replayed": "true"}, kept.media_type)

    async def settle(self, held: Held, answer: Answer) -> None:
        """Keeps the answer (its body already encoded) for every retry to come."""
        assert isinstance(answer.body, bytes)
        kept = Kept(answer.status, dict(answer.headers), answer.media_type, answer.body)
        nonce = self._random(NONCE)
        sealed = nonce + self._seal.encrypt(nonce, msgspec.msgpack.encode(kept), held.place.encode())
        settled = SETTLED + held.claim[1:] + sealed
        await self._redis.script(SETTLE, [held.place], [held.claim, settled, KEEP_MS])

    async def release(self, held: Held) -> None:
        """Lets the key be used again: the request came to nothing."""
        await self._redis.script(SETTLE, [held.place], [held.claim, b"", 0])

    def _hash(self, *parts: bytes) -> bytes:
        digest = hashlib.blake2b(digest_size=HASH, key=self._secret)
        for part in parts:
            digest.update(len(part).to_bytes(4))
            digest.update(part)
        return digest.digest()
