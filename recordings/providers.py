"""Who keeps tenants' private keys: each is wrapped by a key provider, and unwrapped where a recording is opened.

`file`: AES-256-GCM under a key of the installation's own key file. Errors: `KeyRefused` when what was wrapped is not
what this provider wrapped for this place; `KeysAway` when the provider cannot be asked now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE: Final = "tenants' recording keys"
"""What a file provider's secret is derived for (`pools.keyring.Keyring.derived`)."""
NONCE: Final = 12


class KeyRefused(Exception):
    """A wrapped key does not open here: another installation's, another tenant's, or altered."""


class KeysAway(Exception):
    """The provider does not answer; it may later."""


class Provider(Protocol):
    """Wraps and unwraps private keys of 32 bytes; `place` names whose, and opens nothing else."""

    async def wrap(self, private: bytes, place: str) -> bytes: ...

    async def unwrap(self, wrapped: bytes, place: str) -> bytes: ...


class FileProvider:
    """`secret`: 32 bytes from the key file; `entropy(n)`: n random bytes."""

    def __init__(self, secret: bytes, entropy: Callable[[int], bytes]) -> None:
        self._box = AESGCM(secret)
        self._entropy = entropy

    async def wrap(self, private: bytes, place: str) -> bytes:
        nonce = self._entropy(NONCE)
        return nonce + self._box.encrypt(nonce, private, place.encode())

    async def unwrap(self, wrapped: bytes, place: str) -> bytes:
        try:
            return self._box.decrypt(wrapped[:NONCE], wrapped[NONCE:], place.encode())
        except (InvalidTag, ValueError):
            raise KeyRefused(f"the private key {place} does not open with this key file") from None
