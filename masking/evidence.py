"""The chain of evidence: what happened to recordings and who asked for them, each entry sealed to the one before.

The courier appends an entry for every event of `EVIDENT`, in the transaction that archives it. An entry's hash covers
its predecessor's, so a flip, a deletion or a reordering breaks the chain where it was made. Somebody who can write the
whole database could make a new chain: therefore its head is signed now and then (`evidence.checkpoint`, an event like
any other, which goes out by webhook) with a key that is not in the database, and a head that left the house stays
what it was.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from pools.keyring import Keyring

EVIDENT: Final = frozenset(
    {
        "recording.started",
        "recording.paused",
        "recording.resumed",
        "recording.stopped",
        "recording.available",
        "recording.failed",
        "recording.accessed",
        "recording.held",
        "recording.released",
        "recording.erased",
        "recording.shared",
        "dispute.opened",
        "dispute.approved",
        "dispute.closed",
        "session.searched",
        "recording.searched",
        "person.erased",
    }
)


class Entry(msgspec.Struct, frozen=True):
    """One link: place in the tenant's chain (from 1), the event it seals, and the hash, 64 hexadecimal digits."""

    seq: int
    event: str
    hash: str


class Checkpoint(msgspec.Struct, frozen=True):
    """A signed head: after `seq` entries the chain's hash was `hash`. `signature` and `key` (Ed25519) are base64."""

    seq: int
    hash: str
    signature: str
    key: str


def beginning(tenant: str) -> str:
    """What stands before a tenant's first entry."""
    return hashlib.sha256(f"masking evidence {tenant}".encode()).hexdigest()


def after(before: str, seq: int, event: str, body: str) -> Entry:
    """The entry of an event whose archived text is `body`, behind the hash `before`."""
    sealed = f"{before}\n{seq}\n{event}\n{hashlib.sha256(body.encode()).hexdigest()}"
    return Entry(seq, event, hashlib.sha256(sealed.encode()).hexdigest())


def sign(keyring: Keyring, tenant: str, seq: int, head: str) -> Checkpoint:
    """The head, signed with the installation's key for evidence."""
    key = Ed25519PrivateKey.from_private_bytes(keyring.derived("evidence"))
    signature = key.sign(_said(tenant, seq, head))
    public = key.public_key().public_bytes_raw()
    return Checkpoint(seq, head, base64.b64encode(signature).decode(), base64.b64encode(public).decode())


def is_signed(checkpoint: Checkpoint, tenant: str, key: str | None = None) -> bool:
    """True when the checkpoint's own key signed it, and that key is `key` (base64) where one is given."""
    if key is not None and checkpoint.key != key:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(checkpoint.key))
        public.verify(base64.b64decode(checkpoint.signature), _said(tenant, checkpoint.seq, checkpoint.hash))
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(keyring: Keyring) -> str:
    """The key that checkpoints are signed with, base64."""
    key = Ed25519PrivateKey.from_private_bytes(keyring.derived("evidence"))
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _said(tenant: str, seq: int, head: str) -> bytes:
    return f"masking evidence checkpoint\n{tenant}\n{seq}\n{head}".encode()
