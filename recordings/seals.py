"""Who can read a recording: its data key, sealed so that whoever writes it cannot read it back.

A recording has a data key of its own, 32 random bytes. The relay makes it, seals it with HPKE (RFC 9180, base mode:
X25519, HKDF-SHA256, AES-256-GCM) to its tenant's public key, and forgets it when the call ends; only the holder of the
tenant's private key opens it again. The seal names the tenant, the tenant's key and the recording, so a sealed key put
beside another recording does not open. What is encrypted under a data key has a key derived for that one purpose
(HKDF-SHA256, RFC 5869), which names the recording again.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class NotOpened(Exception):
    """A sealed key does not open with this private key for this recording: another's, or altered."""


class Lock(msgspec.Struct, frozen=True):
    """What data keys of a tenant are sealed to. `key` names the pair, `public` is its X25519 public key (32 bytes)."""

    tenant: str
    key: str
    public: bytes


class SealedKey(msgspec.Struct, frozen=True):
    """A data key as it is kept: `box` opens with the tenant's pair `key`."""

    key: str
    box: bytes


def seal(lock: Lock, recording: str, data_key: bytes) -> bytes:
    """The data key for the holder of the lock's private key: 80 bytes. ValueError when the lock has no usable key."""
    public = X25519PublicKey.from_public_bytes(lock.public)
    return _SUITE.encrypt(data_key, public, info=_place(lock.tenant, lock.key, recording))


def unseal(private: bytes, tenant: str, key: str, recording: str, box: bytes) -> bytes:
    """The data key in a seal. `private`: 32 bytes of the pair `key` of the tenant. `NotOpened`."""
    try:
        opener = X25519PrivateKey.from_private_bytes(private)
        return _SUITE.decrypt(box, opener, info=_place(tenant, key, recording))
    except (InvalidTag, ValueError):
        raise NotOpened(f"the data key of {recording} does not open") from None


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def cipher(data_key: bytes, recording: str, purpose: str, salt: bytes = b"") -> AESGCM:
    """What encrypts one file of the recording. No two files share purpose and salt, so each may count its nonces."""
    info = f"masking {purpose} {recording}".encode()
    return AESGCM(HKDF(SHA256(), KEY_SIZE, salt or None, info).derive(data_key))


def _place(tenant: str, key: str, recording: str) -> bytes:
    return f"masking data key {tenant} {key} {recording}".encode()
