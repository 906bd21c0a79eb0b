"""What another edge needs to end a call whose own edge died.

It stands beside the live call in Redis as JSON: when the callee answered, by which trunk, and the two dialogs. A dialog
names people's numbers (From, To, the peer's Contact), so they are sealed: AES-256-GCM under a key derived from the
keyring, bound to the call.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from masking.house import House
from sipedge.sip.dialogs import Dialog

_NONCE: Final = 12
_PURPOSE: Final = "sip dialogs"
_dialogs = msgspec.msgpack.Decoder(list[Dialog])


class Snapshot(msgspec.Struct, kw_only=True):
    """A live call's facts. Before the answer only `tenant`, `trunk` and `at` are known, from `routes.claim`; no trunk
    of a call that the app asks for."""

    tenant: str
    trunk: str = ""
    at: float = 0.0
    answered_at: float | None = None
    recording: str | None = None
    dialogs: str = ""


_snapshots = msgspec.json.Decoder(Snapshot)


def write(house: House, call: str, snapshot: Snapshot, dialogs: Sequence[Dialog]) -> bytes:
    """The bytes `interactions.snapshot` keeps."""
    nonce = house.random(_NONCE)
    box = _key(house).encrypt(nonce, msgspec.msgpack.encode(dialogs), call.encode())
    sealed = base64.b64encode(nonce + box).decode()
    return msgspec.json.encode(msgspec.structs.replace(snapshot, dialogs=sealed))


def read(house: House, call: str, state: bytes) -> tuple[Snapshot, list[Dialog]] | None:
    """What was written; no dialogs where they do not open; None when it is not a snapshot at all."""
    try:
        snapshot = _snapshots.decode(state)
        box = base64.b64decode(snapshot.dialogs)
        dialogs = _dialogs.decode(_key(house).decrypt(box[:_NONCE], box[_NONCE:], call.encode())) if box else []
    except InvalidTag:
        return snapshot, []
    except ValueError:  # msgspec's decoding errors are such, and so are base64's
        return None
    return snapshot, dialogs


def _key(house: House) -> AESGCM:
    """Derived once a process."""
    key = house.seen.get(_PURPOSE)
    if key is None:
        key = house.seen[_PURPOSE] = AESGCM(house.keyring.derived(_PURPOSE))
    assert isinstance(key, AESGCM)
    return key
