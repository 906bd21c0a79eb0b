"""The keys of an installation: a blind index for looking numbers up, and seals for storing them.

Redis sees a person's number only as `index` (HMAC-SHA256 under a key that is not in Redis: a plain hash of a phone
number is reversed in a minute) and as `seal` (AES-256-GCM, with its place as associated data, so that a sealed value
copied elsewhere does not open). The file is JSON, mode 0600; losing it makes the data unreadable, on purpose.

`Keyring.load`, `create` and `open` touch a file: call them before the event loop runs, or in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pools.numbers import Number
from pools.redis import Redis

FINGERPRINT_KEY: Final = "keyring"
_NONCE: Final = 12
_INDEX: Final = 12
_BLOCK: Final = 64  # octets that SHA-256 takes at a time


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _text(raw: bytes) -> str:
    """Base64 in the URL-safe alphabet, at half of what the base64 module spends on few bytes."""
    return b2a_base64(raw, newline=False).translate(_URL_SAFE).decode()


class KeyringError(Exception):
    """The keys cannot be used; the message says why and shows neither a key nor a number."""


class WrongKey(KeyringError):
    """The data was made with another keyring, or a sealed value does not open with this one in this context."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The key file. `seals` maps a key id to its key; `current` is the id that seals, every other one still opens."""

    version: int
    index: bytes
    seals: dict[str, bytes]
    current: str


class Keyring:
    """Index and sealing keys of one installation."""

    def __init__(self, keys: _File, entropy: Callable[[int], bytes]) -> None:
        self._index = keys.index
        # HMAC's two hashes, each with its half of the key taken in already (RFC 2104 4): every call asks for an index.
        key = keys.index.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in key))
        self._outer = hashlib.sha256(bytes(octet ^ 0x5C for octet in key))
        self._current = keys.current
        self._seals = {name: AESGCM(key) for name, key in keys.seals.items()}
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"<Keyring {self.fingerprint}>"

    @classmethod
    def load(cls, path: Path | str, entropy: Callable[[int], bytes] = os.urandom) -> Self:
        """The keyring in the file. FileNotFoundError when there is none; KeyringError when it cannot be used."""
        path = Path(path)
        if path.stat().st_mode & 0o077:
            raise KeyringError(f"{path} can be read by others: chmod 600 it")
        try:
            keys = msgspec.json.decode(path.read_bytes(), type=_File)
            usable = keys.version == 1 and len(keys.index) == 32 and keys.current in keys.seals
            if not usable or any(len(key) != 32 for key in keys.seals.values()):
                raise ValueError("a key is missing or has the wrong length")
        except ValueError as why:  # msgspec's errors are ValueErrors and name the field, never its value
            raise KeyringError(f"{path} is not a key file of this program: {why}") from None
        return cls(keys, entropy)

    @classmethod
    def create(cls, path: Path | str, entropy: Callable[[int], bytes] = os.urandom) -> Self:
        """Makes a file of fresh keys, mode 0600, never seen half written; FileExistsError when there is one."""
        path = Path(path)
        keys = _File(version=1, index=entropy(32), seals={"k1": entropy(32)}, current="k1")
        draft = path.with_name(f".{path.name}.{entropy(6).hex()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        finally:
            draft.unlink()
        return cls(keys, entropy)

    @classmethod
    def open(cls, path: Path | str, entropy: Callable[[int], bytes] = os.urandom) -> Self:
        """The keyring in the file, made now when there is no file; safe when several processes start at once."""
        try:
            return cls.create(path, entropy)
        except FileExistsError:
            return cls.load(path, entropy)

    def index(self, number: Number) -> str:
        """The number's blind index: 16 URL-safe characters (96 bits), the same for the same number and keyring."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(number.reveal().encode())
        outer.update(inner.digest())
        return _text(outer.digest()[:_INDEX])

    def derived(self, purpose: str) -> bytes:
        """32 bytes for one purpose outside this room, say a keyed hash of requests; never any number's index."""
        return hmac.digest(self._index, b"derived " + purpose.encode(), "sha256")

    def seal(self, number: Number, context: str) -> str:
        """The number encrypted for one place, named by `context` (like ``ses_…|par_…``); it opens only there."""
        nonce = self._entropy(_NONCE)
        box = self._seals[self._current].encrypt(nonce, number.reveal().encode(), context.encode())
        return f"{self._current}.{_text(nonce + box)}"

    def unseal(self, sealed: str, context: str) -> Number:
        """The number in a seal. WrongKey when the key, the context or the seal is not the one it was made with."""
        name, _, text = sealed.partition(".")
        try:
            box = a2b_base64(text.replace("-", "+").replace("_", "/"))
            plain = self._seals[name].decrypt(box[:_NONCE], box[_NONCE:], context.encode())
        except (KeyError, ValueError, InvalidTag):
            raise WrongKey("a sealed number does not open with this keyring in this place") from None
        return Number.parse(plain.decode())

    @property
    def fingerprint(self) -> str:
        """Names the index key without telling it; the same after a new sealing key was added."""
        return hmac.digest(self._index, b"fingerprint", "sha256")[:8].hex()

    async def guard(self, redis: Redis) -> None:
        """Ties the data in Redis to this keyring at the first start; WrongKey when it was made with another one."""
        await redis.command("SET", FINGERPRINT_KEY, self.fingerprint, "NX")
        held = await redis.command("GET", FINGERPRINT_KEY)
        if held != self.fingerprint.encode():
            raise WrongKey(
                "the data in Redis was made with another key file; start with that one, or with an empty Redis"
            )
